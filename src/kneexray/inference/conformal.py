"""Prediction sets that hold the true label as often as asked, for patients like those they were calibrated on.

Sets grow from the mode until a threshold of mass is reached: by the likelier neighbour for ordinal tasks (Ordinal APS: Lu, Angelopoulos &
Pomerantz, MICCAI 2022, arXiv:2207.02238), else by the likeliest label (APS without randomisation: Romano, Sesia & Candes, NeurIPS 2020,
arXiv:2006.02544). The threshold is the conformal quantile of the mass collected *before* the true label enters: the smallest threshold
at which a set "until the mass reaches it" holds the truth. Knees of one patient are not exchangeable, so each patient weighs one
(Lee, Barber & Willett 2023, arXiv:2306.06342): the promise is kept for a knee of a new patient, and with one knee a patient the quantile
is the usual ceil((n + 1) coverage) / n.

With a threshold a label, each fitted on the knees of that label alone, the promise is kept within every true label and not only on
average (Mondrian or label-conditional: Vovk, ACML 2012, arXiv:1209.2673).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kneexray.errors import ConfigError, DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Thresholds = tuple[tuple[float, float], ...]
"""Pairs (coverage, threshold), both ascending."""

COVERAGES: tuple[float, ...] = tuple(round(0.50 + 0.01 * step, 2) for step in range(50))
"""0.50, 0.51 ... 0.99: what a bundle can be asked for, beside 1.0 (all labels)."""

CLASS_COVERAGES: tuple[float, ...] = (*(round(0.50 + 0.05 * step, 2) for step in range(10)), 0.99)
"""0.50, 0.55 ... 0.95, 0.99: the same for thresholds a label; what lies between gets the next."""

ALL_LABELS = 1.0
"""The threshold at which every label is in the set."""


def entry_mass(probabilities: ArrayLike, *, ordinal: bool) -> Floats:
    """Return (N, K): the mass of the set before each label enters it, growing from the mode (whose entry is 0).

    A label is in the set of a threshold if its entry mass is at or below it, so sets are nested, hold the mode, and are
    contiguous where ``ordinal``. Of equal neighbours the lower enters first.
    """
    given = np.atleast_2d(np.asarray(probabilities, dtype=np.float64))
    entry = np.zeros_like(given)
    if not ordinal:
        order = np.argsort(-given, axis=1, kind="stable")
        mass = np.cumsum(np.take_along_axis(given, order, axis=1), axis=1)
        np.put_along_axis(entry, order[:, 1:], mass[:, :-1], axis=1)
        return entry
    rows = np.arange(len(given))
    walled = np.pad(given, ((0, 0), (1, 1)), constant_values=-1.0)  # (N, K + 2): a wall on either side is never entered
    low = high = given.argmax(axis=1) + 1
    total = walled[rows, low]
    for _ in range(given.shape[1] - 1):
        upwards = walled[rows, high + 1] > walled[rows, low - 1]
        low, high = np.where(upwards, low, low - 1), np.where(upwards, high + 1, high)
        entering = np.where(upwards, high, low)
        entry[rows, entering - 1] = total
        total = total + walled[rows, entering]
    return entry


def fit_thresholds(
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    ordinal: bool,
    groups: Sequence[object] | None = None,
    coverages: Sequence[float] = COVERAGES,
) -> Thresholds:
    """Return (coverage, threshold) pairs fitted on ``probabilities`` (N, K) with true label indices ``target`` (N,).

    ``groups`` (N,) names the patient of each row; None means one row a patient. A coverage that so few patients cannot
    promise gets :data:`ALL_LABELS`. Raises :class:`~kneexray.errors.DataError` for arrays that do not fit together.
    """
    given, truth = checked(probabilities, target)
    score = entry_mass(given, ordinal=ordinal)[np.arange(len(truth)), truth]
    return _quantiles(score, number_groups(groups, len(truth)), coverages=coverages)


def fit_class_thresholds(
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    ordinal: bool,
    groups: Sequence[object] | None = None,
    coverages: Sequence[float] = CLASS_COVERAGES,
) -> tuple[Thresholds, ...]:
    """Return a table as :func:`fit_thresholds` does for each of the K labels, fitted on the rows of that label alone.

    A label too rare for a coverage gets :data:`ALL_LABELS`: it is then in every set of that coverage.
    """
    given, truth = checked(probabilities, target)
    patient = number_groups(groups, len(truth))
    score = entry_mass(given, ordinal=ordinal)[np.arange(len(truth)), truth]
    own = (truth == label for label in range(given.shape[1]))
    return tuple(_quantiles(score[rows], np.unique(patient[rows], return_inverse=True)[1], coverages=coverages) for rows in own)


def _quantiles(score: Floats, patient: Integers, *, coverages: Sequence[float]) -> Thresholds:
    size = np.bincount(patient)
    order = np.argsort(score, kind="stable")
    reached = np.cumsum(1.0 / size[patient[order]]) / (len(size) + 1)  # the new patient's own weight lies at infinity
    places = np.searchsorted(reached, np.asarray(sorted(coverages)) - 1e-12)
    thresholds = np.append(score[order], ALL_LABELS)[places]
    return tuple((float(coverage), min(float(value), ALL_LABELS)) for coverage, value in zip(sorted(coverages), thresholds, strict=True))


def threshold_at(thresholds: Thresholds, coverage: float) -> float:
    """Return the threshold of the first stored coverage at or above ``coverage``; 1.0 means all labels.

    Raises :class:`~kneexray.errors.ConfigError` that names the range for a coverage outside it.
    """
    if coverage == 1.0:
        return ALL_LABELS
    if not thresholds:
        raise ConfigError("this model carries no prediction-set thresholds; ask for coverage 1.0, or calibrate and export it again")
    first, last = thresholds[0][0], thresholds[-1][0]
    if not first <= coverage <= last:
        raise ConfigError(f"coverage {coverage:g} is out of range: choose a value from {first:g} to {last:g}, or 1.0 for all labels")
    return next(value for stored, value in thresholds if stored >= coverage - 1e-9)


def membership(probabilities: ArrayLike, threshold: ArrayLike, *, ordinal: bool) -> NDArray[np.bool_]:
    """Return (N, K): which labels are in the sets of ``probabilities`` (N, K) at ``threshold``, one for all labels or (K,).

    The mode is always in. With a threshold a label an ordinal set could have a gap; it is filled, which can only raise coverage.
    """
    limit = np.asarray(threshold, dtype=np.float64)
    inside = (entry_mass(probabilities, ordinal=ordinal) <= limit) | (limit >= ALL_LABELS)
    if not ordinal:
        return inside
    from_below = np.logical_or.accumulate(inside, axis=1)
    from_above = np.logical_or.accumulate(inside[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(from_below & from_above)


def prediction_set(probabilities: ArrayLike, threshold: ArrayLike, *, ordinal: bool) -> tuple[int, ...]:
    """Return the ascending label indices of the set of ``probabilities`` (K,), see :func:`membership`."""
    return tuple(int(label) for label in np.flatnonzero(membership(probabilities, threshold, ordinal=ordinal)[0]))


def number_groups(groups: Sequence[object] | None, n: int) -> Integers:
    """Number the patients of ``n`` rows 0..G-1 in order of first appearance; without ``groups`` each row is its own."""
    if groups is None:
        return np.arange(n, dtype=np.int64)
    if len(groups) != n:
        raise DataError(f"{len(groups)} patients were given for {n} rows; give one a row")
    number: dict[object, int] = {}
    return np.array([number.setdefault(group, len(number)) for group in groups], dtype=np.int64)


def checked(scores: ArrayLike, target: ArrayLike) -> tuple[Floats, Integers]:
    """Return finite ``scores`` (N, K) and label indices ``target`` (N,) as arrays, or raise a DataError that says what does not fit."""
    given, truth = np.asarray(scores, dtype=np.float64), np.asarray(target).astype(np.int64)
    if given.ndim != 2 or truth.shape != given.shape[:1] or not len(truth):
        raise DataError(f"expected scores (N, K) and one label index a row, N at least 1; got shapes {given.shape} and {truth.shape}")
    if not np.isfinite(given).all():
        raise DataError(f"row {int(np.flatnonzero(~np.isfinite(given).all(axis=1))[0])} of the scores is not finite; leave it out")
    if truth.min() < 0 or truth.max() >= given.shape[1]:
        raise DataError(f"label index {int(truth.min() if truth.min() < 0 else truth.max())} is outside 0..{given.shape[1] - 1}")
    return given, truth
