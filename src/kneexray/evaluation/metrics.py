"""Metrics of stored probabilities, and their patient bootstrap: pure functions over numpy.

Every metric here is a function of sums over patients or, for the AUC, of weighted ranks. So a resample of patients is a row of
multiplicities, a thousand of them one matrix product, and the point estimate is the row of ones: value and interval come from
the same formula. What is not defined (a class that does not occur, no disagreement to expect) is NaN, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

HEADLINE: tuple[str, ...] = ("accuracy", "balanced_accuracy", "qwk", "mae", "macro_f1", "macro_auc", "ece", "brier", "nll")
"""The metrics of the main row, in the order in which reports show them."""

ORDINAL_ONLY: tuple[str, ...] = ("qwk", "mae")
PER_CLASS: tuple[str, ...] = ("precision", "recall", "f1", "auc", "ap")
AVERAGED: tuple[str, ...] = ("precision", "recall", "f1")
"""The metrics of a classification report, whose averages over classes are ``macro_...`` and (by support) ``weighted_...``."""
BINS = 15
"""Equal-width bins of top-label confidence for the ECE (Guo et al. 2017)."""

_BLOCK = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """One class against the rest, ranked once for every resample.

    ``negative`` (n0,) and ``positive`` (n1,) hold the patients of either side's images by ascending score; ``below`` and ``upto`` (n1,)
    count the negatives that score less than each positive, and those that score no more; ``lower`` (n1,) the positives that score less.
    """

    negative: Integers
    positive: Integers
    below: Integers
    upto: Integers
    lower: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """What the metrics need of N images of P patients and K classes.

    ``sums`` (P, F) are per patient: confusion counts (K * K, true class first), Brier score, NLL, then images, confidence and
    hits of each bin.
    """

    classes: int
    sums: Floats
    rankings: tuple[Ranking, ...]

    @property
    def patients(self) -> int:
        """How many patients there are."""
        return len(self.sums)


def tally(probabilities: ArrayLike, target: ArrayLike, patient: ArrayLike, *, grade: ArrayLike | None = None) -> Tally:
    """Sum up ``probabilities`` (N, K) of true classes ``target`` (N,) by ``patient`` (N,), the patients numbered 0..P-1.

    ``grade`` (N,) is the decision that counts as the answer, by default the most probable class (the first of equals).
    """
    given, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(target, dtype=np.int64)
    owner = np.asarray(patient, dtype=np.int64)
    n, classes = given.shape
    answer = given.argmax(axis=1) if grade is None else np.asarray(grade, dtype=np.int64)
    rows, confidence = np.arange(n), given.max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    onehot = np.eye(classes)[truth]
    features = np.zeros((n, classes * classes + 2 + 3 * BINS))
    features[rows, truth * classes + answer] = 1.0
    features[:, classes * classes] = ((given - onehot) ** 2).sum(axis=1)
    features[:, classes * classes + 1] = -np.log(np.clip(given[rows, truth], np.finfo(np.float64).eps, 1.0))
    start = classes * classes + 2
    for offset, value in enumerate((np.ones(n), confidence, (answer == truth).astype(np.float64))):
        features[rows, start + offset * BINS + bins] = value
    sums = np.zeros((int(owner.max()) + 1, features.shape[1]))
    np.add.at(sums, owner, features)
    return Tally(classes, sums, tuple(_rank(given[:, label], truth == label, owner) for label in range(classes)))


def _rank(score: Floats, positive: NDArray[np.bool_], owner: Integers) -> Ranking:
    order = np.argsort(score, kind="stable")
    score, positive, owner = score[order], positive[order], owner[order]
    negatives, positives = score[~positive], score[positive]
    below, upto = (np.searchsorted(negatives, positives, side=side) for side in ("left", "right"))
    return Ranking(owner[~positive], owner[positive], below, upto, np.searchsorted(positives, positives, side="left"))


def measure(given: Tally, weight: ArrayLike) -> dict[str, Floats]:
    """Return every metric of B weightings of the patients, ``weight`` (B, P): the row of ones gives the plain metrics.

    The :data:`HEADLINE` metrics and the averages of :data:`AVERAGED` are (B,), the :data:`PER_CLASS` ones (B, K), ``support``
    (B, K), ``confusion`` (B, K, K), and ``bin_images``, ``bin_confidence`` and ``bin_accuracy`` (B, 15). MAE is in grades; Brier
    runs from 0 to 2; NLL is in nats, of probabilities no smaller than 2.2e-16. Averages over classes leave out those that are not
    defined: a class that occurs neither in truth nor in answer has no F1, one that does not occur in truth no recall, AUC or AP.
    QWK: Cohen, Psychol Bull 1968;70:213.
    """
    weights = np.atleast_2d(np.asarray(weight, dtype=np.float64))
    classes = given.classes
    sums = weights @ given.sums  # (B, F)
    confusion = sums[:, : classes * classes].reshape(-1, classes, classes)
    brier, nll = sums[:, classes * classes], sums[:, classes * classes + 1]
    images, confidence, hits = np.moveaxis(sums[:, classes * classes + 2 :].reshape(-1, 3, BINS), 1, 0)
    support, answered = confusion.sum(axis=2), confusion.sum(axis=1)
    correct = np.diagonal(confusion, axis1=1, axis2=2)
    total = support.sum(axis=1)
    distance = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes))).astype(np.float64)
    chance = support[:, :, None] * answered[:, None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall, f1 = correct / answered, correct / support, 2 * correct / (support + answered)
        auc, ap = np.stack([_areas(ranking, weights) for ranking in given.rankings], axis=-1)  # (B, K) each
        averages = {}
        for name, values in zip(AVERAGED, (precision, recall, f1), strict=True):
            averages[f"macro_{name}"] = _mean_of_defined(values, np.ones_like(support))
            averages[f"weighted_{name}"] = _mean_of_defined(values, support)
        return {
            **averages,
            "accuracy": correct.sum(axis=1) / total,
            "balanced_accuracy": averages["macro_recall"],
            "qwk": 1 - total * (confusion * distance**2).sum(axis=(1, 2)) / (chance * distance**2).sum(axis=(1, 2)),
            "mae": (confusion * distance).sum(axis=(1, 2)) / total,
            "macro_auc": _mean_of_defined(auc, np.ones_like(support)),
            "ece": np.abs(hits - confidence).sum(axis=1) / total,
            "brier": brier / total,
            "nll": nll / total,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "auc": auc,
            "ap": ap,
            "support": support,
            "confusion": confusion,
            "bin_images": images,
            "bin_confidence": confidence / images,
            "bin_accuracy": hits / images,
        }


def _areas(ranking: Ranking, weights: Floats) -> Floats:
    """Return (2, B): AUC and average precision (AP).

    AUC is the share of (positive, negative) pairs in the right order, ties counting half. AP is the mean over the positives of the
    precision at the threshold of their score, the area under the steps of the precision-recall curve.
    """
    own = weights[:, ranking.positive]
    negative, positive = _running(weights[:, ranking.negative]), _running(own)
    below, total = negative[:, ranking.below], own.sum(axis=1)
    auc = (own * (below + negative[:, ranking.upto])).sum(axis=1) / (2 * total * negative[:, -1])
    true_positive = positive[:, -1:] - positive[:, ranking.lower]
    answered = true_positive + negative[:, -1:] - below
    ap = (own * true_positive / np.where(own > 0, answered, 1.0)).sum(axis=1) / total
    return np.stack([auc, ap])


def _running(values: Floats) -> Floats:
    """Return (B, n + 1): the sums of the first 0..n of ``values`` (B, n)."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _mean_of_defined(values: Floats, weight: Floats) -> Floats:
    """Return (B,): the mean over the last axis by ``weight``, NaN left out."""
    weights = np.where(np.isnan(values), 0.0, weight)
    return np.asarray((np.where(np.isnan(values), 0.0, values) * weights).sum(axis=-1) / weights.sum(axis=-1), dtype=np.float64)


def resamples(patients: int, *, replicates: int, seed: int, block: int = 64) -> Iterator[Floats]:
    """Yield (b, P) multiplicities of patients drawn with replacement, ``replicates`` rows in all; ``block`` does not change them."""
    generator = np.random.default_rng(seed)
    for done in range(0, replicates, block):
        rows = min(block, replicates - done)
        drawn = generator.integers(patients, size=(rows, patients)) + np.arange(rows)[:, None] * patients
        yield np.bincount(drawn.ravel(), minlength=rows * patients).reshape(rows, patients).astype(np.float64)


def bootstrap(given: Tally, *, replicates: int = 1000, seed: int = 0) -> dict[str, Floats]:
    """Return :func:`measure` of ``replicates`` resamples of the patients. Two tallies of the same patients and ``seed`` are paired."""
    images = max(int(given.sums[:, : given.classes**2].sum()), given.patients)
    block = max(1, min(64, _BLOCK // images))
    parts = [measure(given, weight) for weight in resamples(given.patients, replicates=replicates, seed=seed, block=block)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(samples: ArrayLike, *, level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile interval of ``samples`` (B,), or None where more than 5 % of them are not defined.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    values = np.asarray(samples, dtype=np.float64)
    defined = values[~np.isnan(values)]
    if len(defined) < 0.95 * len(values) or not len(defined):
        return None
    low, high = np.percentile(defined, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def roc(score: ArrayLike, positive: ArrayLike) -> tuple[Any, Any]:
    """Return false and true positive rates along the thresholds of ``score`` (N,); ``positive`` (N,) must hold both outcomes."""
    from sklearn.metrics import roc_curve

    rates = roc_curve(np.asarray(positive), np.asarray(score), drop_intermediate=True)
    return rates[0], rates[1]


def precision_recall(score: ArrayLike, positive: ArrayLike) -> tuple[Any, Any]:
    """Return precision and recall along the thresholds of ``score`` (N,); ``positive`` (N,) must hold both outcomes."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(np.asarray(positive), np.asarray(score), drop_intermediate=True)
    return precision, recall
