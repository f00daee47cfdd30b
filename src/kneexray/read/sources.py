"""From what a person names (files, folders, globs, archives) to single films, one by one."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kneexray.errors import ReadError
from kneexray.read.archives import Budget, members
from kneexray.read.dicomdir import directory_files
from kneexray.read.limits import DEFAULT_LIMITS, Limits
from kneexray.read.names import is_hidden, is_image_name, is_passed_over
from kneexray.read.reader import explain_os_error, load_file
from kneexray.read.sniff import ARCHIVES, SNIFF_BYTES, sniff
from kneexray.read.source import Source, failing


def find_sources(
    paths: str | Path | Iterable[str | Path], *, limits: Limits = DEFAULT_LIMITS, without: Path | None = None
) -> Iterator[Source]:
    """Yield a :class:`Source` for each film that ``paths`` name, lazily and in a fixed order; nothing is decoded.

    A path is a file, a folder (searched with its sub-folders, by name), an archive (ZIP, TAR, compressed TAR; archives within
    too) or a glob (``**`` for any depth). Files and archives that were named are always answered, with a rejection if need be. In
    folders and archives, hidden files and what is plainly no image by its name (text, tables, programs, DICOMDIR) are passed
    over; everything else is answered. A path that leads nowhere, a glob without a match and a folder or archive
    without an image yield a source whose study is a ``not_found`` rejection; a folder that may not be read, one with
    ``no_permission``, and the rest goes on.

    The folder ``without``, where results go, is passed over. A DICOMDIR that is named stands for the files that it lists.

    A file reached twice is yielded once. What is remembered for that grows with the folders, links and files named, not with
    the files in folders; beyond it, one folder's names or one archive's table of contents are held at a time.
    """
    finder = _Finder(limits, without)
    for path in [paths] if isinstance(paths, str | Path) else paths:
        yield from finder.named(str(path))


class _Finder:
    """Searches paths, and remembers what was found."""

    def __init__(self, limits: Limits, without: Path | None = None) -> None:
        self._limits = limits
        self._folders: set[str] = {os.path.realpath(without)} if without else set()  # real paths of folders searched, or not to be
        self._files: set[str] = set()  # real paths of files that were named or reached through a link

    def named(self, path: str) -> Iterator[Source]:
        """Yield what a path or glob stands for."""
        try:
            Path(path).stat()
        except (OSError, ValueError) as error:
            matches = _glob(path)
            for match in matches:
                yield from self._existing(match)
            if not matches:
                yield failing(path, explain_os_error(error, "file, folder or match"), self._limits)
            return
        yield from self._existing(path)

    def _existing(self, path: str) -> Iterator[Source]:
        real = os.path.realpath(path)
        if Path(path).is_dir():
            empty, searched = True, real in self._folders
            for source in self._folder(path, real):
                empty = False
                yield source
            if empty and not searched:
                yield failing(path, ReadError("not_found", "the folder holds no image; check the path"), self._limits)
        elif self._is_new(real):
            listed = directory_files(Path(path)) if Path(path).name.upper() == "DICOMDIR" else []
            for file in listed:
                yield from self._existing(str(file))
            if not listed:
                yield from self._file(path, named=True)

    def _folder(self, path: str, real: str) -> Iterator[Source]:
        """Walk depth-first, by name; links are followed, and each real folder is searched once."""
        pending = [self._entries(path, real)]
        while pending:
            entry = next(pending[-1], None)
            if entry is None:
                pending.pop()
            elif isinstance(entry, Source):
                yield entry
            elif entry.is_folder:
                pending.append(self._entries(entry.path, entry.real))
            elif self._is_new(entry.real) if entry.is_link else entry.real not in self._files:
                yield from self._file(entry.path, named=False)

    def _entries(self, path: str, real: str) -> Iterator[_Entry | Source]:
        if real in self._folders:
            return
        try:
            with os.scandir(path) as entries:
                listed = sorted((entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries)
        except OSError as error:
            yield failing(path, explain_os_error(error, "folder"), self._limits)
            return
        self._folders.add(real)
        for name, is_folder, is_link in listed:
            if not (is_hidden(name) if is_folder else is_passed_over(name)):
                inner = _join(path, name)
                yield _Entry(inner, os.path.realpath(inner) if is_link else _join(real, name), is_folder, is_link)

    def _is_new(self, real: str) -> bool:
        """Remember a file that was named or linked; False if it was yielded already, or is by the search of its folder."""
        folder, name = os.path.split(real)
        covered = folder in self._folders and not is_passed_over(name) and Path(real).exists()  # a dead link is covered by nothing
        if covered or real in self._files:
            return False
        self._files.add(real)
        return True

    def _file(self, path: str, *, named: bool) -> Iterator[Source]:
        kind = _archive_kind(path) if named or not is_image_name(path) else None
        if kind is None:
            yield Source(path, partial(load_file, path, limits=self._limits), self._limits)
            return
        empty = True
        for source in self._archive(path, kind):
            empty = False
            yield source
        if empty and named:
            yield failing(path, ReadError("not_found", f"the {kind} archive holds no image; check the path"), self._limits)

    def _archive(self, path: str, kind: str) -> Iterator[Source]:
        try:
            file = Path(path).open("rb")  # noqa: SIM115 - closed with the last source of the archive
        except OSError as error:
            yield failing(path, explain_os_error(error, "archive"), self._limits)
            return
        budget = Budget(os.fstat(file.fileno()).st_size, self._limits)
        yield from members(file, kind, name=path, limits=self._limits, budget=budget)


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    real: str
    is_folder: bool
    is_link: bool


def _glob(pattern: str) -> list[str]:
    if "\0" in pattern or not glob.has_magic(pattern):
        return []
    return sorted(glob.iglob(pattern, recursive=True))  # noqa: PTH207 - Path.glob knows no absolute patterns


def _join(folder: str, name: str) -> str:
    return os.path.join(folder, name)  # noqa: PTH118 - Path would not keep "./" as it was given


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle: reading it says so
        return False


def _archive_kind(path: str) -> str | None:
    """Return the archive format of a regular file, None for anything else; what cannot be opened says why when it is read."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return None
        with Path(path).open("rb") as file:
            kind = sniff(file.read(SNIFF_BYTES))
    except OSError:
        return None
    return kind if kind in ARCHIVES else None
