"""The manifest: which file has which label, of which patient and side, in which split."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kneexray import tables
from kneexray.datasets.example import COLUMNS as COLUMNS
from kneexray.datasets.example import OPTIONAL
from kneexray.datasets.example import Example as Example
from kneexray.datasets.gather import Found, gather, is_archive, on_disk
from kneexray.errors import DataError, MissingExtraError, ReadError, choices
from kneexray.files import make_folder, write_whole
from kneexray.tasks import Task, get_task

logger = logging.getLogger(__name__)

SplitQuality = Literal["patient", "cluster", "image"]
CLUSTER = "cluster:"
"""How a ``patient_id`` starts that stands for a cluster of near-duplicate images, where the patient is not known."""
NAME = "manifest.csv"
AUDITS = ("audit.json", "audit/audit.json")
"""Where an audit of a manifest's very data is looked for, beside it; its split leaks go with every figure made from the manifest."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Labelled files of one task. ``root`` is the folder that relative paths start from; ``leaks`` is what an audit found between its
    splits.
    """

    task: Task
    examples: tuple[Example, ...]
    root: Path
    leaks: tuple[str, ...] = ()

    def path_of(self, example: Example) -> Path:
        """Return where ``example`` lies."""
        return self.root / example.path

    def split(self, name: str) -> tuple[Example, ...]:
        """Return the examples of split ``name``; raises :class:`DataError` that lists the splits there are."""
        found = tuple(e for e in self.examples if e.split == name)
        if not found:
            known = {e.split for e in self.examples if e.split}
            raise DataError(f"{choices('split', name, known)} Splits are made by 'kneexray data split'.")
        return found

    def labels(self, examples: Sequence[Example]) -> list[int]:
        """Return the label index of each example."""
        index = {label: i for i, label in enumerate(self.task.labels)}
        return [index[e.label] for e in examples]

    @property
    def split_quality(self) -> SplitQuality:
        """What the splits keep apart: patients if every file names one and none is in two splits, clusters where some stand for one, else
        images.

        Where an audit found the same images in two splits, nothing is kept apart.
        """
        seen: dict[str, str] = {}
        for example in self.examples:
            if not example.patient_id or seen.setdefault(example.patient_id, example.split) != example.split:
                return "image"
        if self.leaks:
            return "image"
        return "cluster" if any(e.patient_id.startswith(CLUSTER) for e in self.examples) else "patient"

    def digest(self) -> str:
        """Return one SHA-256 over every file's hash, label and split: what a run was trained on."""
        return digest((e.sha256, e.label, e.split) for e in self.examples)


def digest(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return one SHA-256 over the (hash, label, split) of files, in whatever order."""
    return hashlib.sha256("\n".join(sorted(" ".join(row) for row in rows)).encode()).hexdigest()


def load(path: str | Path, *, task: str) -> Manifest:
    """Return the manifest that ``path`` is or implies: a CSV or Parquet manifest, a folder of classes (``train/val/test`` above them or
    not), an archive.

    An archive is unpacked once into the user's cache folder, under the hash of its bytes. Raises :class:`DataError` naming the file, the
    value and the remedy; what maps to no class is an error here (``kneexray data prepare`` leaves it out instead).
    """
    place, wanted = Path(path), get_task(task)
    if not place.exists():
        raise DataError(
            f"{place}: does not exist. Give a manifest (CSV, Parquet), a folder with one sub-folder a class, or a ZIP or TAR of that."
        )
    if is_archive(place):
        return _unpacked(place, wanted)
    if place.is_dir():
        examples, root = tuple(_folder(place, wanted)), place
    elif place.suffix.lower() in tables.SUFFIXES:
        examples, root = tuple(_rows(place, wanted)), place.parent
    else:
        raise DataError(
            f"{place}: is no manifest. Give a CSV or Parquet file, a folder with one sub-folder a class, or a ZIP or TAR of that."
        )
    if not examples:
        raise DataError(f"{place}: holds no labelled image of task '{task}'.")
    manifest = Manifest(task=wanted, examples=examples, root=root)
    return replace(manifest, leaks=_leaks(manifest))


def write(manifest: Manifest, path: str | Path) -> None:
    """Write ``manifest`` as CSV, or as Parquet where ``path`` ends so. Paths become absolute when it moves away from its root.

    The same manifest gives the same bytes. Raises :class:`~kneexray.errors.OutputError` where ``path`` cannot be written.
    """
    place = Path(path)
    moved = place.parent.resolve() != manifest.root.resolve()
    rows = [asdict(e) | ({"path": str(manifest.path_of(e).resolve())} if moved else {}) for e in manifest.examples]
    data = _parquet(rows) if place.suffix.lower() == ".parquet" else _csv(rows)
    write_whole(place, data)


def check_for_training(manifest: Manifest, *, train: str = "train", val: str = "val") -> None:
    """Raise :class:`DataError` for a split that cannot be trained or judged on: absent, empty of a class, or of one class."""
    for name in (train, val):
        counts = Counter(e.label for e in manifest.split(name))
        if len(counts) < 2:
            raise DataError(f"split '{name}' holds one class only ({', '.join(counts)}); a model needs at least two.")
    missing = [label for label in manifest.task.labels if not any(e.label == label for e in manifest.split(train))]
    if missing:
        raise DataError(
            f"split '{train}' has no image of class {', '.join(missing)}; a model cannot learn it. Add some, or choose another task."
        )


def _folder(root: Path, task: Task) -> Iterator[Example]:
    found = [item for item in gather(root, task=task) if not item.repeats]
    problems = [f"{item.name} ({item.problem})" for item in found if item.problem]
    if problems:
        shown = "; ".join(problems[:5])
        raise DataError(
            f"{root}: {len(problems)} image(s) map to no class of task '{task.name}' ({', '.join(task.labels)}): {shown}. "
            f"Rename or remove their folders, name another task, or let 'kneexray data prepare' leave them out."
        )
    packed = next((item.source.name for item in found if on_disk(item.source) is None), None)
    if packed is not None:
        raise DataError(f"{packed} lies in an archive inside a folder. Run 'kneexray data prepare {root} --out DIR' and give DIR/{NAME}.")
    with ThreadPoolExecutor() as pool:
        for item, sha256 in zip(found, pool.map(_sha256, found), strict=True):
            yield Example(item.name, item.label, task.name, item.patient_id, item.side, item.split, item.data_set, sha256)


def _sha256(found: Found) -> str:
    try:
        return hashlib.sha256(found.source.load()).hexdigest()
    except ReadError as error:
        raise DataError(f"{found.source.name}: {error.detail}.") from error


def _rows(path: Path, task: Task) -> Iterator[Example]:
    for number, row in enumerate(tables.read_table(path), start=2):
        for column in ("path", "label"):
            if not row.get(column):
                raise DataError(
                    f"{path}, row {number}: column '{column}' is empty or absent. A manifest has the columns {', '.join(COLUMNS)}."
                )
        if row.get("task") and row["task"] != task.name:
            continue
        label = task.label_of(row["label"])
        if label is None and is_missing(row["label"]):
            logger.warning("%s, row %d: label %r stands for none and was left out", path, number, row["label"])
            continue
        if label is None:
            raise DataError(f"{path}, row {number}: label {row['label']!r} is none of task '{task.name}' ({', '.join(task.labels)}).")
        known = {c: row.get(c) or "" for c in COLUMNS} | {"side": tables.side_of(row.get("side")) or ""}
        yield Example(**{**known, "path": _path(path.parent, known["path"]), "label": label, "task": task.name})


def is_missing(text: str) -> bool:
    """Say whether a label is one of those that tables use for what is not known: a negative number, 9s, NA, a dot."""
    given = text.strip().lower().removesuffix(".0")
    return bool(re.fullmatch(r"-\s*\d+|9+|na|n/a|nan|none|null|\.|unknown|missing|", given))


def _path(folder: Path, name: str) -> str:
    return name if "\\" not in name else str(tables.file_below(folder, name).relative_to(folder))


def _unpacked(archive: Path, task: Task) -> Manifest:
    """Return the manifest of an archive from the user's cache folder, unpacking it there first where need be."""
    import pooch

    from kneexray.datasets.prepare import prepare

    with archive.open("rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    folder = Path(pooch.os_cache("kneexray")) / "prepared" / f"{key}-{task.name}"
    if not (folder / NAME).is_file():
        make_folder(folder.parent)
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as staging:
            imported = prepare(archive, Path(staging) / "data", task=task)
            if problems := [item for item in imported.left_out if not item.repeats]:
                shown = "; ".join(f"{item.name} ({item.reason})" for item in problems[:5])
                raise DataError(f"{archive}: {len(problems)} file(s) cannot be used: {shown}. Let 'kneexray data prepare' leave them out.")
            write(Manifest(task, imported.examples, Path(staging) / "data"), Path(staging) / "data" / NAME)
            with suppress(OSError):  # another process was faster; what it made is the same
                (Path(staging) / "data").rename(folder)
    return load(folder / NAME, task=task.name)


def audit_beside(manifest: Manifest) -> tuple[Path, dict[str, Any]] | None:
    """Return the audit that lies beside ``manifest`` and its content, where there is one of this very data."""
    for path in (manifest.root / name for name in AUDITS):
        try:
            audit = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: is no audit that can be read ({error}). Run 'kneexray data audit' again, or remove it.") from error
        if isinstance(audit, dict) and audit.get("digest") == manifest.digest():
            return path, audit
    return None


def _leaks(manifest: Manifest) -> tuple[str, ...]:
    """Return what an audit beside the manifest found between its splits, a sentence a kind."""
    known = audit_beside(manifest)
    counts = Counter(leak["kind"] for leak in known[1]["split_leaks"]) if known is not None else Counter()
    return tuple(f"an audit found {n} group(s) of files in more than one split ({kind})" for kind, n in sorted(counts.items()))


def _columns(rows: Sequence[dict[str, str]]) -> list[str]:
    return [column for column in COLUMNS if column not in OPTIONAL or any(row[column] for row in rows)]


def _csv(rows: Sequence[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _parquet(rows: Sequence[dict[str, str]]) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("a Parquet manifest", "eval") from None
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({column: [row[column] for row in rows] for column in _columns(rows)}), sink)
    return sink.getvalue()
