"""DICOMweb STOW-RS (PS3.18 section 10.5): archives and modalities store films here to have them graded.

A film counts as stored once it was answered, refused by the gate or not; what was answered is kept as a visit, whose address is in the
header Link. Nothing can be retrieved here: the server is no archive.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool

from kneexray.errors import ReadError
from kneexray.read import Limits, Source
from kneexray.read.dicom_header import parse
from kneexray.read.sniff import SNIFF_BYTES, sniff
from kneexray.read.source import failing
from kneexray.web.problems import Problem, answers
from kneexray.web.settings import MEBIBYTE, Settings
from kneexray.web.uploads import too_many
from kneexray.web.visits import VisitFilm

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

router = APIRouter(prefix="/dicom-web", tags=["dicomweb"])
DICOM, DICOM_JSON = "application/dicom", "application/dicom+json"

PROCESSING_FAILURE, NOT_SUPPORTED, OUT_OF_RESOURCES, NOT_OF_THE_STUDY, NOT_UNDERSTOOD = 0x0110, 0x0122, 0xA700, 0xA900, 0xC000
FAILURES: MappingProxyType[str, int] = MappingProxyType(
    {
        "unsupported": NOT_SUPPORTED,
        "no_pixels": NOT_SUPPORTED,
        "too_large": OUT_OF_RESOURCES,
        "failed": PROCESSING_FAILURE,
        **dict.fromkeys(("empty", "not_an_image", "truncated", "corrupt"), NOT_UNDERSTOOD),
    }
)
"""The Failure Reason (0008,1197; PS3.18 annex I.2, PS3.4 annex B.2.3) of what could not be read. Every other refusal is an answer."""

_BODY = {
    "requestBody": {
        "required": True,
        "content": {'multipart/related; type="application/dicom"': {"schema": {"type": "string", "format": "binary"}}},
    }
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "All were stored", "content": {DICOM_JSON: {"schema": {"type": "object"}}}},
    202: {"description": "Some were stored", "content": {DICOM_JSON: {"schema": {"type": "object"}}}},
    409: {"description": "None was stored", "content": {DICOM_JSON: {"schema": {"type": "object"}}}},
    **answers(400, 401, 403, 406, 408, 413, 415, 422, 429, 503),
}


class Identity(NamedTuple):
    """The UIDs of an object, empty where it states none."""

    sop_class: str = ""
    sop_instance: str = ""
    study: str = ""


@router.post("/studies", openapi_extra=_BODY, responses=_RESPONSES, response_class=Response, summary="STOW-RS: grade DICOM films")
async def store(request: Request) -> Response:
    """Grade the parts of a ``multipart/related`` body of ``application/dicom``."""
    return await _store(request, study="")


@router.post(
    "/studies/{study}", openapi_extra=_BODY, responses=_RESPONSES, response_class=Response, summary="STOW-RS: grade films of one study"
)
async def store_study(request: Request, study: Annotated[str, Path(pattern=r"^[0-9.]{1,64}$")]) -> Response:
    """Grade the parts of a body as above; those of another study than ``study`` fail."""
    return await _store(request, study=study)


async def _store(request: Request, *, study: str) -> Response:
    accepted = request.headers.get("accept", "*/*")
    if not any(kind in accepted for kind in ("*/*", "application/*", DICOM_JSON, "application/json")):
        raise Problem(406, f"the answer comes as {DICOM_JSON} only", remedy=f"Send Accept: {DICOM_JSON}.")
    settings: Settings = request.app.state.settings
    with ExitStack() as opened:
        files = await _receive_parts(request, opened, settings=settings)
        visit = await request.app.state.grading.visit(_sources(files, limits=settings.limits))
    identities = [await run_in_threadpool(identity, film, limits=settings.limits) for film in visit.films]
    body, status = answer(visit.films, identities, study=study)
    return JSONResponse(body, status, media_type=DICOM_JSON, headers={"Link": f'</api/v1/visits/{visit.id}>; rel="related"'})


def answer(films: Sequence[VisitFilm], identities: Iterable[Identity], *, study: str) -> tuple[dict[str, Any], int]:
    """Return the Store Instances Response (PS3.18 section 10.5.3.1) in the DICOM JSON model, and its status."""
    stored, failed = [], []
    for film, who in zip(films, identities, strict=True):
        item = {"00081150": _uid(who.sop_class), "00081155": _uid(who.sop_instance)}
        reason = _failure(film, who, study=study)
        if reason is None:
            stored.append(item)
        else:
            failed.append({**item, "00081197": {"vr": "US", "Value": [reason]}})
    body: dict[str, Any] = {"00081190": {"vr": "UR"}}  # Retrieve URL: empty, since nothing can be retrieved
    for tag, items in (("00081198", failed), ("00081199", stored)):
        if items:
            body[tag] = {"vr": "SQ", "Value": items}
    return body, (200 if not failed else 202 if stored else 409)


def identity(film: VisitFilm, *, limits: Limits) -> Identity:
    """Return the UIDs that a film states."""
    try:
        header = parse(film.data, limits=limits).header
        return Identity(header.text("SOPClassUID"), header.text("SOPInstanceUID"), header.text("StudyInstanceUID"))
    except Exception:  # the parser meets damaged files with nearly anything; that the film is one was answered before
        return Identity()


def _failure(film: VisitFilm, who: Identity, *, study: str) -> int | None:
    if not film.result.predictions:
        for rejection in film.result.rejections:
            if rejection.reason in FAILURES:
                return FAILURES[rejection.reason]
    if not who.sop_instance:
        return NOT_UNDERSTOOD
    return NOT_OF_THE_STUDY if study and who.study != study else None


def _uid(value: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [value]} if value else {"vr": "UI"}


def _sources(files: Sequence[tempfile.SpooledTemporaryFile[bytes]], *, limits: Limits) -> Iterator[Source]:
    for number, file in enumerate(files, start=1):
        name = f"instance {number}"
        head = file.read(SNIFF_BYTES)
        file.seek(0)
        if sniff(head) == "DICOM":
            yield Source(name, file.read, limits)
        else:
            yield failing(name, ReadError("not_an_image", "the part is no DICOM object; send Part 10 files as they are"), limits)


async def _receive_parts(request: Request, opened: ExitStack, *, settings: Settings) -> list[tempfile.SpooledTemporaryFile[bytes]]:
    """Return the parts of the body as temporary files, which close with ``opened``."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    remedy = f'Send Content-Type: multipart/related; type="{DICOM}"; boundary=...'
    if kind != b"multipart/related" or options.get(b"type", DICOM.encode()).lower() != DICOM.encode():
        raise Problem(415, f"the body is no multipart/related of {DICOM}", remedy=remedy)
    if not options.get(b"boundary"):
        raise Problem(400, "the Content-Type names no boundary", remedy=remedy)
    parts = _Parts(opened, settings=settings)
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())
        async for chunk in request.stream():
            await run_in_threadpool(parser.write, chunk)
        parser.finalize()
    except FormParserError:
        raise Problem(400, "the body does not hold what its boundary says", remedy=remedy) from None
    if not parts.files or not parts.complete:
        raise Problem(400, "the body ends before its last boundary, or holds no part", remedy=remedy)
    return parts.files


class _Parts:
    """Takes what the parser finds."""

    def __init__(self, opened: ExitStack, *, settings: Settings) -> None:
        self.files: list[tempfile.SpooledTemporaryFile[bytes]] = []
        self.complete = False
        self._opened = opened
        self._settings = settings
        self._field = self._value = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._write,
            "on_part_end": self._rewind,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.files) >= self._settings.max_films:
            raise too_many(self._settings)
        file = tempfile.SpooledTemporaryFile[bytes](max_size=MEBIBYTE)
        self.files.append(self._opened.enter_context(file))

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        field, value = self._field.lower(), parse_options_header(self._value)[0]
        self._field = self._value = b""
        if field == b"content-type" and value != DICOM.encode():
            raise Problem(415, f"a part is not {DICOM}", remedy="Send Part 10 files as they are, nothing else.")

    def _write(self, data: bytes, start: int, end: int) -> None:
        self.files[-1].write(data[start:end])

    def _rewind(self) -> None:
        self.files[-1].seek(0)

    def _end(self) -> None:
        self.complete = True
