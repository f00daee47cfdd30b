"""Members of ZIP and TAR archives, one by one, without unpacking anything to a path that the archive names.

A member is read when it is asked for, under the archive's lock, so that threads may share an archive. Members of compressed
TARs are the exception: those can only be read in order, so each carries its bytes from the moment it is found.
"""

from __future__ import annotations

import io
import lzma
import stat
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import PureWindowsPath
from typing import IO, cast

from kneexray.errors import ReadError
from kneexray.read.limits import Limits
from kneexray.read.names import is_image_name, is_passed_over
from kneexray.read.sniff import ARCHIVES, SNIFF_BYTES, sniff
from kneexray.read.source import Source, failing

_IN_MEMORY = 64 << 20
_RATIO_FROM = 1 << 30
_MEMBER_RATIO_FROM = 64 << 20
_CHUNK = 1 << 20


class Budget:
    """What one archive, its nested archives included, may still unpack to."""

    def __init__(self, packed_bytes: int, limits: Limits) -> None:
        self._packed = max(packed_bytes, 1)
        self._unpacked = 0
        self._limits = limits

    def spend(self, size: int) -> None:
        """Count ``size`` bytes; raises :class:`ReadError` when it was too much."""
        self._unpacked += size
        ratio = self._unpacked / self._packed
        if self._unpacked > self._limits.max_total_bytes or (self._unpacked > _RATIO_FROM and ratio > self._limits.max_ratio):
            raise ReadError(
                "too_large",
                f"the archive unpacks to over {self._unpacked} bytes, {ratio:.0f} times its size; unpack it yourself to read the rest",
            )


class _Archive:
    """An open archive file and the lock that its readers share; closes when the last source that needs it is gone."""

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        self.file = file
        self.lock = threading.Lock()
        self.limits = limits
        weakref.finalize(self, file.close)


def members(file: IO[bytes], kind: str, *, name: str, limits: Limits, budget: Budget, depth: int = 1) -> Iterator[Source]:
    """Yield a source for each member of the archive ``file`` (of format ``kind``) that may be an image; takes over closing it.

    Unsafe members (leading outside, links, devices, encrypted, second ones of a name) are rejections, members that are plainly no
    images are left out, as in folders. What is wrong with the archive itself is the last rejection, under its own ``name``.
    """
    archive = _Archive(file, limits)
    found = _zip_members if kind == "ZIP" else partial(_tar_members, kind=kind)
    try:
        for member, load in found(archive, budget):
            source = f"{name}!/{member}"
            inner = None if isinstance(load, ReadError) or is_image_name(member) else sniff(load.head())
            if isinstance(load, ReadError):
                yield failing(source, load, limits)
            elif inner is None or inner not in ARCHIVES:
                yield Source(source, load, limits)
            elif depth >= limits.max_depth:
                yield failing(source, ReadError("unsafe_archive", f"archives are nested deeper than {depth}; unpack it yourself"), limits)
            else:
                yield from _nested(source, load, inner, limits=limits, budget=budget, depth=depth)
    except ReadError as error:
        yield failing(name, error, limits)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, NotImplementedError) as error:
        yield failing(name, _explained(error, f"{kind} archive"), limits)


class Loader:
    """Fetches one member of ``size`` bytes, whole or into a file; ``opened`` returns it as a file."""

    def __init__(self, archive: _Archive, opened: Callable[[], IO[bytes] | None], size: int) -> None:
        self._archive = archive
        self._opened = opened
        self._size = size

    def __call__(self) -> bytes:
        """Return the member's bytes; raises :class:`ReadError` where that fails or is too much."""
        self._check_size(self._archive.limits.max_bytes, "max_bytes")
        return b"".join(self._chunks(self._size))

    def head(self) -> bytes:
        """Return the first bytes, for :func:`sniff`; empty where they cannot be read."""
        try:
            with closing(self._chunks(SNIFF_BYTES)) as chunks:  # a suspended reader would keep the lock
                return next(chunks, b"")
        except ReadError:
            return b""

    def spool(self) -> IO[bytes]:
        """Return a temporary file that holds the member; raises :class:`ReadError` where that fails or is too much."""
        self._check_size(self._archive.limits.max_nested_bytes, "max_nested_bytes")
        spooled = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed with its archive
        try:
            for chunk in self._chunks(_CHUNK):
                spooled.write(chunk)
        except OSError as error:
            spooled.close()
            raise ReadError("failed", f"the archive in the archive cannot be unpacked ({error.strerror}); unpack it yourself") from error
        except BaseException:
            spooled.close()
            raise
        spooled.seek(0)
        return cast("IO[bytes]", spooled)

    def _check_size(self, limit: int, name: str) -> None:
        if self._size > limit:
            raise ReadError("too_large", f"the member unpacks to {self._size} bytes, and {limit} are allowed; raise {name}")

    def _chunks(self, size: int) -> Generator[bytes, None, None]:
        """Yield at most the declared number of bytes, in chunks of ``size``."""
        with self._archive.lock:
            try:
                opened = self._opened()
                if opened is None:
                    return
                with opened:
                    left = self._size
                    while left > 0 and (chunk := opened.read(min(size, left))):
                        left -= len(chunk)
                        yield chunk
                    if left == 0:
                        opened.read(1)  # lets zipfile check the CRC of an empty rest
            except Exception as error:  # zlib.error, BadZipFile, TarError, LZMAError, EOFError, RuntimeError, ...
                raise _explained(error, "member") from error


Member = tuple[str, Loader | ReadError]


def _nested(name: str, load: Loader, kind: str, *, limits: Limits, budget: Budget, depth: int) -> Iterator[Source]:
    try:
        spooled = load.spool()
    except ReadError as error:
        yield failing(name, error, limits)
        return
    yield from members(spooled, kind, name=name, limits=limits, budget=budget, depth=depth + 1)


def _zip_members(archive: _Archive, budget: Budget) -> Iterator[Member]:
    unzip = zipfile.ZipFile(archive.file)
    for info in unzip.infolist():
        if info.is_dir():
            continue
        problem = _unsafe_name(info.filename)
        if stat.S_ISLNK(info.external_attr >> 16):
            problem = ReadError("unsafe_archive", "the member is a symbolic link; pack the file itself")
        if problem is None and is_passed_over(info.filename):
            continue
        problem = problem or _unsafe_zip_entry(unzip, info, archive.limits)
        if problem is not None:
            yield info.filename, problem
            continue
        budget.spend(info.file_size)
        yield info.filename, Loader(archive, partial(unzip.open, info), info.file_size)


def _unsafe_zip_entry(unzip: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits) -> ReadError | None:
    if info.flag_bits & 0x1:
        return ReadError("unsafe_archive", "the member is encrypted; decrypt the archive first")
    if unzip.getinfo(info.filename) is not info:
        return ReadError("unsafe_archive", "a later member of the archive has the same name and is read instead; rename one")
    if info.file_size > _MEMBER_RATIO_FROM and info.file_size > limits.max_ratio * max(info.compress_size, 1):
        return ReadError(
            "unsafe_archive", f"the member unpacks {info.compress_size} bytes to {info.file_size}, like a bomb; unpack it yourself"
        )
    return None


def _tar_members(archive: _Archive, budget: Budget, *, kind: str) -> Iterator[Member]:
    streamed = kind != "TAR"
    try:
        tar = tarfile.open(fileobj=archive.file, mode="r|*" if streamed else "r:")  # noqa: SIM115 - lives as long as its sources
    except tarfile.ReadError as error:
        if streamed:
            raise ReadError("unsupported", f"the {kind} file holds no TAR archive; unpack it") from error
        raise
    while True:
        with archive.lock:
            info = tar.next()
        if info is None:
            return
        tar.members = []  # type: ignore[attr-defined]  # or the list would grow with the archive
        if info.isdir():
            continue
        budget.spend(info.size)
        problem = _unsafe_name(info.name)
        if not info.isreg():
            what = "link" if info.issym() or info.islnk() else "device or pipe"
            problem = ReadError("unsafe_archive", f"the member is a {what}; pack the file itself")
        if problem is not None:
            yield info.name, problem
        elif not is_passed_over(info.name):
            opened: Callable[[], IO[bytes] | None] = partial(tar.extractfile, info)
            if streamed:
                opened = partial(io.BytesIO, _now(opened, info.size if info.size <= archive.limits.max_bytes else 0))
            yield info.name, Loader(archive, opened, info.size)


def _now(opened: Callable[[], IO[bytes] | None], size: int) -> bytes:
    """Return ``size`` bytes of a member that the stream has just reached."""
    member = opened()
    return member.read(size) if member is not None and size else b""


def _unsafe_name(name: str) -> ReadError | None:
    """Return the refusal of a name that leads out of the archive, on any system, or that would garble a report."""
    windows = PureWindowsPath(name)
    if windows.drive or windows.root or ".." in windows.parts or any(ord(character) < 32 for character in name):
        return ReadError(
            "unsafe_archive", "the member's name leads out of the archive or holds control characters; pack it under a plain name"
        )
    return None


def _explained(error: Exception, what: str) -> ReadError:
    """Return what an error of the archive libraries means for the person who gave the archive."""
    if isinstance(error, ReadError):
        return error
    if isinstance(error, NotImplementedError):
        return ReadError("unsupported", f"the {what} is packed in a way that is not read ({error}); pack it as deflated ZIP")
    said = str(error) or type(error).__name__
    if isinstance(error, EOFError) or "end of data" in said or "ended before" in said or "truncated" in said:
        return ReadError("truncated", f"the {what} ends too early ({said}); copy or download it again")
    return ReadError("corrupt", f"the {what} cannot be unpacked ({said}); copy or download it again")
