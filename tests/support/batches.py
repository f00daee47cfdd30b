"""Batches of films, and what their shards hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from kneexray.batch.plan import Plan, open_plan
from kneexray.batch.shards import finished, remove_partial
from kneexray.batch.work import ShardGrader
from support.fake_predictor import Cheap

OPTIONS = {"task": "kl", "batch_size": 1}


def write_table(path: Path, names: list[str]) -> Path:
    path.write_text("path\n" + "".join(f"{name}\n" for name in names))
    return path


def union(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every shard, in the order of the shards."""
    tables = {kind: sorted(folder.glob(f"{kind}-*.parquet")) for kind in ("predictions", "rejections")}
    return {kind: [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()] for kind, paths in tables.items()}


def grade(plan: Plan) -> None:
    """Grade what is left of a plan, in this process."""
    remove_partial(plan.folder)
    grader = ShardGrader(plan, Cheap())
    for shard in sorted(set(range(plan.shards)) - finished(plan.folder)):
        assert list(grader.grade(shard)) == list(range(1, plan.size(shard) + 1))


def whole(folder: Path, table: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what an uninterrupted batch gives."""
    grade(open_plan(folder, source=str(table), options=OPTIONS, shard_films=7))
    return union(folder)
