"""What a client sent: files in a form, each a film or an archive of films. No name from a client becomes a path."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import IO, cast

from fastapi import Request, UploadFile
from starlette.datastructures import UploadFile as StarletteUploadFile
from starlette.exceptions import HTTPException

from kneexray.errors import ReadError
from kneexray.read import Limits, Source
from kneexray.read.archives import Budget, members
from kneexray.read.sniff import ARCHIVES, SNIFF_BYTES, sniff
from kneexray.read.source import failing
from kneexray.web.problems import Problem
from kneexray.web.settings import MEBIBYTE, Settings

FIELD = "files"
MOST_ENTRIES = 20_000
"""In a ZIP: its whole table of contents is held in memory, at many times the size that it has in the file."""
_LONGEST_NAME = 200


async def receive_files(request: Request) -> list[UploadFile]:
    """Return the files of a form; the caller closes them. Raises :class:`Problem` where there are none, or too many."""
    settings: Settings = request.app.state.settings
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Problem(415, "the body is no multipart/form-data", remedy=f"Send the films as files in the field '{FIELD}' of a form.")
    try:
        form = await request.form(max_files=settings.max_films, max_fields=16)
    except HTTPException as error:
        if str(error.detail).startswith("Too many files"):
            raise too_many(settings) from None
        raise
    files = [item for item in form.getlist(FIELD) if isinstance(item, StarletteUploadFile)]
    if not files:
        await form.close()
        raise Problem(422, f"the form holds no file in the field '{FIELD}'", remedy=f"Send at least one film in the field '{FIELD}'.")
    return cast("list[UploadFile]", files)


def too_many(settings: Settings) -> Problem:
    """Return the refusal of a request with more files than are taken at once."""
    return Problem(413, f"the request holds more than {settings.max_films} files", remedy="Send the rest in further requests.")


def films(files: Sequence[UploadFile], *, settings: Settings) -> Iterator[Source]:
    """Yield a source for each film in ``files`` and in the archives among them, at most ``settings.max_films``."""
    limits, count = settings.limits, 0
    for number, file in enumerate(files, start=1):
        for source in _opened(file.file, name=plain_name(file.filename or f"film {number}"), limits=limits):
            count += 1
            if count > settings.max_films:
                detail = f"more than {settings.max_films} films came at once; send the rest in further requests"
                yield failing(plain_name(source.name), ReadError("too_large", detail), limits)
                return
            yield Source(plain_name(source.name), source.load, limits)


async def close(files: Sequence[UploadFile]) -> None:
    """Let go of the files."""
    for file in files:
        await file.close()


def is_archive(file: UploadFile) -> bool:
    """Say whether a file may hold several films."""
    return _kind(file.file) == "ZIP"


def content_hash(files: Sequence[UploadFile]) -> str:
    """Return the SHA-256 of a file; of several, that of their digests one after the other."""
    digests = []
    for file in files:
        file.file.seek(0)
        digests.append(hashlib.file_digest(cast("io.BufferedIOBase", file.file), "sha256").hexdigest())
        file.file.seek(0)
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def plain_name(name: str) -> str:
    """Return the client's name of a film for display: its last part (of an archive's member, with the archive), printable, short."""
    archive, separator, member = name.partition("!/")
    last = re.split(r"[/\\]", archive)[-1]
    printable = "".join(character for character in f"{last}{separator}{member}" if character.isprintable())
    return printable.strip()[-_LONGEST_NAME:] or "film"


def _opened(file: IO[bytes], *, name: str, limits: Limits) -> Iterator[Source]:
    kind = _kind(file)
    if kind == "ZIP":
        yield from _unpacked(file, name=name, limits=limits)
    elif kind in ARCHIVES:
        yield failing(name, ReadError("unsupported", f"the file is a {kind} archive; send the films themselves, or a ZIP of them"), limits)
    else:
        yield Source(name, file.read, limits)


def _unpacked(file: IO[bytes], *, name: str, limits: Limits) -> Iterator[Source]:
    entries = _count(file, b"PK\x01\x02")
    if entries > MOST_ENTRIES:
        detail = f"the ZIP archive lists about {entries} members, and {MOST_ENTRIES} are read; send the films in smaller archives"
        yield failing(name, ReadError("too_large", detail), limits)
        return
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    empty = True
    for source in members(file, "ZIP", name=name, limits=limits, budget=Budget(size, limits)):
        empty = False
        yield source
    if empty:
        yield failing(name, ReadError("not_found", "the ZIP archive holds no image; check what was packed"), limits)


def _kind(file: IO[bytes]) -> str | None:
    kind = sniff(file.read(SNIFF_BYTES))
    file.seek(0)
    return kind


def _count(file: IO[bytes], signature: bytes) -> int:
    """Return how often ``signature`` occurs."""
    count, end = 0, b""
    while chunk := file.read(MEBIBYTE):
        count += (end + chunk).count(signature)
        end = chunk[1 - len(signature) :]
    return count
