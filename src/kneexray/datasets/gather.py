"""From a path that a person names to its labelled images: folders of classes, archives, tables; what does not map is told, never
guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from kneexray import tables
from kneexray.datasets import layout
from kneexray.datasets.catalogue import identify
from kneexray.errors import DataError
from kneexray.read import DEFAULT_LIMITS, Source, find_sources
from kneexray.read.reader import load_file
from kneexray.read.sniff import ARCHIVES, SNIFF_BYTES, sniff
from kneexray.tasks import Task


@dataclass(frozen=True, slots=True)
class Found:
    """An image and what its place, its name and its row say. ``name`` is the path below the root. ``label`` is "" where ``problem`` is not.

    ``repeats`` says that the problem is no fault: the folder repeats another one of the same public data set.
    """

    source: Source
    name: str
    label: str = ""
    split: str = ""
    patient_id: str = ""
    side: str = ""
    data_set: str = ""
    sex: str = ""
    problem: str = ""
    repeats: bool = False

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return PurePosixPath(self.name).stem


def is_archive(path: Path) -> bool:
    """Say whether ``path`` is a ZIP or TAR file, by its first bytes."""
    if not path.is_file() or path.suffix.lower() in tables.SUFFIXES:
        return False
    try:
        with path.open("rb") as file:
            return sniff(file.read(SNIFF_BYTES)) in ARCHIVES
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error


def gather(path: Path, *, task: Task) -> Iterator[Found]:
    """Yield the images of ``path``: a folder, an archive (archives within too), or a table with a column of files and one of labels.

    Members of archives are yielded one by one; keep none longer than needed. Raises :class:`DataError` where ``path`` is none of these.
    """
    if not path.exists():
        raise DataError(
            f"{path}: does not exist. Give a folder with one sub-folder a class, a ZIP or TAR of that, or a CSV or Parquet table."
        )
    if path.is_dir() or is_archive(path):
        yield from _placed(path, task)
    elif path.suffix.lower() in tables.SUFFIXES:
        yield from _listed(path, task)
    else:
        raise DataError(
            f"{path}: is neither folder, archive nor table. Give a folder with one sub-folder a class, a ZIP or TAR of that, a CSV, "
            "TSV, Excel or Parquet table."
        )


def below(name: str, root: Path) -> str:
    """Return the source name ``name`` as a path below ``root``, with ``/``; of an archive that is ``root`` itself, below its inside."""
    return name.removeprefix(str(root)).replace("\\", "/").removeprefix("!").lstrip("/")


def on_disk(source: Source) -> Path | None:
    """Return where ``source`` lies as a file of its own, or None for a member of an archive."""
    path = Path(source.name)
    return path if path.is_file() else None


def file_source(path: Path) -> Source:
    """Return the source of one file."""
    return Source(str(path), partial(load_file, path, limits=DEFAULT_LIMITS), DEFAULT_LIMITS)


def _placed(root: Path, task: Task) -> Iterator[Found]:
    names = [below(source.name, root) for source in find_sources(root)]
    if task.name == "kl":
        layout.check_scale(folder for name in names for folder in layout.folders_of(name))
    repeats = layout.redundant(names)
    for source in find_sources(root):
        name = below(source.name, root)
        if name in repeats:
            yield Found(source, name, problem=repeats[name], repeats=True)
            continue
        place = layout.place(name, task)
        yield _named(Found(source, name, label=place.label or "", split=place.split, problem=place.problem))


def _listed(table: Path, task: Task) -> Iterator[Found]:
    rows = tables.renamed(tables.read_table(table), table)
    for number, row in enumerate(rows, start=2):
        if not row["path"]:
            raise DataError(f"{table}, row {number}: names no file. Fill the column of files, or remove the row.")
        label = task.label_of(row["label"])
        problem = "" if label is not None else f"label {row['label']!r}: no class"
        split = layout.SPLIT_NAMES.get(row.get("split", "").lower(), row.get("split", ""))
        path = tables.file_below(table.parent, row["path"])
        yield _named(
            Found(
                file_source(path),
                row["path"],
                label=label or "",
                split=split,
                patient_id=row.get("patient_id", ""),
                side=tables.side_of(row.get("side")) or "",
                sex=row.get("sex", ""),
                problem=problem,
            )
        )


def _named(found: Found) -> Found:
    """Return ``found`` with what the naming rule of a public data set tells; what a table says stands."""
    told = identify(found.stem)
    if told is None:
        return found
    data_set, identity = told
    return replace(found, patient_id=found.patient_id or identity.patient_id, side=found.side or identity.side, data_set=data_set)
