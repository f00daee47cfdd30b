"""The reading queue: which films a person should look at first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kneexray.evaluation.inputs import EvaluationInput


def entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how uncertain each row of ``probabilities`` (N, K) is, (N,) in [0, 1]: its entropy, 1 where every class is as likely."""
    given = np.clip(probabilities, np.finfo(np.float64).tiny, 1.0)
    found: NDArray[np.float64] = -(given * np.log(given)).sum(axis=1) / np.log(given.shape[1])
    return np.clip(found, 0.0, 1.0)


def queue(inputs: EvaluationInput) -> list[int]:
    """Return the rows of ``inputs``, the most uncertain first, each file once; equals keep their order."""
    order = np.argsort(-entropy(inputs.probabilities), kind="stable")
    first: dict[str, int] = {}
    for row in order:
        first.setdefault(inputs.file[row], int(row))
    return list(first.values())
