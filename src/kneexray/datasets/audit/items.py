"""What an audit looks at: images of any folder, archive or manifest, labelled or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from kneexray import tables
from kneexray.datasets import layout, manifest
from kneexray.datasets.catalogue import identify
from kneexray.datasets.catalogue.record import Identity
from kneexray.datasets.gather import below, file_source, on_disk
from kneexray.errors import ConfigError, DataError
from kneexray.read import Source, find_sources
from kneexray.tasks import TASKS, Task


@dataclass(frozen=True, slots=True)
class Item:
    """One image of an audit. ``file`` is its name in the report; what is not known is empty. ``path`` is None inside archives.

    ``collection`` is the path it was found under, where several are audited together.
    """

    file: str
    source: Source
    path: Path | None
    label: str = ""
    task: str = ""
    patient_id: str = ""
    side: str = ""
    split: str = ""
    data_set: str = ""
    sex: str = ""
    collection: str = ""


def items_of(data: manifest.Manifest) -> list[Item]:
    """Return the images of a manifest."""
    return [
        Item(e.path, file_source(data.path_of(e)), data.path_of(e), e.label, e.task, e.patient_id, e.side, e.split, e.source, e.sex)
        for e in data.examples
    ]


def items_at(paths: Sequence[Path], *, task: Task | None = None) -> list[Item]:
    """Return the images of every path: folders and archives (their class folders told by ``task``, or by the task that fits best),
    manifests.

    Names are relative to the path where there is one, else as given. Raises :class:`DataError` where a path leads nowhere.
    """
    found = [item for path in paths for item in _items(path, task, alone=len(paths) == 1)]
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: holds no image.")
    return found


def task_of(path: Path) -> Task:
    """Return the task that the class names of ``path`` are of; raises :class:`~kneexray.errors.ConfigError` where they are of none."""
    if not path.exists():
        raise DataError(
            f"{path}: does not exist. Give a manifest (CSV, Parquet), a folder with one sub-folder a class, or a ZIP or TAR of that."
        )
    if path.suffix.lower() in tables.SUFFIXES and path.is_file():
        found = _table_task(path)
    else:
        found = layout.infer_task(below(source.name, path) for source in find_sources(path))
    if found is None:
        raise ConfigError(f"{path}: its class names are of no task. Name it with --task: {', '.join(TASKS)}.")
    return found


def _items(path: Path, task: Task | None, *, alone: bool) -> Iterator[Item]:
    collection = "" if alone else str(path)
    if path.is_file() and path.suffix.lower() in tables.SUFFIXES:
        for item in items_of(manifest.load(path, task=(task or task_of(path)).name)):
            yield item if alone else replace(item, file=str(item.path), collection=collection)
        return
    if not path.exists():
        raise DataError(f"{path}: does not exist. Give folders, archives, or manifests (CSV, Parquet).")
    sources = list(find_sources(path))
    names = [below(source.name, path) for source in sources]
    wanted = task or layout.infer_task(names)
    for source, name in zip(sources, names, strict=True):
        place = layout.place(name, wanted) if wanted is not None else layout.Place(None, "")
        data_set, told = identify(PurePosixPath(name).stem) or ("", Identity())
        yield Item(
            file=name if alone else source.name,
            source=source,
            path=on_disk(source),
            label=place.label or "",
            task=wanted.name if wanted is not None and place.label else "",
            patient_id=told.patient_id,
            side=told.side,
            split=place.split,
            data_set=data_set,
            collection=collection,
        )


def _table_task(path: Path) -> Task | None:
    rows = tables.read_table(path)
    named = Counter(row["task"] for row in rows if row.get("task"))
    if named:
        return TASKS.get(named.most_common(1)[0][0])
    if rows and {"kl", "kl_grade", "klg"} & {column.strip().lower() for column in rows[0]}:
        return TASKS["kl"]
    return layout.best_task(row["label"] for row in tables.renamed(rows, path))
