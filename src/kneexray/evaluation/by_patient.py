"""One answer a patient, for labels that belong to a patient and not to a knee: the mean of the answers to all images of that patient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kneexray.errors import DataError
from kneexray.evaluation.inputs import EvaluationInput, patients


def by_patient(inputs: EvaluationInput) -> EvaluationInput:
    """Return one row a patient (or cluster), under the name of its first file, with the mean probabilities and logits of its rows.

    Raises :class:`~kneexray.errors.DataError` that names a patient whose images differ in label.
    """
    unit = patients(inputs)
    _, first = np.unique(unit, return_index=True)
    apart = np.flatnonzero(inputs.target != inputs.target[first][unit])
    if len(apart):
        row = int(apart[0])
        raise DataError(
            f"{inputs.file[row]}: its label differs from that of another image of patient {inputs.patient_id[row]}; such labels belong "
            "to a knee. Judge each image."
        )
    mean = np.equal.outer(np.arange(len(first)), unit) / np.bincount(unit)[:, None]  # (P, N)
    note = f"{len(unit)} images of {len(first)} patients or films: each judged once, by the mean of the answers to its images."
    return replace(
        inputs.take(first),
        probabilities=mean @ inputs.probabilities,
        logits=None if inputs.logits is None else mean @ inputs.logits,
        side=[None] * len(first),
        notes=(*inputs.notes, note),
    )
