"""Calibrated probabilities and prediction sets: fitted on logits the model did not train on, kept as plain JSON.

Temperature scaling: Guo et al., ICML 2017 (arXiv:1706.04599). Prediction sets grow from the mode until a threshold of mass
is reached: by the likelier neighbour for ordinal tasks (Ordinal APS: Lu, Angelopoulos & Pomerantz, MICCAI 2022,
arXiv:2207.02238), else by the likeliest label (APS without randomisation: Romano, Sesia & Candes, NeurIPS 2020,
arXiv:2006.02544). The threshold is the conformal quantile of the mass collected *before* the true label enters: the
smallest threshold at which a set "until the mass reaches it" holds the truth. Knees of one patient are not exchangeable, so
each patient weighs one (Lee, Barber & Willett 2023, arXiv:2306.06342): the promise is kept for a knee of a new patient, and
with one knee a patient the quantile is the usual ceil((n + 1) coverage) / n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kneexray.errors import ConfigError, DataError

Floats = NDArray[np.float64]
Thresholds = tuple[tuple[float, float], ...]
"""Pairs (coverage, threshold), both ascending."""

COVERAGES: tuple[float, ...] = tuple(round(0.50 + 0.01 * step, 2) for step in range(50))
"""0.50, 0.51 ... 0.99: what a bundle can be asked for, beside 1.0 (all labels)."""

ALL_LABELS = 1.0
"""The threshold at which every label is in the set."""

_TEMPERATURES = (0.05, 20.0)


def softmax(logits: ArrayLike, *, temperature: float = 1.0) -> Floats:
    """Return probabilities (..., K) float64 of ``logits`` (..., K) divided by ``temperature``."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=-1, keepdims=True), dtype=np.float64)


def merge(probabilities: ArrayLike, *, first_positive: int) -> Floats:
    """Return (..., 2): the mass below grade ``first_positive`` and from it on. OA of KL probabilities has ``first_positive=2``."""
    given = np.asarray(probabilities, dtype=np.float64)  # (..., K)
    return np.stack([given[..., :first_positive].sum(axis=-1), given[..., first_positive:].sum(axis=-1)], axis=-1)


def fit_temperature(logits: ArrayLike, target: ArrayLike) -> float:
    """Return the temperature in [0.05, 20] that minimises the mean NLL of ``target`` (N,) under ``logits`` (N, K).

    The NLL is convex in b = 1 / T and its slope is mean(E_b[z] - z_true), so a bisection over log b finds the minimum. Where
    there is none within the range (every label right, or logits without information) the nearer end is returned.
    """
    given, truth = _checked(logits, target)
    own = given[np.arange(len(truth)), truth]
    low, high = -np.log(_TEMPERATURES[1]), -np.log(_TEMPERATURES[0])
    for _ in range(60):
        middle = (low + high) / 2
        expected = (softmax(given, temperature=float(np.exp(-middle))) * given).sum(axis=1)
        low, high = (low, middle) if (expected - own).mean() > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


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
    given, truth = _checked(probabilities, target)
    score = entry_mass(given, ordinal=ordinal)[np.arange(len(truth)), truth]
    patient = _group_index(groups, len(truth))
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


def prediction_set(probabilities: ArrayLike, threshold: float, *, ordinal: bool) -> tuple[int, ...]:
    """Return the ascending label indices of the set of ``probabilities`` (K,) at ``threshold``; the mode is always in it."""
    entry = entry_mass(probabilities, ordinal=ordinal)[0]
    return tuple(int(label) for label in np.flatnonzero((entry <= threshold) | (threshold >= ALL_LABELS)))


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns a model's logits into honest probabilities and sets; the bundle's card stores :meth:`to_dict`.

    ``thresholds`` maps a task's name to its table: the model's own task, and each task derived from it (OA from KL).
    """

    temperature: float = 1.0
    thresholds: Mapping[str, Thresholds] = field(default_factory=lambda: MappingProxyType({}))
    ordinal: bool = True

    def apply(self, logits: ArrayLike) -> Floats:
        """Return calibrated probabilities (N, K) float64 of ``logits`` (N, K)."""
        return softmax(logits, temperature=self.temperature)

    def prediction_set(self, probabilities: ArrayLike, *, task: str, coverage: float) -> tuple[int, ...]:
        """Return the label indices that hold the true one with probability ``coverage``, for ``probabilities`` (K,) of ``task``."""
        threshold = threshold_at(self.thresholds.get(task, ()), coverage)
        return prediction_set(probabilities, threshold, ordinal=self.ordinal)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; :meth:`from_dict` gives back an equal record, to the last bit."""
        tables = {task: [list(pair) for pair in table] for task, table in self.thresholds.items()}
        return {"temperature": self.temperature, "ordinal": self.ordinal, "thresholds": tables}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read :meth:`to_dict`; raises :class:`~kneexray.errors.DataError` that says what is wrong."""
        try:
            temperature, ordinal = float(values["temperature"]), bool(values["ordinal"])
            tables = {task: tuple((float(cover), float(value)) for cover, value in table) for task, table in values["thresholds"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"the calibration record is not understood ({error!r}); export the bundle again") from error
        if not (np.isfinite(temperature) and temperature > 0):
            raise DataError(f"the calibration record has temperature {temperature}; it must be positive. Export the bundle again")
        for task, table in tables.items():
            if not all(cover < next_cover and value <= next_value for (cover, value), (next_cover, next_value) in pairwise(table)):
                raise DataError(f"the thresholds of {task!r} in the calibration record do not grow with coverage; export the bundle again")
        return cls(temperature=temperature, thresholds=MappingProxyType(tables), ordinal=ordinal)


def fit_calibration(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    task: str,
    ordinal: bool,
    groups: Sequence[object] | None = None,
    derived: Mapping[str, int] = MappingProxyType({}),
) -> Calibration:
    """Fit temperature, then thresholds, for ``task`` and for each ``derived`` one (name -> first positive grade, see :func:`merge`)."""
    temperature = fit_temperature(logits, target)
    probabilities, truth = softmax(logits, temperature=temperature), np.asarray(target)
    tables = {task: fit_thresholds(probabilities, truth, ordinal=ordinal, groups=groups)}
    for name, first in derived.items():
        merged = merge(probabilities, first_positive=first)
        tables[name] = fit_thresholds(merged, truth >= first, ordinal=ordinal, groups=groups)
    return Calibration(temperature=temperature, thresholds=MappingProxyType(tables), ordinal=ordinal)


@dataclass(frozen=True, slots=True)
class CoverageEstimate:
    """Sets measured on patients that did not calibrate them, each patient weighing one.

    ``measured`` is the share of sets that hold the truth, ``mean_size`` their mean number of labels, ``singletons`` the share with
    one label. ``per_class`` gives (measured, mean size) of each true label, None for one that does not occur.
    """

    coverage: float
    measured: float
    mean_size: float
    singletons: float
    per_class: tuple[tuple[float, float] | None, ...]


def cross_fit_coverage(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    ordinal: bool,
    groups: Sequence[object] | None = None,
    coverages: Sequence[float] = (0.8, 0.9, 0.95),
    folds: int = 5,
    seed: int = 0,
) -> tuple[CoverageEstimate, ...]:
    """Estimate coverage and size of the sets: each fold of patients by temperature and thresholds fitted on the others.

    ``logits`` is (N, K), ``target`` (N,) label indices, ``groups`` (N,) the patients. Raises
    :class:`~kneexray.errors.DataError` with fewer patients than ``folds``.
    """
    given, truth = _checked(logits, target)
    patient = _group_index(groups, len(truth))
    if (patients := int(patient.max()) + 1) < folds:
        raise DataError(f"{patients} patients cannot be cut into {folds} folds; give more data or fewer folds")
    fold = (np.random.default_rng(seed).permutation(patients) % folds)[patient]
    wanted = sorted(coverages)
    member = np.zeros((len(wanted), *given.shape), dtype=bool)  # (C, N, K)
    for held in range(folds):
        fit, rest = fold != held, fold == held
        temperature = fit_temperature(given[fit], truth[fit])
        probabilities = softmax(given, temperature=temperature)
        table = fit_thresholds(probabilities[fit], truth[fit], ordinal=ordinal, groups=list(patient[fit]), coverages=wanted)
        entry = entry_mass(probabilities[rest], ordinal=ordinal)
        for place, (_, threshold) in enumerate(table):
            member[place, rest] = (entry <= threshold) | (threshold >= ALL_LABELS)
    weight = 1.0 / np.bincount(patient)[patient]
    return tuple(_estimate(coverage, chosen, truth, weight) for coverage, chosen in zip(wanted, member, strict=True))


def _estimate(coverage: float, member: NDArray[np.bool_], truth: NDArray[np.int64], weight: Floats) -> CoverageEstimate:
    held, size = member[np.arange(len(truth)), truth], member.sum(axis=1)

    def mean(values: NDArray[Any], where: NDArray[np.bool_]) -> float:
        return float(np.average(values[where], weights=weight[where]))

    everyone = np.ones(len(truth), dtype=bool)
    per_class = tuple(
        (mean(held, truth == label), mean(size, truth == label)) if (truth == label).any() else None for label in range(member.shape[1])
    )
    return CoverageEstimate(coverage, mean(held, everyone), mean(size, everyone), mean(size == 1, everyone), per_class)


def _group_index(groups: Sequence[object] | None, n: int) -> NDArray[np.int64]:
    """Number the patients 0..G-1 in order of first appearance."""
    if groups is None:
        return np.arange(n, dtype=np.int64)
    if len(groups) != n:
        raise DataError(f"{len(groups)} patients were given for {n} rows; give one a row")
    number: dict[object, int] = {}
    return np.array([number.setdefault(group, len(number)) for group in groups], dtype=np.int64)


def _checked(scores: ArrayLike, target: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    given, truth = np.asarray(scores, dtype=np.float64), np.asarray(target).astype(np.int64)
    if given.ndim != 2 or truth.shape != given.shape[:1] or not len(truth):
        raise DataError(f"expected scores (N, K) and one label index a row, N at least 1; got shapes {given.shape} and {truth.shape}")
    if not np.isfinite(given).all():
        raise DataError(f"row {int(np.flatnonzero(~np.isfinite(given).all(axis=1))[0])} of the scores is not finite; leave it out")
    if truth.min() < 0 or truth.max() >= given.shape[1]:
        raise DataError(f"label index {int(truth.min() if truth.min() < 0 else truth.max())} is outside 0..{given.shape[1] - 1}")
    return given, truth
