"""What calibration and prediction sets are worth on patients that did not calibrate them: each fold of patients by the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kneexray.evaluation.estimates import Estimates, Resampling, means
from kneexray.evaluation.metrics import Floats, Integers
from kneexray.inference.calibration import FOLDS, SCALINGS, Scaling, cross_fit, folds_of, softmax
from kneexray.inference.conformal import checked, fit_class_thresholds, fit_thresholds, membership, number_groups

COVERAGES: tuple[float, ...] = (0.8, 0.9, 0.95)
"""What sets are asked for when they are measured."""

MEASURED: tuple[str, ...] = ("nll", "brier", "ece", "accuracy")


def calibration(logits: Floats, target: Integers, resampling: Resampling) -> dict[str, Any]:
    """Return ``{"folds", "chosen", "raw": {...}, "temperature": {...}, "vector": {...}}``: calibration before and after.

    ``raw`` is the softmax of ``logits`` (N, K). Each has :data:`MEASURED` with intervals, and its ``reliability`` bins. Vector scaling is
    left out where a label does not occur, since it cannot be fitted.
    """
    groups = list(resampling.owner)
    answers = {"raw": softmax(logits)}
    for scaling in SCALINGS:
        if scaling != "vector" or len(np.unique(target)) == logits.shape[1]:
            answers[scaling] = cross_fit(logits, target, scaling=scaling, groups=groups)
    found = {name: Estimates.of(probabilities, target, resampling) for name, probabilities in answers.items()}
    chosen = min((name for name in found if name != "raw"), key=lambda name: found[name].point["nll"][0])
    return {
        "folds": FOLDS,
        "chosen": chosen,
        **{name: {**{metric: one.scalar(metric) for metric in MEASURED}, "reliability": one.reliability()} for name, one in found.items()},
    }


def prediction_sets(
    logits: Floats, target: Integers, resampling: Resampling, *, labels: Sequence[str], ordinal: bool, scaling: Scaling
) -> dict[str, Any]:
    """Return ``{"folds", "scaling", "sets": [...]}``: how often sets hold the truth, and how large they are.

    An entry a kind (``average``: one threshold; ``per_class``: one a label) and coverage asked for: ``measured``, ``mean_size`` and
    ``singletons`` (the share of sets with one label), each patient weighing one, and the first two for each true label.
    """
    groups = list(resampling.owner)
    member = cross_fit_sets(logits, target, ordinal=ordinal, scaling=scaling, groups=groups)
    weight = 1.0 / np.bincount(resampling.owner)[resampling.owner]
    entries = []
    for kind, per_coverage in member.items():
        for coverage, inside in zip(COVERAGES, per_coverage, strict=True):
            held, size = inside[np.arange(len(target)), target], inside.sum(axis=1)
            of_class = [weight * (target == place) for place in range(len(labels))]
            columns = [(held, weight), (size, weight), (size == 1, weight)]
            columns += [(values, own) for own in of_class for values in (held, size)]
            measured, mean_size, singletons, *classes = means(columns, resampling)
            per_class = {label: {"measured": classes[2 * place], "mean_size": classes[2 * place + 1]} for place, label in enumerate(labels)}
            entries.append(
                {
                    "kind": kind,
                    "coverage": coverage,
                    "measured": measured,
                    "mean_size": mean_size,
                    "singletons": singletons,
                    "per_class": per_class,
                }
            )
    return {"folds": FOLDS, "scaling": scaling, "sets": entries}


def summary(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a model's card holds of :func:`calibration` and :func:`prediction_sets` in ``evaluation``; None where they are not."""
    calibrated, found = evaluation["calibration"], evaluation["prediction_sets"]
    if calibrated is None or found is None:
        return None
    sets = [{key: value for key, value in entry.items() if key != "per_class"} for entry in found["sets"]]
    chosen = calibrated[calibrated["chosen"]]
    return {"scaling": calibrated["chosen"], "folds": FOLDS, **{name: chosen[name] for name in ("nll", "brier", "ece")}, "sets": sets}


def cross_fit_sets(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    ordinal: bool,
    scaling: Scaling = "temperature",
    groups: Sequence[object] | None = None,
    coverages: Sequence[float] = COVERAGES,
    seed: int = 0,
) -> dict[str, NDArray[np.bool_]]:
    """Return ``average`` and ``per_class``, (C, N, K) each: which labels are in the set of each row at each of C ascending ``coverages``.

    Scaling and thresholds of a fold come from the patients ``groups`` (N,) of the others. Raises
    :class:`~kneexray.errors.DataError` with fewer patients than folds.
    """
    given, truth = checked(logits, target)
    patient = number_groups(groups, len(truth))
    fold = folds_of(patient, seed=seed)
    kinds = {kind: np.zeros((len(coverages), *given.shape), dtype=bool) for kind in ("average", "per_class")}
    for held in range(FOLDS):
        fit, rest = fold != held, fold == held
        scaled = SCALINGS[scaling](given[fit], truth[fit])
        seen, new, own = scaled.apply(given[fit]), scaled.apply(given[rest]), list(patient[fit])
        average = [fit_thresholds(seen, truth[fit], ordinal=ordinal, groups=own, coverages=coverages)]
        by_class = fit_class_thresholds(seen, truth[fit], ordinal=ordinal, groups=own, coverages=coverages)
        for kind, tables in (("average", average), ("per_class", by_class)):
            for place in range(len(coverages)):
                limits = [table[place][1] for table in tables]
                kinds[kind][place, rest] = membership(new, limits, ordinal=ordinal)
    return kinds
