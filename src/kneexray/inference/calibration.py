"""Calibrated probabilities: fitted on logits the model did not train on, kept with the prediction sets' thresholds as plain JSON.

Temperature and vector scaling: Guo et al., ICML 2017 (arXiv:1706.04599). Prediction sets: :mod:`kneexray.inference.conformal`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from kneexray.errors import ConfigError, DataError
from kneexray.inference.conformal import (
    Floats,
    Integers,
    Thresholds,
    checked,
    fit_class_thresholds,
    fit_thresholds,
    number_groups,
    threshold_at,
)

Vector = tuple[tuple[float, float], ...]
"""Weight and bias of each label's logit."""
Scaling = Literal["temperature", "vector"]

FOLDS = 5
"""Of patients, in cross-fitting."""

_TEMPERATURES = (0.05, 20.0)
_BIAS = 10.0


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
    given, truth = checked(logits, target)
    own = given[np.arange(len(truth)), truth]
    low, high = -np.log(_TEMPERATURES[1]), -np.log(_TEMPERATURES[0])
    for _ in range(60):
        middle = (low + high) / 2
        expected = (softmax(given, temperature=float(np.exp(-middle))) * given).sum(axis=1)
        low, high = (low, middle) if (expected - own).mean() > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def fit_vector(logits: ArrayLike, target: ArrayLike) -> Vector:
    """Return the weight in [0.05, 20] and bias in [-10, 10] of each label that minimise the mean NLL of ``target`` (N,), a convex problem.

    A label that does not occur is driven out of every answer: give rows of each.
    """
    from scipy.optimize import minimize

    given, truth = checked(logits, target)
    n, classes = given.shape
    onehot = np.eye(classes)[truth]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weight, bias = parameters.reshape(2, classes)
        probabilities = softmax(given * weight + bias)
        excess = (probabilities - onehot) / n  # (N, K), the slope of the loss by scaled logit
        slope = np.concatenate([(excess * given).sum(axis=0), excess.sum(axis=0)])
        return -float(np.log(np.maximum(probabilities[np.arange(n), truth], np.finfo(np.float64).tiny)).mean()), slope

    start = np.concatenate([np.full(classes, 1 / fit_temperature(given, truth)), np.zeros(classes)])
    bounds = [(1 / _TEMPERATURES[1], 1 / _TEMPERATURES[0])] * classes + [(-_BIAS, _BIAS)] * classes
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-8})
    weight, bias = found.x.reshape(2, classes)
    return tuple((float(w), float(b)) for w, b in zip(weight, bias - bias.mean(), strict=True))


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns a model's logits into honest probabilities and sets; the bundle's card stores :meth:`to_dict`.

    ``vector`` scales each label's logit in place of ``temperature``, where it is not empty. ``thresholds`` maps a task's name to its
    table: the model's own task, and each task derived from it (OA from KL); ``class_thresholds`` holds a table a label of each.
    """

    temperature: float = 1.0
    vector: Vector = ()
    thresholds: Mapping[str, Thresholds] = field(default_factory=lambda: MappingProxyType({}))
    class_thresholds: Mapping[str, tuple[Thresholds, ...]] = field(default_factory=lambda: MappingProxyType({}))
    ordinal: bool = True

    def apply(self, logits: ArrayLike) -> Floats:
        """Return calibrated probabilities (N, K) float64 of ``logits`` (N, K)."""
        if not self.vector:
            return softmax(logits, temperature=self.temperature)
        weight, bias = np.transpose(self.vector)
        return softmax(np.asarray(logits, dtype=np.float64) * weight + bias)

    def limits(self, task: str, *, coverage: float, per_class: bool = False) -> Floats:
        """Return the threshold of sets of ``task`` that hold the truth with probability ``coverage``: (1,), one for all labels.

        With ``per_class`` they are (K,), one a label, and the promise is kept within every true label and not only on average.

        Raises :class:`~kneexray.errors.ConfigError` where the model carries none, or none for ``coverage``.
        """
        if not per_class:
            return np.array([threshold_at(self.thresholds.get(task, ()), coverage)])
        if not (tables := self.class_thresholds.get(task, ())):
            raise ConfigError("this model carries no thresholds a class; ask for sets without them, or export the model again")
        return np.array([threshold_at(table, coverage) for table in tables])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; :meth:`from_dict` gives back an equal record, to the last bit."""
        tables = {task: [list(pair) for pair in table] for task, table in self.thresholds.items()}
        by_class = {task: [[list(pair) for pair in table] for table in tables] for task, tables in self.class_thresholds.items()}
        scaling: dict[str, Any] = {"vector": [list(pair) for pair in self.vector]} if self.vector else {"temperature": self.temperature}
        return {**scaling, "ordinal": self.ordinal, "thresholds": tables, "class_thresholds": by_class}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read :meth:`to_dict`; raises :class:`~kneexray.errors.DataError` that says what is wrong."""
        try:
            vector = tuple((float(weight), float(bias)) for weight, bias in values.get("vector", ()))
            temperature, ordinal = float(1.0 if vector else values["temperature"]), bool(values["ordinal"])
            tables = {task: _table(table) for task, table in values["thresholds"].items()}
            by_class = {task: tuple(map(_table, tables)) for task, tables in values.get("class_thresholds", {}).items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"the calibration record is not understood ({error!r}); export the bundle again") from error
        if not (np.isfinite(temperature) and temperature > 0):
            raise DataError(f"the calibration record has temperature {temperature}; it must be positive. Export the bundle again")
        if not all(np.isfinite(pair).all() and pair[0] > 0 for pair in vector):
            raise DataError(f"the calibration record has the vector {vector}; weights must be positive. Export the bundle again")
        for task, table in [*tables.items(), *((task, table) for task, many in by_class.items() for table in many)]:
            if not all(cover < next_cover and value <= next_value for (cover, value), (next_cover, next_value) in pairwise(table)):
                raise DataError(f"the thresholds of {task!r} in the calibration record do not grow with coverage; export the bundle again")
        return cls(temperature, vector, MappingProxyType(tables), MappingProxyType(by_class), ordinal)


def _table(values: Any) -> Thresholds:
    return tuple((float(coverage), float(threshold)) for coverage, threshold in values)


SCALINGS: MappingProxyType[Scaling, Callable[[ArrayLike, ArrayLike], Calibration]] = MappingProxyType(
    {
        "temperature": lambda logits, target: Calibration(temperature=fit_temperature(logits, target)),
        "vector": lambda logits, target: Calibration(vector=fit_vector(logits, target)),
    }
)
"""Each way of scaling logits, and how it is fitted."""


def folds_of(patient: Integers, *, seed: int = 0) -> Integers:
    """Return (N,): the fold of each row, patients numbered 0..P-1 dealt out at random to :data:`FOLDS` folds.

    Raises :class:`~kneexray.errors.DataError` with fewer patients than folds.
    """
    if (patients := int(patient.max()) + 1) < FOLDS:
        raise DataError(f"{patients} patients cannot be cut into {FOLDS} folds; give more data")
    return np.asarray((np.random.default_rng(seed).permutation(patients) % FOLDS)[patient], dtype=np.int64)


def cross_fit(logits: ArrayLike, target: ArrayLike, *, scaling: Scaling, groups: Sequence[object] | None = None, seed: int = 0) -> Floats:
    """Return probabilities (N, K) of ``logits`` (N, K): each fold of the patients ``groups`` (N,) scaled as fitted on the others."""
    given, truth = checked(logits, target)
    fold = folds_of(number_groups(groups, len(truth)), seed=seed)
    probabilities = np.empty_like(given)
    for held in range(FOLDS):
        probabilities[fold == held] = SCALINGS[scaling](given[fold != held], truth[fold != held]).apply(given[fold == held])
    return probabilities


def choose_scaling(logits: ArrayLike, target: ArrayLike, *, groups: Sequence[object] | None = None) -> Scaling:
    """Return the scaling whose cross-fitted NLL is lower; ``temperature`` where a label does not occur or patients are too few to tell."""
    given, truth = checked(logits, target)
    patients = number_groups(groups, len(truth)).max() + 1
    if patients < FOLDS or len(np.unique(truth)) < given.shape[1]:
        return "temperature"

    def loss(scaling: Scaling) -> float:
        own = cross_fit(given, truth, scaling=scaling, groups=groups)[np.arange(len(truth)), truth]
        return -float(np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean())

    return min(SCALINGS, key=loss)


def fit_calibration(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    task: str,
    ordinal: bool,
    groups: Sequence[object] | None = None,
    derived: Mapping[str, int] = MappingProxyType({}),
) -> Calibration:
    """Fit the scaling of :func:`choose_scaling`, then thresholds, for ``task`` and each ``derived`` one.

    ``derived`` maps a task's name to its first positive grade, see :func:`merge`.
    """
    scaled = SCALINGS[choose_scaling(logits, target, groups=groups)](logits, target)
    probabilities, truth = scaled.apply(logits), np.asarray(target)
    answers = {task: (probabilities, truth)}
    answers |= {name: (merge(probabilities, first_positive=first), truth >= first) for name, first in derived.items()}
    tables = {name: fit_thresholds(*answer, ordinal=ordinal, groups=groups) for name, answer in answers.items()}
    by_class = {name: fit_class_thresholds(*answer, ordinal=ordinal, groups=groups) for name, answer in answers.items()}
    return replace(scaled, thresholds=MappingProxyType(tables), class_thresholds=MappingProxyType(by_class), ordinal=ordinal)
