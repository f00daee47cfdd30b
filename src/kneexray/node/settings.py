"""What a node is told: where it listens, who may send, where results go, and what it puts up with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from kneexray.errors import ConfigError, choices
from kneexray.writers import WRITERS

FORMATS = tuple(name for name in WRITERS if name.startswith("dicom-"))
"""The output formats that can be sent to an archive."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where results are sent: by C-STORE to ``aet`` at ``host`` and ``port``, or by STOW-RS to ``url`` where that is given."""

    aet: str = ""
    host: str = ""
    port: int = 0
    url: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what ``text`` names: ``AET@host:port``, or the ``http(s)`` address of a DICOMweb service.

        Raises :class:`~kneexray.errors.ConfigError` for anything else, and for an address with a password in it.
        """
        if text.startswith(("http://", "https://")):
            parts = urlsplit(text)
            if parts.username or parts.password:
                raise ConfigError(f"--send-to: the address of {parts.hostname} holds a password; put it into ~/.netrc instead")
            return cls(url=text.rstrip("/"))
        aet, _, address = text.rpartition("@")
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(f"--send-to {text!r}: give AET@host:port (PACS@10.0.0.5:104) or the address of a DICOMweb service")
        return cls(checked_aet(aet, option="--send-to"), host.strip("[]"), int(port))

    def __str__(self) -> str:
        return self.url or f"{self.aet}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How a node works. Raises :class:`~kneexray.errors.ConfigError` for what cannot be.

    ``allow`` lists the AE titles that may send. ``spool`` is the node's own folder, for films, results and queue: it holds patients' names,
    and is made readable for its owner only. A study is graded once nothing has come for it in ``quiet`` seconds. Films and results stay
    in the spool for ``keep_days`` after the last of a film's results was sent. ``port`` 0 is any free one. Beyond ``most_a_minute``
    objects a sender gets the status "out of resources" and tries again later; within an object of more than ``most_bytes`` the
    association is aborted.
    """

    spool: Path
    archive: Archive
    allow: tuple[str, ...]
    aet: str = "KNEEXRAY"
    host: str = "127.0.0.1"
    port: int = 11112
    formats: tuple[str, ...] = ("dicom-sr", "dicom-sc")
    quiet: float = 10.0
    keep_days: float = 7.0
    most_bytes: int = 256 << 20
    most_a_minute: int = 240
    most_associations: int = 8

    def __post_init__(self) -> None:
        checked_aet(self.aet, option="--aet")
        if not self.allow:
            raise ConfigError("nobody may send to the DICOM node; name the AE titles that may: --allow PACS")
        for aet in self.allow:
            checked_aet(aet, option="--allow")
        for name in self.formats or ("",):
            if name not in FORMATS:
                raise ConfigError(choices("DICOM format", name, FORMATS))


def checked_aet(text: str, *, option: str) -> str:
    """Return ``text`` if it is an AE title (PS3.5 table 6.2-1); raises :class:`~kneexray.errors.ConfigError` that names the option."""
    if not re.fullmatch(r"(?=.*[^ ])[ -\[\]-~]{1,16}", text):
        raise ConfigError(f"{option}: {text!r} is no AE title; give 1 to 16 ASCII characters, none of them a backslash")
    return text
