"""What lies in the folders that the workbench was given: runs, evaluations, audits, bundles, manifests, films."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kneexray import tables
from kneexray.datasets.manifest import NAME
from kneexray.errors import DataError
from kneexray.inference.bundle import CARD, NETWORK

RUN_METRICS, RUN_DATA, RUN_IDENTITY = "metrics.jsonl", "data.csv", "data.json"
PREDICTIONS, AUDIT = "predictions.parquet", "audit.json"
_SIGNS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "evaluations": (PREDICTIONS,),
        "runs": ("config.json", RUN_DATA),
        "audits": (AUDIT,),
        "bundles": (CARD, NETWORK),
    }
)
_DEPTH = 3
_INNER = frozenset({"cache", "checkpoints", "tensorboard", "heatmaps", "dicom"})
"""Folders that commands fill with their own files."""


@dataclass(frozen=True, slots=True)
class Places:
    """Folders by what they hold. ``manifests`` also has tables that were named; ``roots`` are where relative names of films may start."""

    runs: tuple[Path, ...] = ()
    evaluations: tuple[Path, ...] = ()
    audits: tuple[Path, ...] = ()
    bundles: tuple[Path, ...] = ()
    manifests: tuple[Path, ...] = ()
    roots: tuple[Path, ...] = ()


def find(paths: Iterable[Path]) -> Places:
    """Return what lies in ``paths`` and up to three folders below. Raises :class:`~kneexray.errors.DataError` for one that is not there."""
    found: dict[str, dict[Path, None]] = {name: {} for name in (*_SIGNS, "manifests", "roots")}
    for path in sorted(paths, key=Path.is_dir):  # a table that was named comes before one that was found
        if not path.exists():
            raise DataError(f"{path}: does not exist. Give folders of 'kneexray train', 'evaluate' or 'data audit', manifests, or films.")
        if path.is_file():
            _table(path, found)
            continue
        for folder in _folders(path, _DEPTH):
            for name, signs in _SIGNS.items():
                if all((folder / sign).is_file() for sign in signs):
                    found[name][folder] = None
            for sign in (NAME, RUN_DATA):
                if (folder / sign).is_file():
                    found["manifests"][folder / sign] = None
        found["roots"][path] = None
    for run in found["runs"]:
        found["roots"] |= dict.fromkeys(_data_of(run))
    return Places(**{name: tuple(values) for name, values in found.items()})


def read_json(path: Path) -> dict[str, Any]:
    """Return what a command recorded in ``path``, nothing where it is not there.

    Raises :class:`~kneexray.errors.DataError` for a file that holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Make it anew, or open another folder.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no record. Make it anew, or open another folder.")
    return content


def _table(path: Path, found: dict[str, dict[Path, None]]) -> None:
    if path.suffix.lower() not in tables.SUFFIXES:
        raise DataError(f"{path}: is neither folder nor table. Give folders, manifests (CSV, Parquet), or a {PREDICTIONS}.")
    found["evaluations" if path.name == PREDICTIONS else "manifests"][path.parent if path.name == PREDICTIONS else path] = None
    found["roots"][path.parent] = None


def _folders(path: Path, depth: int) -> Iterator[Path]:
    yield path
    if not depth:
        return
    try:
        inner = sorted(child for child in path.iterdir() if child.is_dir() and child.name not in _INNER)
    except OSError as error:
        raise DataError(f"{path}: cannot be looked into ({error.strerror}). Check its permissions, or give another folder.") from error
    for child in inner:
        if not child.name.startswith("."):
            yield from _folders(child, depth - 1)


def _data_of(run: Path) -> Iterator[Path]:
    """Yield the folder that a run's data were in, where it is still there."""
    root = read_json(run / RUN_IDENTITY).get("root", "")
    if root and Path(root).is_dir():
        yield Path(root)
