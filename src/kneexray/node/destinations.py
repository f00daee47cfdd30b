"""Two ways to hand an object to an archive: C-STORE, and STOW-RS. Both send a file's bytes as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from uuid import uuid4

import requests
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from kneexray.node.queue import Result
from kneexray.node.settings import Archive

TIMEOUT = 60.0
"""Seconds that an archive has for an answer."""
_DUPLICATE = 0x0111  # PS3.7 annex C.5.2: the archive has an object of that UID
_WARNINGS = range(0xB000, 0xC000)  # PS3.4 B.2.3: stored, with a remark
_REFUSALS = (*range(0xA900, 0xAA00), *range(0xC000, 0xD000), 0x0122, 0x0124)  # the object will be no better tomorrow; all else may pass

_FAILED_SOP_SEQUENCE = "00081198"


class Outcome(Enum):
    """What became of an object: stored; not wanted, for a reason that lies in the object; not now."""

    STORED = auto()
    REFUSED = auto()
    AWAY = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """What an archive said to one object; ``detail`` names no patient."""

    result: Result
    outcome: Outcome
    detail: str = ""


class StoreArchive:
    """An archive reached by C-STORE (PS3.4 annex B) from the AE title ``aet``."""

    def __init__(self, archive: Archive, *, aet: str) -> None:
        self._archive = archive
        self._aet = aet

    def send(self, results: Sequence[Result], spool: Path) -> Iterator[Answer]:
        """Yield the answer to each of ``results``, whose files lie in ``spool``, in order and as soon as it is there.

        None for those behind an object with which the connection broke.
        """
        entity = AE(self._aet)
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT
        for sop_class in dict.fromkeys(result.sop_class for result in results):
            # Two contexts, so that an archive which knows both accepts both, and the file goes out without being encoded anew.
            entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
            entity.add_requested_context(sop_class, ImplicitVRLittleEndian)
        archive = self._archive
        association = entity.associate(archive.host, archive.port, ae_title=archive.aet)
        try:
            for result in results:
                if not association.is_established:
                    yield Answer(result, Outcome.AWAY, "no association: it does not answer, or does not know this node's AE title")
                elif result.sop_class not in {context.abstract_syntax for context in association.accepted_contexts}:
                    yield Answer(result, Outcome.REFUSED, "it accepts no objects of that SOP class")
                else:
                    status = association.send_c_store(spool / result.file).get("Status")
                    yield _by_status(result, status)
                    if status is None:  # perhaps because of this object: the others get an association without it
                        return
        finally:
            if association.is_established:
                association.release()


class StowArchive:
    """An archive reached by STOW-RS (PS3.18 section 10.5), one object a request. Credentials come from ``~/.netrc``."""

    def __init__(self, archive: Archive) -> None:
        self._url = f"{archive.url}/studies"

    def send(self, results: Sequence[Result], spool: Path) -> Iterator[Answer]:
        """Yield the answer to each of ``results``, whose files lie in ``spool``, in order and as soon as it is there."""
        with requests.Session() as session:
            for number, result in enumerate(results):
                try:
                    yield _by_response(result, self._store(session, (spool / result.file).read_bytes()))
                except requests.RequestException as error:  # its text names the host only, but that of an attempt is long
                    yield from (Answer(one, Outcome.AWAY, type(error).__name__) for one in results[number:])
                    return

    def _store(self, session: requests.Session, data: bytes) -> requests.Response:
        """Return the response to a request to store one object."""
        boundary = uuid4().hex
        body = b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n--%b--\r\n" % (boundary.encode(), data, boundary.encode())
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": "application/dicom+json",
        }
        return session.post(self._url, data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False)


def open_archive(archive: Archive, *, aet: str) -> StoreArchive | StowArchive:
    """Return the way to ``archive``, for a node called ``aet``."""
    return StowArchive(archive) if archive.url else StoreArchive(archive, aet=aet)


def _by_status(result: Result, status: int | None) -> Answer:
    if status is None:
        return Answer(result, Outcome.AWAY, "the connection broke or timed out")
    if status in (0, _DUPLICATE) or status in _WARNINGS:
        return Answer(result, Outcome.STORED)
    return Answer(result, Outcome.REFUSED if status in _REFUSALS else Outcome.AWAY, f"C-STORE status 0x{status:04X}")


def _by_response(result: Result, response: requests.Response) -> Answer:
    """Go by the status (PS3.18 table 10.5.3-1) and by the Failed SOP Sequence, which some archives send with a status of success."""
    status = response.status_code
    failed = _names_failures(response)
    if status in (200, 202) and not failed:
        return Answer(result, Outcome.STORED)
    refused = failed or status in (400, 409, 413, 415, 422)
    return Answer(result, Outcome.REFUSED if refused else Outcome.AWAY, f"HTTP status {status}")


def _names_failures(response: requests.Response) -> bool:
    try:
        answer = response.json()
    except ValueError:
        return False
    return isinstance(answer, dict) and bool(answer.get(_FAILED_SOP_SEQUENCE, {}).get("Value"))
