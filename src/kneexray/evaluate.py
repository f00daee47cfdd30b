"""From stored probabilities to the report's data: ``evaluate`` composes the metrics, and says what could not be computed and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kneexray import metrics
from kneexray.calibrate import merge
from kneexray.errors import DataError, choices
from kneexray.tasks import TASKS, Task, get_task

SplitQuality = Literal["patient", "cluster", "image"]
Invalid = Literal["raise", "drop"]
Texts = Sequence[str | None]

SPLIT_QUALITY: MappingProxyType[SplitQuality, str] = MappingProxyType(
    {
        "patient": "Split by patient: no patient has images on both sides of the split.",
        "cluster": "Patients unknown, split by near-duplicate cluster: copies are kept apart, but another image of a patient may have been "
        "trained on. The figures may flatter the model.",
        "image": "Split by image: images of one patient, or copies, may lie on both sides of the split. The figures flatter the model and "
        "should not be quoted.",
    }
)
"""What kept training and test apart, and what follows from it."""

FEW = 10
"""A class with fewer images than this gets a note: its figures rest on very little."""

_TOLERANCE = 1e-3  # stored probabilities may be rounded to three decimals


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationInput:
    """The stored answers of one model for one task: N rows, a knee each.

    ``target`` (N,) indexes the task's labels; ``probabilities`` and, where kept, ``logits`` are (N, K) in their order.
    ``patient_id`` is the unit of the bootstrap; None or empty means unknown. ``split_quality`` is a key of :data:`SPLIT_QUALITY`.
    Raises :class:`~kneexray.errors.DataError` where lengths differ.
    """

    task: str
    model_id: str
    split_quality: SplitQuality
    file: Sequence[str]
    target: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    patient_id: Texts
    side: Texts
    split: Texts
    source: Texts
    logits: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, classes = len(self.file), len(get_task(self.task).labels)
        if self.split_quality not in SPLIT_QUALITY:
            raise DataError(choices("split quality", self.split_quality, SPLIT_QUALITY))
        for name in ("target", "patient_id", "side", "split", "source"):
            if len(getattr(self, name)) != n:
                raise DataError(f"{n} files but {len(getattr(self, name))} values of {name}; give one a file")
        for name in ("probabilities", "logits"):
            if (values := getattr(self, name)) is not None and np.shape(values) != (n, classes):
                raise DataError(f"{name} of task {self.task!r} must have shape {(n, classes)}, not {np.shape(values)}")

    def take(self, rows: NDArray[Any]) -> EvaluationInput:
        """Return the rows of an index or boolean array."""
        chosen = np.arange(len(self.file))[rows]

        def texts(values: Sequence[Any]) -> list[Any]:
            return [values[row] for row in chosen]

        return replace(
            self,
            file=texts(self.file),
            target=self.target[chosen],
            probabilities=self.probabilities[chosen],
            patient_id=texts(self.patient_id),
            side=texts(self.side),
            split=texts(self.split),
            source=texts(self.source),
            logits=None if self.logits is None else self.logits[chosen],
        )


def usable(inputs: EvaluationInput, *, invalid: Invalid = "raise") -> EvaluationInput:
    """Return ``inputs`` if every row can be evaluated.

    Rows that cannot (no true label, probabilities that are not finite, are out of range or do not sum to 1 within 0.001) raise
    :class:`~kneexray.errors.DataError` that names file and value; with ``invalid="drop"`` they are left out and noted.
    """
    given, target = np.asarray(inputs.probabilities, dtype=np.float64), np.asarray(inputs.target)
    classes, total = given.shape[1], given.sum(axis=1)
    checks = (
        (~((target >= 0) & (target < classes)), f"true label index {{target}} is outside 0..{classes - 1}"),
        (~(np.abs(total - 1) <= _TOLERANCE), "probabilities {values} sum to {total:.4g}, not 1"),
        (~((given >= -_TOLERANCE) & (given <= 1 + _TOLERANCE)).all(axis=1), "probabilities {values} are not all between 0 and 1"),
        (~np.isfinite(given).all(axis=1), "probabilities {values} are not all finite"),
    )
    reasons: dict[int, str] = {}
    for wrong, reason in checks:
        for row in np.flatnonzero(wrong):
            values = f"[{', '.join(f'{value:.4g}' for value in given[row])}]"
            reasons[int(row)] = reason.format(target=target[row], values=values, total=total[row])
    return leave_out(inputs, reasons, invalid=invalid)


def leave_out(inputs: EvaluationInput, reasons: dict[int, str], *, invalid: Invalid) -> EvaluationInput:
    """Return ``inputs`` without the rows of ``reasons``, and noted; if ``invalid`` is ``raise``, raise a DataError that names them."""
    if not reasons:
        return inputs
    listed = "; ".join(f"{inputs.file[row]}: {reason}" for row, reason in list(reasons.items())[:5])
    more = f"; and {len(reasons) - 5} more" if len(reasons) > 5 else ""
    if invalid == "raise":
        raise DataError(f"{len(reasons)} of {len(inputs.file)} rows cannot be evaluated ({listed}{more}). Correct them or leave them out")
    kept = np.setdiff1d(np.arange(len(inputs.file)), list(reasons))
    note = f"{len(reasons)} of {len(inputs.file)} rows were left out ({listed}{more})."
    return replace(inputs.take(kept), notes=(*inputs.notes, note))


def patients(inputs: EvaluationInput) -> NDArray[np.int64]:
    """Return (N,): the patients numbered 0..P-1 by first appearance; a row without a patient counts as one of its own."""
    number: dict[object, int] = {}
    keys = [("id", name) if name else ("row", row) for row, name in enumerate(inputs.patient_id)]
    return np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)


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
    task, owner = get_task(checked.task), patients(checked)
    tallied = metrics.tally(checked.probabilities, checked.target, owner)
    estimates = _Estimates.of(tallied, replicates=replicates, seed=seed)
    oa = _oa(checked, task, owner, threshold=oa_threshold, replicates=replicates, seed=seed)
    headline = {
        name: estimates.scalar(name) if task.ordinal or name not in metrics.ORDINAL_ONLY else _value(None, None)
        for name in metrics.HEADLINE
    }
    return {
        "version": 1,
        "task": task.name,
        "labels": list(task.labels),
        "model_id": checked.model_id,
        "n": len(checked.file),
        "n_patients": tallied.patients,
        "split_quality": checked.split_quality,
        "splits": dict(Counter(text or "unknown" for text in checked.split)),
        "sources": dict(Counter(text or "unknown" for text in checked.source)),
        **headline,
        "per_class": {
            label: {
                "support": int(estimates.point["support"][0, place]),
                **{name: estimates.scalar(name, place) for name in metrics.PER_CLASS},
            }
            for place, label in enumerate(task.labels)
        },
        "confusion_matrix": estimates.point["confusion"][0].astype(int).tolist(),
        "reliability": _reliability(estimates),
        "oa": oa,
        "bootstrap": {"unit": _unit(checked), "replicates": replicates, "seed": seed, "level": 0.95},
        "notes": [*checked.notes, *_notes(checked, task, estimates), *_oa_notes(oa)],
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Estimates:
    """Metrics of the rows as they are, and of the resamples (None with a single patient)."""

    point: dict[str, metrics.Floats]
    samples: dict[str, metrics.Floats] | None

    @classmethod
    def of(cls, tallied: metrics.Tally, *, replicates: int, seed: int) -> _Estimates:
        samples = metrics.bootstrap(tallied, replicates=replicates, seed=seed) if tallied.patients > 1 and replicates else None
        return cls(metrics.measure(tallied, np.ones(tallied.patients)), samples)

    def scalar(self, name: str, place: int | None = None) -> dict[str, float | None]:
        """Return value and interval of a metric, or of its class or bin ``place``."""
        values, samples = self.point[name], self.samples[name] if self.samples else None
        if place is not None:
            values, samples = values[:, place], samples[:, place] if samples is not None else None
        if np.isnan(values[0]):
            return _value(None, None)
        return _value(float(values[0]), metrics.interval(samples) if samples is not None else None)


def _value(value: float | None, bounds: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = bounds or (None, None)
    return {"value": value, "low": low, "high": high}


def _reliability(estimates: _Estimates) -> list[dict[str, Any]]:
    return [
        {
            "from": place / metrics.BINS,
            "to": (place + 1) / metrics.BINS,
            "n": int(estimates.point["bin_images"][0, place]),
            "confidence": estimates.scalar("bin_confidence", place)["value"],
            "accuracy": estimates.scalar("bin_accuracy", place),
        }
        for place in range(metrics.BINS)
    ]


def _oa(
    inputs: EvaluationInput, task: Task, owner: NDArray[np.int64], *, threshold: float, replicates: int, seed: int
) -> dict[str, Any] | None:
    """OA yes or no, from the task that OA is derived from or from OA itself; None for other tasks."""
    source, first = TASKS["oa"].derived or ("oa", 1)
    if task.name not in ("oa", source):
        return None
    first = 1 if task.name == "oa" else first
    probabilities, truth = merge(inputs.probabilities, first_positive=first), (inputs.target >= first).astype(np.int64)
    tallied = metrics.tally(probabilities, truth, owner, grade=(probabilities[:, 1] > threshold).astype(np.int64))
    estimates = _Estimates.of(tallied, replicates=replicates, seed=seed)
    positives = int(truth.sum())
    return {
        "threshold": threshold,
        "n_positive": positives,
        "n_negative": len(truth) - positives,
        "sensitivity": estimates.scalar("recall", 1),
        "specificity": estimates.scalar("recall", 0),
        "auc": estimates.scalar("auc", 1),
    }


def _notes(inputs: EvaluationInput, task: Task, estimates: _Estimates) -> list[str]:
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
        notes.append(f"The model never answered {' or '.join(unanswered)}: precision is not defined there.")
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
