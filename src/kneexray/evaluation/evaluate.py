"""From stored probabilities to the report's data: ``evaluate`` composes the metrics, and says what could not be computed and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from kneexray.errors import DataError
from kneexray.evaluation import crossfit, metrics
from kneexray.evaluation.estimates import UNDEFINED, Estimates, Resampling
from kneexray.evaluation.inputs import SPLIT_QUALITY as SPLIT_QUALITY
from kneexray.evaluation.inputs import EvaluationInput as EvaluationInput
from kneexray.evaluation.inputs import Invalid, patients, usable
from kneexray.evaluation.subgroups import FEWEST, subgroups
from kneexray.inference.calibration import FOLDS, merge
from kneexray.tasks import TASKS, Task, get_task

NEVER = "The model never answered"
"""How the note about a class begins that is never the answer; the cards of models keep it."""
FEW = 10
"""A class with fewer images than this gets a note: its figures rest on very little."""


def evaluate(
    inputs: EvaluationInput, *, invalid: Invalid = "raise", oa_threshold: float = 0.5, replicates: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Return the content of ``metrics.json``: plain JSON values, None for what is not defined, and ``notes`` that say why.

    Intervals are 95 % percentile intervals of ``replicates`` resamples of the patients. ``oa`` is given for KL and OA: the mass of KL >= 2
    above ``oa_threshold`` counts as yes. Raises :class:`~kneexray.errors.DataError` for rows that cannot be used (see :func:`usable`)
    and where none is left.
    """
    checked = usable(inputs, invalid=invalid)
    if not len(checked.file):
        raise DataError("no row is left to evaluate; check the split's name and the rows that were left out: " + " ".join(checked.notes))
    task, resampling = get_task(checked.task), Resampling(patients(checked), replicates, seed)
    estimates = Estimates.of(checked.probabilities, checked.target, resampling)
    groups, oa = subgroups(checked, resampling), _oa(checked, task, resampling, threshold=oa_threshold)
    return {
        "version": 1,
        "task": task.name,
        "labels": list(task.labels),
        "model_id": checked.model_id,
        "n": len(checked.file),
        "n_patients": resampling.patients,
        "split_quality": checked.split_quality,
        "splits": dict(Counter(text or "unknown" for text in checked.split)),
        "sources": dict(Counter(text or "unknown" for text in checked.source)),
        **{name: estimates.scalar(name) if task.ordinal or name not in metrics.ORDINAL_ONLY else UNDEFINED for name in metrics.HEADLINE},
        "per_class": {
            label: {
                "support": int(estimates.point["support"][0, place]),
                **{name: estimates.scalar(name, place) for name in metrics.PER_CLASS},
            }
            for place, label in enumerate(task.labels)
        },
        "averages": {kind: {name: estimates.scalar(f"{kind}_{name}") for name in metrics.AVERAGED} for kind in ("macro", "weighted")},
        "confusion_matrix": estimates.point["confusion"][0].astype(int).tolist(),
        "reliability": estimates.reliability(),
        "oa": oa,
        "subgroups": groups,
        **_cross_fitted(checked, task, resampling),
        "bootstrap": {"unit": _unit(checked), "replicates": replicates, "seed": seed, "level": 0.95},
        "notes": [*checked.notes, *_notes(checked, task, estimates), *_oa_notes(oa), *_further_notes(checked, groups, resampling)],
    }


def _oa(inputs: EvaluationInput, task: Task, resampling: Resampling, *, threshold: float) -> dict[str, Any] | None:
    """OA yes or no, from the task that OA is derived from or from OA itself; None for other tasks."""
    source, first = TASKS["oa"].derived or ("oa", 1)
    if task.name not in ("oa", source):
        return None
    first = 1 if task.name == "oa" else first
    probabilities, truth = merge(inputs.probabilities, first_positive=first), (inputs.target >= first).astype(np.int64)
    estimates = Estimates.of(probabilities, truth, resampling, grade=(probabilities[:, 1] > threshold).astype(np.int64))
    positives = int(truth.sum())
    return {
        "threshold": threshold,
        "n_positive": positives,
        "n_negative": len(truth) - positives,
        "sensitivity": estimates.scalar("recall", 1),
        "specificity": estimates.scalar("recall", 0),
        "auc": estimates.scalar("auc", 1),
    }


def _cross_fitted(inputs: EvaluationInput, task: Task, resampling: Resampling) -> dict[str, Any]:
    """Return ``calibration`` and ``prediction_sets`` as measured on patients that did not calibrate; None where that cannot be done."""
    if inputs.logits is None or not np.isfinite(inputs.logits).all() or resampling.patients < FOLDS:
        return {"calibration": None, "prediction_sets": None}
    calibration = crossfit.calibration(inputs.logits, inputs.target, resampling)
    sets = crossfit.prediction_sets(
        inputs.logits, inputs.target, resampling, labels=task.labels, ordinal=task.ordinal, scaling=calibration["chosen"]
    )
    return {"calibration": calibration, "prediction_sets": sets}


def _notes(inputs: EvaluationInput, task: Task, estimates: Estimates) -> list[str]:
    """Say what is missing, undefined or thin, and what follows from it."""
    notes = []
    names = [task.display(place) for place in range(len(task.labels))]
    support, precision = estimates.point["support"][0].astype(int), estimates.point["precision"][0]
    absent = [name for name, images in zip(names, support, strict=True) if not images]
    few = [f"{name} ({images})" for name, images in zip(names, support, strict=True) if 0 < images < FEW]
    unanswered = [name for name, value in zip(names, precision, strict=True) if np.isnan(value)]
    if absent:
        notes.append(f"No image is truly {' or '.join(absent)}: recall and AUC are not defined there, and class averages leave them out.")
    if few:
        notes.append(f"Few images of {', '.join(few)}: these figures, and averages over classes, rest on very little.")
    if unanswered:
        notes.append(f"{NEVER} {' or '.join(unanswered)}: precision is not defined there.")
    if not task.ordinal:
        notes.append(f"{task.title} has no order: {' and '.join(metrics.ORDINAL_ONLY)} are not defined.")
    elif np.isnan(estimates.point["qwk"][0]):
        notes.append("Truth and answers are all one class: kappa is not defined.")
    if np.isnan(estimates.point["macro_auc"][0]):
        notes.append("All images are of one class: AUC is not defined.")
    if estimates.samples is None:
        notes.append("No interval is given: that takes two patients or more.")
    else:
        thin = [name for name in metrics.HEADLINE if (np.isnan(estimates.samples[name]) & ~np.isnan(estimates.point[name])).any()]
        for name in thin:
            lost = int(np.isnan(estimates.samples[name]).sum())
            outcome = "its interval leaves them out" if metrics.interval(estimates.samples[name]) else "it gets no interval"
            words = name.replace("_", " ")
            notes.append(f"{words} is not defined in {lost} of {len(estimates.samples[name])} resamples: {outcome}.")
    if unknown := sum(not name for name in inputs.patient_id):
        notes.append(f"{unknown} of {len(inputs.file)} rows name no patient and stand for themselves: intervals may be too narrow.")
    repeated = [file for (file, _), times in Counter(zip(inputs.file, inputs.side, strict=True)).items() if times > 1]
    if repeated:
        notes.append(f"{len(repeated)} knees occur more than once (the first: {repeated[0]}); each row counts.")
    return notes


def _unit(inputs: EvaluationInput) -> str:
    """Name what ``n_patients`` counts and the bootstrap draws."""
    if not any(inputs.patient_id):
        return "image"
    return "cluster" if inputs.split_quality == "cluster" else "patient"


def _oa_notes(oa: dict[str, Any] | None) -> list[str]:
    if oa is None or (oa["n_positive"] and oa["n_negative"]):
        return []
    return [f"All images are {'without' if oa['n_negative'] else 'with'} OA: sensitivity or specificity, and AUC of OA, are not defined."]


def _further_notes(inputs: EvaluationInput, groups: list[dict[str, Any]], resampling: Resampling) -> list[str]:
    notes = []
    if inputs.logits is None or not np.isfinite(inputs.logits).all():
        notes.append("Logits are not stored for every row: calibration before and after, and prediction sets, are not measured.")
    elif resampling.patients < FOLDS:
        notes.append(f"Fewer than {FOLDS} patients: calibration and prediction sets cannot be measured on patients that did not calibrate.")
    small = [f"{row['attribute']} {row['name']} ({row['n_patients']})" for row in groups if row["too_small"]]
    if small:
        notes.append(f"Subgroups of fewer than {FEWEST} patients are too small for figures of their own: {', '.join(small)}.")
    return notes
