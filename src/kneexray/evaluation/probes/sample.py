"""A seeded draw of labelled knees, patients whole, and figures over them with patient-bootstrap intervals that are paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kneexray.errors import DataError
from kneexray.evaluation import metrics
from kneexray.evaluation.answers import Labelled
from kneexray.evaluation.estimates import Value, value
from kneexray.evaluation.metrics import Floats, Integers

REPLICATES = 1000
"""Resamples of the patients behind every interval."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """N labelled images of P patients.

    ``target`` and ``patient`` (N,) are label indices and patients numbered from 0. ``weights`` (1 + B, P) are how often each patient
    counts: once in the first row, as drawn with replacement in the others. Every figure is computed a row; so all are paired.
    """

    items: tuple[Labelled, ...]
    target: Integers
    patient: Integers
    weights: Floats

    @property
    def patients(self) -> int:
        """How many patients there are."""
        return len(np.unique(self.patient))

    def take(self, rows: Sequence[int]) -> Sample:
        """Return the images ``rows``, their figures still paired with those of all."""
        chosen = list(rows)
        return replace(self, items=tuple(self.items[row] for row in chosen), target=self.target[chosen], patient=self.patient[chosen])

    def scores(self, probabilities: Floats) -> tuple[Floats, Floats]:
        """Return accuracy and QWK (1 + B,) of ``probabilities`` (N, K); NaN where there is no image."""
        if not self.items:
            return np.full(len(self.weights), np.nan), np.full(len(self.weights), np.nan)
        tally = metrics.tally(probabilities, self.target, self.patient)
        measured = metrics.measure(tally, self.weights[:, : tally.patients])
        return measured["accuracy"], measured["qwk"]

    def mean(self, values: Floats) -> Floats:
        """Return the mean (1 + B,) of ``values`` (N,) over the images."""
        sums = np.zeros((len(self.weights[0]), 2))
        np.add.at(sums, self.patient, np.stack([values, np.ones_like(values)], axis=1))
        total, images = np.moveaxis(self.weights @ sums, 1, 0)
        with np.errstate(invalid="ignore"):  # a resample may hold none of the images that were taken
            return np.asarray(total / images, dtype=np.float64)


def draw(items: Sequence[Labelled], *, most: int, seed: int) -> Sample:
    """Return at most ``most`` of ``items``: all images of patients drawn at random, in the order given.

    An image whose patient is not known stands for itself. Raises :class:`~kneexray.errors.DataError` where nothing can be drawn.
    """
    owner = [("patient", item.example.patient_id) if item.example.patient_id else ("image", str(row)) for row, item in enumerate(items)]
    patients = list(dict.fromkeys(owner))
    generator = np.random.default_rng(seed)
    rank = dict(zip(patients, generator.permutation(len(patients)).tolist(), strict=True))
    rows = np.argsort([rank[key] for key in owner], kind="stable")
    places = np.array([rank[owner[row]] for row in rows], dtype=np.int64)
    whole = np.append(places[1:] != places[:-1], True)  # the last image of each patient
    fits = np.flatnonzero(whole[:most])
    if not len(fits):
        raise DataError(f"no patient's images fit into the {most} asked for ({len(items)} images are there); ask for more images")
    chosen = np.sort(rows[: fits[-1] + 1])
    number = {key: place for place, key in enumerate(dict.fromkeys(owner[row] for row in chosen))}
    weights = [np.ones((1, len(number)))]
    if len(number) > 1:
        weights += metrics.resamples(len(number), replicates=REPLICATES, seed=seed)
    return Sample(
        tuple(items[row] for row in chosen),
        np.array([items[row].target for row in chosen], dtype=np.int64),
        np.array([number[owner[row]] for row in chosen], dtype=np.int64),
        np.concatenate(weights),
    )


def estimate(samples: Floats) -> Value:
    """Return the first of ``samples`` (1 + B,) with the interval of the others."""
    return value(float(samples[0]), samples[1:] if len(samples) > 1 else None)


def words(samples: Floats) -> str:
    """Return :func:`estimate` as a person reads it."""
    found = estimate(samples)
    if found["value"] is None:
        return "not defined"
    return f"{found['value']:.3f}" + ("" if found["low"] is None else f" ({found['low']:.3f} to {found['high']:.3f})")


def exceeds(samples: Floats, limit: float) -> bool:
    """Return whether the interval of ``samples`` (1 + B,) lies above ``limit``; without an interval nothing is shown."""
    low = estimate(samples)["low"]
    return low is not None and low > limit
