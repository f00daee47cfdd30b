"""``predictions.csv``: one row a prediction and one a rejection, in fixed columns that pandas and R load as they are.

``probability_0`` .. belong to the names in ``labels`` (separated by ``|``, as in ``prediction_set`` and ``warnings``); ``grade``
counts them from 0. Lengths (``jsw_medial`` ..) are in ``length_unit``: mm, or 1 for condyles' widths. Where an earlier film of the knee was
given, ``days`` before, ``expected_grade`` and the lengths come with their value then (``.._before``), the repeat noise and whether the
change exceeds it. A rejected image has ``status`` "rejected", a ``reason`` and a ``detail``, and no grade.

A spreadsheet runs a cell that starts with ``=``, ``+``, ``-`` or ``@`` as a formula. A file name that does is written with ``./`` before
it, which is still the name of the same file; any other text that does gets an apostrophe, which spreadsheets take for "this is text".
Ordinary names are written as they are. Texts are quoted, so that a ``;`` inside one starts no cell where ``;`` separates them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneexray.files import OutputFile
from kneexray.tasks import MEASUREMENTS, TASKS
from kneexray.types import FilmResult
from kneexray.writers.base import NO_FACTS, RunFacts, Writer, heatmap_paths, prediction_record, rejection_record

if TYPE_CHECKING:
    from kneexray.render.knee_pictures import Album

PROBABILITIES = tuple(f"probability_{grade}" for grade in range(max(len(task.labels) for task in TASKS.values())))
COMPARED = ("expected_grade", "jsw_medial", "jsw_lateral")
CHANGES = tuple(f"{name}_{part}" for name in COMPARED for part in ("before", "noise", "exceeds_noise"))
COLUMNS = (
    *("file", "status", "side", "task", "grade", "label", *PROBABILITIES, "prediction_set", "coverage"),
    *(*MEASUREMENTS, "length_unit", "days", "expected_grade", *CHANGES),
    *("score", "x0", "y0", "x1", "y1", "mirrored", "heatmap", "warnings", "reason", "detail"),
    *("labels", "sop_instance_uid", "model_id", "pixel_spacing_source"),
)
FLAGS = ("mirrored", *(name for name in CHANGES if name.endswith("_exceeds_noise")))
NUMBERS = (
    *(*PROBABILITIES, "coverage", *MEASUREMENTS, "days", "expected_grade", *(name for name in CHANGES if name not in FLAGS)),
    *("score", "x0", "y0", "x1", "y1"),
)
"""Of the columns, those that are true or false, and those of numbers."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class FileWriter(Writer):
    """Writes ``predictions.csv``."""

    def __init__(self, path: Path, *, run: RunFacts = NO_FACTS) -> None:
        self._file = OutputFile(path)

    def add(self, result: FilmResult, *, album: Album | None = None) -> None:
        """Append a row for each prediction and each rejection."""
        rows = [
            _prediction_row(prediction_record(prediction, heatmap_path=path))
            for prediction, path in zip(result.predictions, heatmap_paths(result), strict=True)
        ]
        rows += [
            {"status": "rejected", "sop_instance_uid": rejection.sop_instance_uid, **rejection_record(rejection)}
            for rejection in result.rejections
        ]
        self._write(rows)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        header = [dict(zip(COLUMNS, COLUMNS, strict=True))] if self._file.size == 0 else []
        self._file.write(_lines(header + rows))

    def _finish(self) -> None:
        with self._file:
            self._write([])
            self._file.finish()


def write(results: Iterable[FilmResult], path: Path) -> None:
    """Write all results to a CSV file at ``path``."""
    with FileWriter(path) as writer:
        for result in results:
            writer.add(result)


def flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return a prediction's record (:func:`~kneexray.writers.base.prediction_record`) with one value or list a column."""
    row = {**record, **record["knee"]}
    row |= dict(zip(("x0", "y0", "x1", "y1"), record["knee"]["box"], strict=True))
    row |= {f"probability_{grade}": value for grade, value in enumerate(record["probabilities"])}
    if record["change"]:
        row |= {"days": record["change"]["days"], "expected_grade": record["change"]["now"]} | _then("expected_grade", record["change"])
    for length in record["knee"]["measurements"]:
        row |= {length["name"]: length["value"], "length_unit": length["unit"]} | _then(length["name"], length["change"])
    for nested in ("knee", "box", "probabilities", "change", "measurements", "side_sources"):
        del row[nested]
    return row


def _then(name: str, change: dict[str, Any] | None) -> dict[str, Any]:
    """Return the columns of a change."""
    return {f"{name}_{part}": change[part] for part in ("before", "noise", "exceeds_noise")} if change else {}


def _prediction_row(record: dict[str, Any]) -> dict[str, Any]:
    row = {"status": "graded", **flat(record)}
    return row | {name: "|".join(map(str, row[name])) for name in ("labels", "prediction_set", "warnings")}


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    """Return rows as CSV; raises ValueError for a value that has no column."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows({name: _safe(name, value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _safe(name: str, value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"./{value}" if name == "file" else f"'{value}"
    return value
