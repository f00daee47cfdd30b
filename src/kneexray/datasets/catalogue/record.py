"""What is known of a public data set, and how its files are brought and named: the record that every file of this folder fills."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from kneexray.types import Side

UNKNOWN = "unknown"
"""Stands for a fact that is not known here; it is never left out or guessed."""


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file that one URL gives. ``sha256`` is None where no trusted hash is known: what arrives is then recorded, not checked."""

    url: str
    name: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Kaggle:
    """A data set of kaggle.com, by ``owner/name``."""

    handle: str


@dataclass(frozen=True, slots=True)
class ByHand:
    """A data set that a person must bring: ``steps`` says how."""

    steps: str


@dataclass(frozen=True, slots=True)
class Redundant:
    """A folder that repeats others of the same data set: left out on import where ``beside`` lies next to it (always, if that is empty)."""

    folder: str
    reason: str
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file's name tells; empty where it does not."""

    patient_id: str = ""
    side: Side | Literal[""] = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One public data set: the facts, where they come from, and the traps.

    ``counts`` are images a class (or a split) as published, or :data:`UNKNOWN`. ``unverified`` lists what this card says on the word of
    others only, ``inherited`` what every model trained on it must tell its users. ``file_name`` matches the stem of the set's file names;
    its groups ``patient`` and ``side``, where it has them, are the patient and the knee. It is None where names are too plain to tell the
    set by.
    """

    name: str
    title: str
    task: str
    labels: str
    counts: str
    licence: str
    citation: str
    url: str
    size: str
    layout: str
    traps: tuple[str, ...]
    access: WebFile | Kaggle | ByHand
    unverified: tuple[str, ...] = ()
    inherited: tuple[str, ...] = ()
    redundant: tuple[Redundant, ...] = ()
    file_name: re.Pattern[str] | None = field(default=None)

    @property
    def sha256(self) -> str:
        """The hash of the download as checked, or :data:`UNKNOWN`."""
        return (self.access.sha256 if isinstance(self.access, WebFile) else None) or UNKNOWN

    def identify(self, stem: str) -> Identity | None:
        """Return the patient and side that a file name tells, or None where it is no name of this set."""
        match = self.file_name.match(stem) if self.file_name is not None else None
        if match is None:
            return None
        told = match.groupdict()
        side = told.get("side") or ""
        return Identity(told.get("patient") or "", "L" if side == "L" else "R" if side == "R" else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the card in plain JSON types."""
        facts = asdict(self, dict_factory=_without_pattern)
        return facts | {"sha256": self.sha256, "access": {"how": type(self.access).__name__.lower()} | asdict(self.access)}


def _without_pattern(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in items if not isinstance(value, re.Pattern) and key != "file_name"}
