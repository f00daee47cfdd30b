"""Tables of answers: what networks said of knees that they did not learn from, as soft targets for another network.

A table (CSV, perhaps gzipped) has a row a knee: ``patient_id``, ``side``, for each task its probabilities ``kl_0``, ``kl_1``, ... (of a
task with two classes ``knee_replacement_1`` is enough), and lengths as shares of the condyles' width, ``jsw_medial_share``, .... Columns
named as the Osteoarthritis Initiative names its widths (``mcmjsw_share``) are taken too.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneexray.datasets.manifest import Example
from kneexray.datasets.oai import WIDTHS
from kneexray.errors import ConfigError
from kneexray.files import write_whole
from kneexray.tasks import LENGTHS, TASKS

Rows = dict[tuple[str, str], NDArray[np.float32]]


def columns(tasks: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a table of ``tasks`` behind patient and side, in order: probabilities, then lengths."""
    return (*(f"{task}_{k}" for task in tasks for k in range(len(TASKS[task].labels))), *(f"{name}_share" for name in LENGTHS))


def read(paths: Sequence[str], *, tasks: Sequence[str]) -> Rows:
    """Return the mean over ``paths`` of what is said of each knee, (K + L,) as :func:`columns` names it, NaN where nothing is.

    Raises :class:`ConfigError` for a table that cannot be read, or that knows none of ``tasks``.
    """
    found: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    for name in paths:
        for row in _rows(Path(name)):
            found.setdefault((row["patient_id"], row["side"]), []).append(_values(row, tasks))
    rows = {knee: _mean(values) for knee, values in found.items()}
    if not rows or all(np.isnan(values[: -len(LENGTHS)]).all() for values in rows.values()):
        raise ConfigError(
            f"distil.answers: {', '.join(paths)} say nothing of {', '.join(tasks)}. Columns are {', '.join(columns(tasks)[:6])}, ..."
        )
    return rows


def lengths(path: str) -> Rows:
    """Return the lengths (L,) of each knee in a table of them, NaN where not read. Raises :class:`ConfigError`."""
    return {(row["patient_id"], row["side"]): np.array([_number(row.get(n, "")) for n in LENGTHS], np.float32) for row in _rows(Path(path))}


def of(examples: Sequence[Example], rows: Rows, width: int) -> NDArray[np.float32]:
    """Return the rows of ``examples``, (N, width), NaN for knees that have none."""
    nothing = np.full(width, np.nan, np.float32)
    return np.stack([rows.get((e.patient_id, e.side), nothing) for e in examples])


def write(path: Path, knees: Sequence[tuple[str, str]], values: NDArray[np.floating], *, tasks: Sequence[str]) -> None:
    """Write answers (N, K + L), in the order of :func:`columns`, of ``knees`` given by patient and side; NaN stays empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("patient_id", "side", *columns(tasks)))
    for (patient, side), row in zip(knees, values, strict=True):
        writer.writerow((patient, side, *("" if math.isnan(value) else f"{value:.5f}" for value in row)))
    write_whole(path, gzip.compress(text.getvalue().encode(), mtime=0) if path.suffix == ".gz" else text.getvalue().encode())


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a table of answers ({error}). Give a CSV, perhaps gzipped.") from error
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or not {"patient_id", "side"} <= rows[0].keys():
        raise ConfigError(f"{path}: has no columns patient_id and side, by which its rows find their images.")
    return rows


def _values(row: Mapping[str, str], tasks: Sequence[str]) -> NDArray[np.float32]:
    values: list[float] = []
    for task in tasks:
        mine = [_number(row.get(f"{task}_{k}", "")) for k in range(len(TASKS[task].labels))]
        if len(mine) == 2 and math.isnan(mine[0]):
            mine[0] = 1 - mine[1]
        values += mine
    for name in LENGTHS:
        values.append(_number(row.get(f"{name}_share", "") or row.get(f"{WIDTHS[name]}_share", "")))
    return np.array(values, np.float32)


def _mean(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    total = np.where(known, stacked, 0).sum(axis=0)
    return np.where(known.any(axis=0), total / known.sum(axis=0).clip(min=1), np.nan).astype(np.float32)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
