"""What is evaluated: the stored answers of one model for one task, and which of them can be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kneexray.errors import DataError, choices
from kneexray.tasks import get_task

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

FACTS: MappingProxyType[str, type] = MappingProxyType({"sha256": str, "sex": str, "width": int, "height": int})
"""Further columns: the SHA-256 of the file, the patient's sex, and the size of the image in pixels."""

_TOLERANCE = 1e-3  # stored probabilities may be rounded to three decimals


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationInput:
    """The stored answers of one model for one task: N rows, a knee each.

    ``target`` (N,) indexes the task's labels; ``probabilities`` and, where kept, ``logits`` are (N, K) in their order.
    ``patient_id`` is the unit of the bootstrap; None or empty means unknown. ``split_quality`` is a key of :data:`SPLIT_QUALITY`.
    ``facts`` holds those of the columns :data:`FACTS` that are known, a value or None a row.
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
    facts: Mapping[str, Sequence[Any]] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, classes = len(self.file), len(get_task(self.task).labels)
        if self.split_quality not in SPLIT_QUALITY:
            raise DataError(choices("split quality", self.split_quality, SPLIT_QUALITY))
        for name in ("target", "patient_id", "side", "split", "source"):
            if len(getattr(self, name)) != n:
                raise DataError(f"{n} files but {len(getattr(self, name))} values of {name}; give one a file")
        for name, known in self.facts.items():
            if name not in FACTS or len(known) != n:
                raise DataError(f"{choices('fact', name, FACTS)} Each has {n} values, one a file; not {len(known)}")
        for name in ("probabilities", "logits"):
            if (values := getattr(self, name)) is not None and np.shape(values) != (n, classes):
                raise DataError(f"{name} of task {self.task!r} must have shape {(n, classes)}, not {np.shape(values)}")

    def take(self, rows: NDArray[Any]) -> EvaluationInput:
        """Return the rows of an index or boolean array."""
        chosen = np.arange(len(self.file))[rows]

        def some(values: Sequence[Any]) -> list[Any]:
            return [values[row] for row in chosen]

        return replace(
            self,
            file=some(self.file),
            target=self.target[chosen],
            probabilities=self.probabilities[chosen],
            patient_id=some(self.patient_id),
            side=some(self.side),
            split=some(self.split),
            source=some(self.source),
            logits=None if self.logits is None else self.logits[chosen],
            facts=MappingProxyType({name: some(values) for name, values in self.facts.items()}),
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
