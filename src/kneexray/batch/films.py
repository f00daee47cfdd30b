"""From a source (folder, glob, archive, table of paths, URL) to the names of its films, and from a name back to the film's bytes."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from kneexray.errors import DataError, KneeXRayError, MissingExtraError, ReadError
from kneexray.read import DEFAULT_LIMITS, Source, find_sources
from kneexray.read.archives import Budget, members
from kneexray.read.names import is_hidden, is_image_name, is_passed_over
from kneexray.read.reader import load_file
from kneexray.read.sniff import ARCHIVES, SNIFF_BYTES, sniff
from kneexray.read.source import failing
from kneexray.roi.sides import with_table_side
from kneexray.tables import SPELLINGS, SUFFIXES, file_below, side_of
from kneexray.types import Side, Study

MEMBER = "!/"
"""What stands between an archive's name and its member's."""
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_PAUSES = (1.0, 3.0)
"""Seconds before a failed download is tried again, and once more."""
_LIMITS = DEFAULT_LIMITS


@dataclass(frozen=True, slots=True)
class Film:
    """One film of a batch: a path, URL or archive member, and its patient's side where a table tells it."""

    file: str
    side: Side | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """A film that can be read, as :class:`kneexray.predict.Readable`."""

    source: Source
    side: Side | None

    @property
    def name(self) -> str:
        """The film's name."""
        return self.source.name

    def read(self) -> Study:
        """Return the study, its radiographs' laterality that of the table where it tells one."""
        return with_table_side(self.source.read(), self.side)


def list_films(source: str) -> Iterator[Film]:
    """Yield the films of ``source``, each once, in a fixed order and lazily; nothing is decoded.

    A table (CSV, Parquet) names a film a row: relative names start from the table's folder. A URL of a folder is searched as a local
    folder is. Raises :class:`DataError` where the source leads nowhere or cannot be listed.
    """
    if PurePosixPath(source).suffix.lower() in SUFFIXES:
        yield from _listed(source)
    elif _is_url(source):
        yield from map(Film, _remote(source))
    else:
        if not Path(source).exists() and not any(letter in source for letter in "*?["):
            raise DataError(
                f"{source}: does not exist. Give a folder, glob, ZIP, a CSV or Parquet of paths, or a URL (s3://, gs://, https://)."
            )
        yield from (Film(found.name) for found in find_sources(source))


class Opener:
    """Finds films by their names again. Members of an archive are found fastest in the order in which they were listed."""

    def __init__(self) -> None:
        self._root = ""
        self._sources: Iterator[Source] = iter(())

    def open(self, film: Film) -> Named:
        """Return the film; one that is no longer there is a rejection when it is read."""
        return Named(self._source(film.file), film.side)

    def _source(self, name: str) -> Source:
        root, _, member = name.partition(MEMBER)
        if not member or (not _is_url(name) and Path(name).is_file()):
            if _is_url(name):
                return Source(name, partial(_download, name), _LIMITS)
            if is_image_name(name):
                return Source(name, partial(load_file, name, limits=_LIMITS), _LIMITS)
            root = name  # an archive or folder that holds no film says why when it is searched again
        found = self._next(root, name)
        if found is None:  # not ahead of the last one: from the beginning
            self._root = ""
            found = self._next(root, name)
        return found or failing(name, ReadError("not_found", "it was listed, and is not there any more; check the archive"), _LIMITS)

    def _next(self, root: str, name: str) -> Source | None:
        if root != self._root:
            self._root, self._sources = root, iter(_remote_members(root) if _is_url(root) else find_sources(root))
        return next((source for source in self._sources if source.name == name), None)


def _is_url(source: str) -> bool:
    return "://" in source


def _listed(table: str) -> Iterator[Film]:
    base = table.rpartition("/")[0] if _is_url(table) else str(Path(table).parent)
    seen: set[str] = set()
    for number, (name, side) in enumerate(_rows(table), start=2):
        if not name:
            raise DataError(f"{table}, row {number}: names no file. Fill the column of files, or remove the row.")
        if not _is_url(name):
            name = f"{base}/{name}" if _is_url(table) else str(file_below(Path(base), name))
        if name not in seen:
            seen.add(name)
            yield Film(name, side_of(side))
    if not seen:
        raise DataError(f"{table}: holds no row.")


def _rows(table: str) -> Iterator[tuple[str, str]]:
    """Yield (file, "L", "R" or anything) of each row, a few rows in memory at a time."""
    try:
        with _opened(table) as file:
            if table.lower().endswith(".csv"):
                rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
                path, side = _columns(table, rows.fieldnames or ())
                for row in rows:
                    if any(row.values()):
                        yield row[path] or "", (row[side] or "") if side else ""
            else:
                yield from _parquet_rows(table, file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a table ({error}). Save it as CSV in UTF-8, or as Parquet.") from error


def _parquet_rows(table: str, file: IO[bytes]) -> Iterator[tuple[str, str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            path, side = _columns(table, parquet.schema_arrow.names)
            for rows in parquet.iter_batches(columns=[path, side] if side else [path]):
                names = rows.column(path).to_pylist()
                sides = rows.column(side).to_pylist() if side else [""] * len(names)
                for name, given in zip(names, sides, strict=True):
                    yield str(name or ""), str(given or "")
    except pyarrow.ArrowException as error:
        raise DataError(f"{table}: cannot be read as a Parquet file ({error}). Write it again, or give a CSV.") from error


def _columns(table: str, names: Iterable[str]) -> tuple[str, str | None]:
    """Return the columns of files and of sides (None where there is none)."""
    known = {name.strip().lower(): name for name in names}
    path, side = ([known[spelling] for spelling in SPELLINGS[what] if spelling in known] for what in ("path", "side"))
    if not path:
        raise DataError(
            f"{table}: no column of files; it has {', '.join(known) or 'none'}. Name one of its columns {' or '.join(SPELLINGS['path'])}."
        )
    return path[0], side[0] if side else None


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if _is_url(name):
        system, path = _file_system(name)
        with system.open(path, "rb") as file:
            yield file
    else:
        with Path(name).open("rb") as file:
            yield file


def _remote(url: str) -> Iterator[str]:
    if url.lower().endswith(_ARCHIVES):
        yield from (source.name for source in _remote_members(url))
        return
    if is_image_name(url):
        yield url
        return
    system, path = _file_system(url)
    empty = True
    for name in _walk(system, path, url):
        empty = False
        yield name
    if empty:
        raise DataError(f"{url}: holds no image, or cannot be listed. Check the URL, or give a table of the films' URLs.")


def _walk(system: Any, folder: str, url: str) -> Iterator[str]:
    """Yield the films below a remote folder, by name; hidden files and what is plainly no image by its name are passed over."""
    try:
        entries = sorted(system.ls(folder, detail=True), key=lambda entry: str(entry["name"]))
    except Exception as error:  # the back ends of fsspec share no base
        raise DataError(f"{url}: cannot be listed ({type(error).__name__}: {error}). Check the URL and your permission.") from error
    for entry in entries:
        path = str(entry["name"])
        name = PurePosixPath(path).name
        if path.rstrip("/") == folder.rstrip("/"):  # how object stores mark a folder
            continue
        if entry["type"] == "directory":
            if not is_hidden(name):
                yield from _walk(system, path, url)
        elif not is_passed_over(name):
            found = str(system.unstrip_protocol(path))
            yield from _remote(found) if path.lower().endswith(_ARCHIVES) else (found,)


def _remote_members(url: str) -> Iterator[Source]:
    """Yield the films of a remote archive, of which only the parts that are needed travel where the server allows it."""
    try:
        system, path = _file_system(url)
        file: IO[bytes] = system.open(path, "rb")
        kind = sniff(file.read(SNIFF_BYTES))
        size = file.seek(0, 2)
        file.seek(0)
    except Exception as error:  # the back ends of fsspec share no base
        yield failing(url, _explained(error), _LIMITS)
        return
    if kind not in ARCHIVES:
        yield failing(url, ReadError("corrupt", "the name is an archive's, the bytes are not; upload it again"), _LIMITS)
        return
    yield from members(file, kind, name=url, limits=_LIMITS, budget=Budget(size, _LIMITS))


def _download(url: str) -> bytes:
    """Return a remote file's bytes, trying again where that fails; raises :class:`ReadError`."""
    pauses = iter(_PAUSES)
    while True:
        try:
            system, path = _file_system(url)
            return cast("bytes", system.cat_file(path))
        except (FileNotFoundError, PermissionError, KneeXRayError) as error:
            raise _explained(error) from error
        except Exception as error:  # the back ends of fsspec share no base
            pause = next(pauses, None)
            if pause is None:
                raise _explained(error) from error
            time.sleep(pause)


def _explained(error: Exception) -> ReadError:
    if isinstance(error, FileNotFoundError):
        return ReadError("not_found", "there is no such file; check the URL")
    if isinstance(error, PermissionError):
        return ReadError("no_permission", "the file may not be read; check your credentials")
    if isinstance(error, KneeXRayError):
        return ReadError("failed", str(error))
    return ReadError("failed", f"the file cannot be downloaded ({type(error).__name__}: {error}); check the network")


def _file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system and path of ``url``; raises :class:`DataError` for a scheme that is unknown or lacks its package."""
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError(f"reading {url}", "batch") from None
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise DataError(f"{url}: {error}.") from error
    return system, path
