"""``predictions-000012.parquet`` and ``rejections-000012.parquet``: one shard's answers, with the columns of ``predictions.csv``.

A shard is finished when its predictions file is there: it is written last. Every file is written under a name of its own, flushed to
disk and only then renamed, so that a process killed at any moment, or two that write the same shard, leave whole files.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import IO, Any, Literal

from kneexray.errors import DataError
from kneexray.files import make_folder, output_errors, sync
from kneexray.types import FilmResult
from kneexray.writers.base import heatmap_paths, prediction_record, rejection_record
from kneexray.writers.csv import COLUMNS, FLAGS, NUMBERS, flat
from kneexray.writers.heatmaps import FileWriter

HEATMAPS = "heatmaps"
REJECTIONS = ("file", "reason", "detail", "sop_instance_uid")
PREDICTIONS = tuple(name for name in COLUMNS if name not in ("status", "reason", "detail"))
_SHARD = re.compile(r"predictions-(\d+)\.parquet")


def write_shard(folder: Path, shard: int, results: Iterable[FilmResult]) -> Iterator[int]:
    """Write what ``results`` say as shard ``shard``; yield how many films are done as they are.

    Heatmaps go to ``heatmaps/000012/``. Of a film only its rows are kept. Raises :class:`~kneexray.errors.OutputError`.
    """
    answers: list[dict[str, Any]] = []
    refusals: list[dict[str, Any]] = []
    place = f"{HEATMAPS}/{shard:06d}"
    pictures = FileWriter(folder / place)
    for done, result in enumerate(results, start=1):
        pictures.add(result)
        for prediction, path in zip(result.predictions, heatmap_paths(result), strict=True):
            moved = path and path.replace(HEATMAPS, place, 1)
            answers.append(flat(prediction_record(prediction, heatmap_path=moved)))
        refusals += [{**rejection_record(refused), "sop_instance_uid": refused.sop_instance_uid} for refused in result.rejections]
        yield done
    _write_table(shard_file(folder, "rejections", shard), refusals, REJECTIONS)
    _write_table(shard_file(folder, "predictions", shard), answers, PREDICTIONS)


def shard_file(folder: Path, kind: Literal["predictions", "rejections"], shard: int) -> Path:
    """Return where ``shard`` lies; it is finished once its predictions are there."""
    return folder / f"{kind}-{shard:06d}.parquet"


def finished(folder: Path) -> set[int]:
    """Return the shards that are done."""
    return {int(match[1]) for path in folder.glob("predictions-*.parquet") if (match := _SHARD.fullmatch(path.name))}


def counts(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Return how many knees of all finished shards were graded, by task, and how many images refused, by reason."""
    return _tally(folder, "predictions", "task"), _tally(folder, "rejections", "reason")


def _tally(folder: Path, kind: Literal["predictions", "rejections"], column: str) -> Counter[str]:
    import pyarrow
    import pyarrow.parquet

    total: Counter[str] = Counter()
    for shard in sorted(finished(folder)):
        path = shard_file(folder, kind, shard)
        try:
            found = pyarrow.parquet.read_table(path, columns=[column]).column(0)
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{path}: cannot be read ({error}). Remove the shard's two files, and go on with --resume.") from error
        for row in found.value_counts().to_pylist():
            total[row["values"]] += row["counts"]
    return total


def remove_partial(folder: Path) -> None:
    """Remove what killed processes left half."""
    for path in folder.glob("*.partial"):
        path.unlink(missing_ok=True)


def write_durably(path: Path, content: bytes) -> None:
    """Write ``content`` as :func:`durably` does."""
    with durably(path) as file:
        file.write(content)


@contextmanager
def durably(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name when it is whole and on the disk, and not at all where the block fails."""
    make_folder(path.parent)
    with output_errors(path):
        partial = path.with_name(f"{path.name}.{token_hex(4)}.partial")
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync(path.parent)


def _write_table(path: Path, rows: list[dict[str, Any]], columns: Iterable[str]) -> None:
    import pyarrow
    import pyarrow.parquet

    numbers = dict.fromkeys(NUMBERS, pyarrow.float64()) | dict.fromkeys(FLAGS, pyarrow.bool_())
    lists = {"prediction_set": pyarrow.list_(pyarrow.int8()), "warnings": pyarrow.list_(pyarrow.string())}
    lists["labels"] = lists["warnings"]
    types = {"grade": pyarrow.int8(), **numbers, **lists}
    schema = pyarrow.schema({name: types.get(name, pyarrow.string()) for name in columns})
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([_texts(row) for row in rows], schema=schema), sink, compression="zstd")
    write_durably(path, sink.getvalue())


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    """Return ``row`` with file names that are not UTF-8 written as ``predictions.csv`` has them."""
    return {name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value for name, value in row.items()}
