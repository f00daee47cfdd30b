"""A file that is never half: it grows under a temporary name beside its place, and gets its own name when it is whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Self

from kneexray.errors import OutputError

_REMEDIES: MappingProxyType[int, str] = MappingProxyType(
    {
        errno.ENOSPC: "no space is left there (what was written before stays readable); free some, or choose another output folder",
        errno.EDQUOT: "your disk quota is used up (what was written before stays readable); free some, or choose another output folder",
        errno.EACCES: "you may not write there, or another program has it open; close that, or choose another output folder",
        errno.EPERM: "you may not write there; choose another output folder",
        errno.EROFS: "the file system is read-only; choose another output folder",
        errno.EEXIST: "a file is where a folder is meant; move it away, or choose another output folder",
        errno.ENOTDIR: "a file is where a folder is meant; move it away, or choose another output folder",
        errno.EISDIR: "a folder is where a file is meant; move it away, or choose another output folder",
        errno.ENAMETOOLONG: "the name is too long for the file system; choose an output folder with a shorter path",
    }
)


class OutputFile:
    """A text or binary file that appears under its name only when :meth:`finish` is called.

    Until then it is ``NAME.partial``. Each :meth:`write` goes straight to the system and arrives whole or not at all, so that
    the partial file of a killed run holds everything written before. As a context manager it lets go of the file, finished or not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        make_folder(path.parent)
        with output_errors(path):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._file = self.partial.open("w+b", buffering=0)
        self.size = 0  # bytes written

    def write(self, text: str | bytes) -> None:
        """Append a text as UTF-8, or bytes.

        A lone surrogate, by which Python carries a file name that is not UTF-8, is written as ``\\udcXX``.
        """
        data = memoryview(text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text)
        with output_errors(self.partial):
            try:
                written = 0
                while written < len(data):
                    written += self._file.write(data[written:])
            except OSError:
                with suppress(OSError):  # a device has no length; the first error is the one to tell
                    self._file.truncate(self.size)
                    self._file.seek(self.size)
                raise
        self.size += len(data)

    def chunks(self) -> Iterator[bytes]:
        """Yield what was written so far, from the beginning."""
        with output_errors(self.partial):
            self._file.seek(0)
            while chunk := self._file.read(1 << 20):
                yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def finish(self) -> None:
        """Give the file its own name, in place of any earlier one."""
        with output_errors(self.path):
            self._file.close()
            self.partial.replace(self.path)

    def discard(self) -> None:
        """Remove the file."""
        with output_errors(self.partial):
            self._file.close()
            self.partial.unlink(missing_ok=True)


def write_whole(path: Path | str, content: str | bytes) -> None:
    """Write ``content`` so that ``path`` holds all of it or is left as it was; raises :class:`~kneexray.errors.OutputError`."""
    with OutputFile(Path(path)) as file:
        try:
            file.write(content)
        except OutputError:
            file.discard()
            raise
        file.finish()


def make_folder(path: Path) -> None:
    """Make a folder and its parents; raises :class:`~kneexray.errors.OutputError` where that fails."""
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def sync(path: Path) -> None:
    """Have the system write a file or, where it has such a thing, a folder's list of files to the disk (fsync)."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def output_errors(path: Path | str) -> Iterator[None]:
    """Turn a system error into an :class:`~kneexray.errors.OutputError` that names ``path`` and the remedy."""
    try:
        yield
    except OSError as error:
        why = _REMEDIES.get(error.errno or 0, f"{error.strerror or error}; choose another output folder")
        raise OutputError(f"{path} cannot be written: {why}.") from error
