"""Metrics with their intervals, as ``metrics.json`` has them: ``{"value", "low", "high"}``, None for what is not defined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kneexray.evaluation import metrics

Value = dict[str, float | None]
UNDEFINED: Value = {"value": None, "low": None, "high": None}


@dataclass(frozen=True, slots=True, eq=False)
class Resampling:
    """How intervals are made: by ``replicates`` resamples of the patients; ``owner`` (N,) numbers each row's, 0..P-1."""

    owner: metrics.Integers
    replicates: int = 1000
    seed: int = 0

    @property
    def patients(self) -> int:
        """How many patients there are."""
        return int(self.owner.max()) + 1

    @property
    def possible(self) -> bool:
        """Whether there is anything to draw: one patient alone gives no interval."""
        return self.patients > 1 and self.replicates > 0

    def take(self, rows: NDArray[Any]) -> Resampling:
        """Return the same for some of the rows."""
        return Resampling(np.unique(self.owner[rows], return_inverse=True)[1], self.replicates, self.seed)


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Metrics of the rows as they are, and of the resamples (None with a single patient)."""

    point: dict[str, metrics.Floats]
    samples: dict[str, metrics.Floats] | None

    @classmethod
    def of(cls, probabilities: ArrayLike, target: ArrayLike, resampling: Resampling, *, grade: ArrayLike | None = None) -> Estimates:
        """Measure ``probabilities`` (N, K) of true classes ``target`` (N,); ``grade`` as for :func:`kneexray.evaluation.metrics.tally`."""
        tallied = metrics.tally(probabilities, target, resampling.owner, grade=grade)
        drawn = metrics.bootstrap(tallied, replicates=resampling.replicates, seed=resampling.seed) if resampling.possible else None
        return cls(metrics.measure(tallied, np.ones(tallied.patients)), drawn)

    def scalar(self, name: str, place: int | None = None) -> Value:
        """Return value and interval of a metric, or of its class or bin ``place``."""
        values, samples = self.point[name], self.samples[name] if self.samples else None
        if place is not None:
            values, samples = values[:, place], samples[:, place] if samples is not None else None
        return value(float(values[0]), samples)

    def reliability(self) -> list[dict[str, Any]]:
        """Return the bins of the reliability diagram."""
        return [
            {
                "from": place / metrics.BINS,
                "to": (place + 1) / metrics.BINS,
                "n": int(self.point["bin_images"][0, place]),
                "confidence": self.scalar("bin_confidence", place)["value"],
                "accuracy": self.scalar("bin_accuracy", place),
            }
            for place in range(metrics.BINS)
        ]


def means(columns: Sequence[tuple[ArrayLike, ArrayLike]], resampling: Resampling) -> list[Value]:
    """Return value and interval of the mean of each of ``columns``: pairs of values (N,) and weights (N,)."""
    patients = resampling.patients
    totals = np.empty((2, patients, len(columns)))
    for place, (values, weights) in enumerate(columns):
        weight = np.asarray(weights, dtype=np.float64)
        totals[0, :, place] = np.bincount(resampling.owner, weight * np.asarray(values, dtype=np.float64), patients)
        totals[1, :, place] = np.bincount(resampling.owner, weight, patients)
    draws = metrics.resamples(patients, replicates=resampling.replicates, seed=resampling.seed) if resampling.possible else ()
    with np.errstate(invalid="ignore"):
        point = totals[0].sum(axis=0) / totals[1].sum(axis=0)
        drawn = [weight @ totals[0] / (weight @ totals[1]) for weight in draws]
    samples = np.concatenate(drawn) if drawn else None
    return [value(float(mean), samples[:, place] if samples is not None else None) for place, mean in enumerate(point)]


def value(found: float, samples: metrics.Floats | None) -> Value:
    """Return ``found`` with the interval of its ``samples`` (B,)."""
    if np.isnan(found):
        return dict(UNDEFINED)
    low, high = (metrics.interval(samples) if samples is not None else None) or (None, None)
    return {"value": found, "low": low, "high": high}
