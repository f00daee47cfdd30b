"""The manifest: which file has which label, of which patient and side, in which split."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from kneexray.datasets import chen2018
from kneexray.errors import DataError, MissingExtraError, OutputError, choices
from kneexray.tasks import Task, get_task
from kneexray.types import Side

SplitQuality = Literal["patient", "cluster", "image"]
SPLIT_NAMES: MappingProxyType[str, str] = MappingProxyType(
    {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test", "testing": "test"}
)
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".dcm", ".dicom", ""})


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled file. Empty strings stand for what is not known; ``sha256`` is of the file's bytes."""

    path: str
    label: str
    task: str
    patient_id: str = ""
    side: str = ""
    split: str = ""
    source: str = ""
    sha256: str = ""


COLUMNS = tuple(field.name for field in fields(Example))


@dataclass(frozen=True, slots=True)
class Manifest:
    """Labelled files of one task. ``root`` is the folder that relative paths start from."""

    task: Task
    examples: tuple[Example, ...]
    root: Path

    def path_of(self, example: Example) -> Path:
        """Return where ``example`` lies."""
        return self.root / example.path

    def split(self, name: str) -> tuple[Example, ...]:
        """Return the examples of split ``name``; raises :class:`DataError` that lists the splits there are."""
        found = tuple(e for e in self.examples if e.split == name)
        if not found:
            raise DataError(choices("split", name, {e.split for e in self.examples if e.split}))
        return found

    def labels(self, examples: Sequence[Example]) -> list[int]:
        """Return the label index of each example."""
        index = {label: i for i, label in enumerate(self.task.labels)}
        return [index[e.label] for e in examples]

    @property
    def split_quality(self) -> SplitQuality:
        """What the splits keep apart: patients if every file names one (and none is in two splits), else images."""
        seen: dict[str, str] = {}
        for example in self.examples:
            if not example.patient_id or seen.setdefault(example.patient_id, example.split) != example.split:
                return "image"
        return "cluster" if all(e.patient_id.startswith("cluster:") for e in self.examples) else "patient"

    def digest(self) -> str:
        """Return one SHA-256 over every file's hash, label and split: what a run was trained on."""
        text = "\n".join(sorted(f"{e.sha256} {e.label} {e.split}" for e in self.examples))
        return hashlib.sha256(text.encode()).hexdigest()


NAME_RULES: tuple[tuple[str, Callable[[str], tuple[str, Side] | None]], ...] = (("chen2018", chen2018.patient_and_side),)


def named(example: Example) -> Example:
    """Return ``example`` with patient and side filled in where a public data set's naming rule tells them."""
    for source, rule in NAME_RULES:
        if (known := rule(Path(example.path).stem)) is not None:
            return replace(example, patient_id=known[0], side=known[1], source=source)
    return example


def load(path: str | Path, *, task: str) -> Manifest:
    """Return the manifest that ``path`` is or implies: a CSV or Parquet manifest, a folder of classes, or ``train/val/test`` folders of classes.

    Raises :class:`DataError` naming the file, the value and the remedy.
    """
    place = Path(path)
    if not place.exists():
        raise DataError(f"{place}: does not exist. Give a manifest (CSV, Parquet) or a folder with one sub-folder a class.")
    wanted = get_task(task)
    if place.is_dir():
        examples = tuple(_walk(place, wanted))
        root = place
    else:
        examples = tuple(_rows(place, wanted))
        root = place.parent
    if not examples:
        raise DataError(f"{place}: holds no labelled image of task '{task}'.")
    return Manifest(task=wanted, examples=examples, root=root)


def write(manifest: Manifest, path: str | Path) -> None:
    """Write ``manifest`` as CSV. Paths stay relative to the manifest's root, or become absolute when it moves elsewhere."""
    place = Path(path)
    moved = place.parent.resolve() != manifest.root.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for example in manifest.examples:
                row = asdict(example)
                if moved:
                    row["path"] = str(manifest.path_of(example).resolve())
                writer.writerow(row)
    except OSError as error:
        raise OutputError(f"{place}: cannot be written ({error.strerror}). Choose a folder that is writable and has space.") from error


def check_for_training(manifest: Manifest, *, train: str = "train", val: str = "val") -> None:
    """Raise :class:`DataError` for a split that cannot be trained or judged on: absent, empty of a class, or of one class."""
    for name in (train, val):
        counts = Counter(e.label for e in manifest.split(name))
        if len(counts) < 2:
            raise DataError(f"split '{name}' holds one class only ({', '.join(counts)}); a model needs at least two.")
    missing = [label for label in manifest.task.labels if not any(e.label == label for e in manifest.split(train))]
    if missing:
        raise DataError(f"split '{train}' has no image of class {', '.join(missing)}; a model cannot learn it. Add some, or choose another task.")


def _walk(root: Path, task: Task) -> Iterator[Example]:
    """Yield the files of a folder of classes, with or without split folders above the classes."""
    top = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    splits = [p for p in top if p.name.lower() in SPLIT_NAMES]
    unmapped: list[str] = []
    for folder, split in [(p, SPLIT_NAMES[p.name.lower()]) for p in splits] or [(root, "")]:
        for class_folder in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
            label = task.label_of(class_folder.name)
            if label is None:
                unmapped.append(str(class_folder.relative_to(root)))
                continue
            for file in sorted(class_folder.rglob("*")):
                if file.is_file() and not file.name.startswith(".") and file.suffix.lower() in IMAGE_SUFFIXES:
                    example = Example(path=file.relative_to(root).as_posix(), label=label, task=task.name, split=split, sha256=_sha256(file))
                    yield named(example)
    if unmapped:
        raise DataError(
            f"{root}: folder(s) {', '.join(unmapped[:10])} map to no class of task '{task.name}' ({', '.join(task.labels)}). "
            f"Rename or remove them, or name another task."
        )


def _rows(path: Path, task: Task) -> Iterator[Example]:
    for number, row in enumerate(_table(path), start=2):
        for column in ("path", "label"):
            if not row.get(column):
                raise DataError(f"{path}, row {number}: column '{column}' is empty or absent. A manifest has the columns {', '.join(COLUMNS)}.")
        if row.get("task") and row["task"] != task.name:
            continue
        label = task.label_of(row["label"])
        if label is None:
            raise DataError(f"{path}, row {number}: label {row['label']!r} is none of task '{task.name}' ({', '.join(task.labels)}).")
        yield Example(**{**{c: row.get(c) or "" for c in COLUMNS}, "label": label, "task": task.name})


def _table(path: Path) -> Iterable[Mapping[str, str]]:
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet
        except ImportError:
            raise MissingExtraError("a Parquet manifest", "eval") from None
        return [{k: "" if v is None else str(v) for k, v in row.items()} for row in pyarrow.parquet.read_table(path).to_pylist()]
    if path.suffix.lower() != ".csv":
        raise DataError(f"{path}: is no manifest. Give a CSV or Parquet file, or a folder with one sub-folder a class.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
