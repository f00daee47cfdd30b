"""What a reader decided about films: kept line by line as it happens, and turned into a new manifest.

A line of ``decisions.jsonl`` is ``{"time", "file", "task", "label", "reader", "page"}``; ``file`` is the absolute path, ``label`` null for
a film to be dropped. The last line of a film and task counts, so that a mind may be changed and nothing is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from kneexray.datasets import manifest as manifests
from kneexray.datasets.manifest import Manifest
from kneexray.errors import ConfigError, DataError
from kneexray.files import make_folder, output_errors
from kneexray.tasks import Task

FILE = "decisions.jsonl"


@dataclass(frozen=True, slots=True)
class Decision:
    """The label that a film shall carry, None if it shall be dropped. ``page`` says where it was decided, ``time`` when (ISO 8601)."""

    file: str
    task: str
    label: str | None
    reader: str = ""
    page: str = ""
    time: str = ""


def record(path: Path, decision: Decision) -> None:
    """Append ``decision``, with the time, to ``path`` and wait until it is on disk.

    Raises :class:`~kneexray.errors.OutputError` where that cannot be done.
    """
    make_folder(path.parent)
    line = json.dumps(asdict(replace(decision, time=datetime.now(UTC).isoformat(timespec="seconds"))), ensure_ascii=False)
    with output_errors(path), path.open("a+b") as file:
        start = "" if _ends_whole(file) else "\n"  # what a crash cut short stays a line of its own
        file.write(f"{start}{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, *, task: Task) -> dict[str, Decision]:
    """Return what was decided last on each file for ``task``; none where ``path`` is not there yet.

    A line that a crash cut short is passed over. Raises :class:`~kneexray.errors.DataError` for one that holds something else.
    """
    found: dict[str, Decision] = {}
    if not path.exists():
        return found
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        try:
            decision = Decision(**entry)
        except TypeError as error:
            raise DataError(f"{path}, line {number}: is no decision ({error}). Correct or remove the line.") from None
        if decision.task != task.name:
            continue
        if decision.label is not None and decision.label not in task.labels:
            raise DataError(f"{path}, line {number}: label {decision.label!r} is none of task '{task.name}' ({', '.join(task.labels)}).")
        found[decision.file] = decision
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """A manifest with the decisions in it, and how many of its films they kept, relabelled and dropped."""

    manifest: Manifest
    kept: int
    relabelled: int
    dropped: int


def apply(manifest: Manifest, decided: Mapping[str, Decision]) -> Outcome:
    """Return ``manifest`` as ``decided`` (absolute path -> decision) has it; a film without a decision stays as it is.

    Raises :class:`~kneexray.errors.DataError` where no film would be left.
    """
    examples, kept, relabelled, dropped = [], 0, 0, 0
    for example in manifest.examples:
        decision = decided.get(key(manifest.path_of(example)))
        if decision is not None and decision.label is None:
            dropped += 1
            continue
        if decision is not None and decision.label is not None:
            changed = decision.label != example.label
            relabelled, kept = relabelled + changed, kept + (not changed)
            example = replace(example, label=decision.label)
        examples.append(example)
    if not examples:
        raise DataError("no film would be left: every one of the manifest is to be dropped. Change some decisions.")
    return Outcome(replace(manifest, examples=tuple(examples)), kept, relabelled, dropped)


def write(outcome: Outcome, path: Path) -> None:
    """Write the new manifest. Raises :class:`~kneexray.errors.ConfigError` for a place that is taken: no manifest is ever changed."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"{path}: a manifest is a CSV or Parquet file; let the name end in .csv or .parquet.")
    if path.exists():
        raise ConfigError(f"{path}: exists already, and no manifest is changed. Choose another name.")
    manifests.write(outcome.manifest, path)


def free_name(folder: Path) -> Path:
    """Return a name for a new manifest in ``folder`` that is not taken."""
    number = 1
    while (path := folder / f"manifest-{number}.csv").exists():
        number += 1
    return path


def key(path: Path) -> str:
    """Return what a film is called in decisions, whatever folder it was named from."""
    return os.path.abspath(path)  # noqa: PTH100 - resolving links looks at the disk, for every film at every click


def _ends_whole(file: BinaryIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
