"""Osteoarthritis, yes or no: what each threshold of its probability costs and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kneexray.evaluation.estimates import Resampling, Value, means
from kneexray.evaluation.inputs import EvaluationInput, patients
from kneexray.inference.calibration import merge
from kneexray.tasks import TASKS

GRID = tuple(round(0.02 * step, 2) for step in range(1, 50))
"""The thresholds that are measured."""


@dataclass(frozen=True, slots=True)
class Operating:
    """What happens if the answer is yes where the probability of OA is above ``threshold``. The counts are of images."""

    threshold: float
    sensitivity: Value
    specificity: Value
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


def positive_from(task: str) -> int | None:
    """Return the first grade of ``task`` that is osteoarthritis, None for tasks that do not tell."""
    source, first = TASKS["oa"].derived or ("oa", 1)
    return {"oa": 1, source: first}.get(task)


def operating_points(inputs: EvaluationInput, *, replicates: int = 500) -> list[Operating]:
    """Return an entry for each threshold of :data:`GRID`, with 95 % intervals by patient bootstrap, as ``kneexray evaluate`` makes them.

    Raises ValueError for a task that does not tell osteoarthritis.
    """
    first = positive_from(inputs.task)
    if first is None:
        raise ValueError(f"task {inputs.task!r} does not tell osteoarthritis")
    probability = merge(inputs.probabilities, first_positive=first)[:, 1]
    positive = np.asarray(inputs.target) >= first
    answers = [probability > threshold for threshold in GRID]
    columns: list[tuple[Any, Any]] = [(yes, positive) for yes in answers] + [(~yes, ~positive) for yes in answers]
    found = means(columns, Resampling(patients(inputs), replicates))
    return [
        Operating(
            threshold,
            sensitivity,
            specificity,
            true_positive=int((yes & positive).sum()),
            false_positive=int((yes & ~positive).sum()),
            true_negative=int((~yes & ~positive).sum()),
            false_negative=int((~yes & positive).sum()),
        )
        for threshold, yes, sensitivity, specificity in zip(GRID, answers, found[: len(GRID)], found[len(GRID) :], strict=True)
    ]
