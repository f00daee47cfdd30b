"""Whether the label can be told without looking at the image: from its size, its format, or how many bytes it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHUFFLES = 200
_SEED = 7
_LEVEL = 0.01
_MARGIN = 0.05
"""A confound is reported where the guess beats chance by this much balanced accuracy, and shuffled labels reach it in at most 1 % of
cases.
"""
_FEWEST = 20


@dataclass(frozen=True, slots=True)
class Confound:
    """How well ``feature`` alone tells the label: balanced accuracy of a guess that never saw the image's own label; ``chance`` is 1 /
    classes.
    """

    feature: str
    balanced_accuracy: float
    chance: float
    p_value: float
    n: int

    @property
    def found(self) -> bool:
        """Whether the label can be told from it."""
        return self.p_value <= _LEVEL and self.balanced_accuracy - self.chance >= _MARGIN

    def to_dict(self) -> dict[str, Any]:
        """Return the finding in plain JSON types, with the sentence that says it."""
        numbers = {
            "balanced_accuracy": round(self.balanced_accuracy, 4),
            "chance": round(self.chance, 4),
            "p_value": round(self.p_value, 4),
            "n": self.n,
        }
        return {"feature": self.feature, **numbers, "found": self.found}


def confounds(
    labels: Sequence[str], *, sizes: Sequence[tuple[int, int]], encodings: Sequence[str], n_bytes: Sequence[int]
) -> list[Confound]:
    """Return what the (height, width), the aspect ratio, the encoding and the bytes a pixel of each image tell of its label; none for
    fewer than 20 images or one class.

    Each image is guessed from the others of like feature, every class weighing the same (leave one out). Cost is linear in the number of
    images.
    """
    classes = sorted(set(labels))
    if len(classes) < 2 or len(labels) < _FEWEST:
        return []
    target = np.array([classes.index(label) for label in labels])
    pixels = np.array([max(1, height * width) for height, width in sizes])
    features = {
        "image size": _size_bins(sizes),
        "image shape": np.unique(np.rint(20 * np.log([width / max(1, height) for height, width in sizes])), return_inverse=True)[1],
        "encoding": np.unique(list(encodings), return_inverse=True)[1],
        "bytes a pixel": _deciles(np.array(n_bytes) / pixels),
    }
    return [_judged(name, bins, target, len(classes)) for name, bins in features.items()]


def _judged(name: str, bins: NDArray[np.int64], target: NDArray[np.int64], classes: int) -> Confound:
    score = _guess(bins, target, classes)
    rng = np.random.default_rng([_SEED, int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)])
    reached = sum(_guess(bins, rng.permutation(target), classes) >= score for _ in range(_SHUFFLES))
    return Confound(name, score, 1 / classes, (reached + 1) / (_SHUFFLES + 1), len(target))


def _guess(bins: NDArray[np.int64], target: NDArray[np.int64], classes: int) -> float:
    """Return the balanced accuracy of naming, for each image, the class that is most over-represented among the others of its bin."""
    table = np.zeros((int(bins.max()) + 1, classes))
    np.add.at(table, (bins, target), 1)
    total = np.bincount(target, minlength=classes)
    others = table[bins]
    others[np.arange(len(bins)), target] -= 1
    weight = np.tile(total.astype(float), (len(bins), 1))
    weight[np.arange(len(bins)), target] -= 1
    share = others / np.maximum(weight, 1)
    best = share.max(axis=1, keepdims=True)
    tied = (share == best) & (best > 0)
    right = tied[np.arange(len(bins)), target] / np.maximum(tied.sum(axis=1), 1)
    right = np.where(best[:, 0] > 0, right, 1 / classes)
    return float(np.mean([right[target == c].mean() for c in range(classes) if total[c]]))


def _size_bins(sizes: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Return one bin an exact size where sizes repeat, else quintiles of area and of aspect ratio."""
    exact = np.unique([f"{height}x{width}" for height, width in sizes], return_inverse=True)[1].astype(np.int64)
    if exact.max() + 1 <= max(2, len(sizes) // 8):
        return exact
    log = np.log(np.array(sizes, dtype=float).clip(1))
    return _deciles(log.sum(axis=1), parts=5) * 5 + _deciles(log[:, 0] - log[:, 1], parts=5)


def _deciles(values: NDArray[np.float64], *, parts: int = 10) -> NDArray[np.int64]:
    edges = np.unique(np.quantile(values, np.arange(1, parts) / parts))
    return np.searchsorted(edges, values, side="right").astype(np.int64)
