"""A Ray cluster: Ray Data hands shards to a pool of actors that each keep a predictor. Nodes share the source and the output folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import ray.data

from kneexray.batch.plan import Plan
from kneexray.batch.shards import shard_file
from kneexray.batch.work import Grades, ShardGrader

RETRIES = 3
"""How often Ray may start a shard again whose actor died."""


def grade_ray(plan: Plan, predictor: Grades, shards: Sequence[int], *, jobs: int = 0) -> Iterator[int]:
    """Grade ``shards`` with ``jobs`` actors (0: one a core of the cluster); yield how many films more are done, a shard at a time.

    A cluster is joined where the process is part of one already or ``RAY_ADDRESS`` names one; else one is started on this machine, and
    ended with the run. Ray's exceptions pass through where it gives a shard up; what is finished stays.
    """
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no report of the run leaves this machine unasked
        ray.init(include_dashboard=False, log_to_driver=False, num_cpus=None if os.environ.get("RAY_ADDRESS") else jobs or None)
    ray.data.DataContext.get_current().enable_progress_bars = False  # the caller shows progress
    try:
        actors = min(jobs or int(ray.cluster_resources()["CPU"]), len(shards))
        graded = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards)).map_batches(
            _Actor,
            fn_constructor_args=(plan, predictor),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=1,
            max_task_retries=RETRIES,
        )
        for row in graded.iter_rows():
            yield int(row["films"])
    finally:
        if started:
            ray.shutdown()


class _Actor:
    """A :class:`ShardGrader` as Ray Data calls it."""

    def __init__(self, plan: Plan, predictor: Grades) -> None:
        self._plan = plan
        self._grader = ShardGrader(plan, predictor)

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[int]]:
        """Grade the shards of ``rows``, but for those that a dead actor had finished."""
        films = []
        for shard in (int(shard) for shard in rows["shard"]):
            if not shard_file(self._plan.folder, "predictions", shard).exists():
                for _ in self._grader.grade(shard):
                    pass
            films.append(self._plan.size(shard))
        return {"films": films}
