"""Where does a film's time go? Processor time of each stage of ``predict`` on one thread, so that other programs disturb it little.

    python benchmarks/stages.py FOLDER_OF_CROPS [--count 100] [--model BUNDLE]

Means over the films; what is loaded with the first is not counted. Heatmaps are drawn with each of the reports.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

from machine import describe

from kneexray import predict, roi
from kneexray.measure import joint_space
from kneexray.predict import Predictor
from kneexray.read import find_sources
from kneexray.roi import localiser
from kneexray.types import FilmResult
from kneexray.writers import DEFAULT_FORMATS, FolderWriter

NETWORKS = ("joint space: network", "grading: network")


class Clock:
    """Nanoseconds of this thread by stage; those of a stage within another count for the inner one alone."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._stage, self._since = "the rest", time.thread_time_ns()

    def timed(self, stage: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``action``, timed as ``stage``."""

        def call(*arguments: Any, **options: Any) -> Any:
            outer = self._turn_to(stage)
            try:
                return action(*arguments, **options)
            finally:
                self._turn_to(outer)

        return call

    def _turn_to(self, stage: str) -> str:
        before, now = self._stage, time.thread_time_ns()
        self.spent[before] += now - self._since
        self._stage, self._since = stage, now
        return before


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--model", type=Path, help="a bundle in place of the KL model that ships")
    options = parser.parse_args()
    sources = list(islice(find_sources([options.folder]), options.count))
    predictor = Predictor(models=[options.model] if options.model else (), threads=1, provider="cpu")
    for film in sources[0].read().radiographs:
        localiser.find_joints(film.pixels)
    _reports(predictor.grade_sources(sources[:1]))
    clock = Clock()
    results = _graded(predictor, sources, clock)
    stages = {stage: spent / 1e6 / len(sources) for stage, spent in clock.spent.items()}
    total = sum(stages.values())
    stages |= _reports(results)
    print(describe("onnxruntime", "numpy", "pillow"))
    graded = sum(bool(result.predictions) for result in results)
    print(f"{predictor.model_ids[0]}, {graded} of {len(sources)} films graded\n\n| stage | processor time, ms a film |\n|---|---|")
    print("\n".join(f"| {stage} | {spent:.2f} |" for stage, spent in stages.items()))
    print(f"\n{total:.2f} ms without reports; the networks are {sum(stages[name] for name in NETWORKS) / total:.1%} of it.")


def _reports(results: list[FilmResult]) -> dict[str, float]:
    """Return the milliseconds a film that each of the usual reports takes."""
    spent = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in DEFAULT_FORMATS:
            with FolderWriter(Path(folder) / name, formats=(name,)) as writer:
                began = time.thread_time_ns()
                for result in results:
                    writer.add(result)
                spent[f"{name} report"] = (time.thread_time_ns() - began) / 1e6 / len(results)
    return spent


def _graded(predictor: Predictor, sources: list[Any], clock: Clock) -> list[FilmResult]:
    """Return the results of ``sources``, the stages of the predictor timed."""
    (grader,) = predictor.graders
    with ExitStack() as stack:
        for owner, name, stage in (
            (predict, "_read", "read"),
            (roi, "find_knees", "find the knees"),
            (joint_space, "measure", "joint space: the rest"),
            (joint_space._engine(joint_space.NETWORK), "run", "joint space: network"),
            (predict, "batch", "grading: input"),
            (grader.session, "run", "grading: network"),
            (grader, "grade", "grading: probabilities, sets, heatmap"),
        ):
            stack.enter_context(patch.object(owner, name, clock.timed(stage, getattr(owner, name))))
        return [predictor.grade_sources([source])[0] for source in sources]


if __name__ == "__main__":
    main()
