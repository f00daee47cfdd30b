"""Two models on the same knees: the difference of each metric with its interval, two tests, and a verdict that respects the interval.

Knees are paired by file (its SHA-256 where both sides know it, else its name) and side. The bootstrap draws whole patients and both
models at once, so that what makes a patient hard counts for both. McNemar's and the Stuart-Maxwell test take knees as independent; two
knees of a patient are not quite, which makes their p a little too small: the interval decides.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kneexray.errors import ConfigError, DataError
from kneexray.evaluation import metrics
from kneexray.evaluation.estimates import value
from kneexray.evaluation.inputs import EvaluationInput, patients
from kneexray.tasks import get_task

LOWER_IS_BETTER: frozenset[str] = frozenset({"mae", "ece", "brier", "nll"})
NAMED = 5
"""How many knees that have no partner a note names."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The knees that two evaluations share, row by row in the same order; ``notes`` name those that they do not."""

    a: EvaluationInput
    b: EvaluationInput
    notes: tuple[str, ...]


def pair(a: EvaluationInput, b: EvaluationInput) -> Pair:
    """Return the knees of both, in the order of ``a``. A knee whose truth differs between them is left out, and noted.

    Raises :class:`~kneexray.errors.ConfigError` where the tasks differ and :class:`~kneexray.errors.DataError` where no knee is shared.
    """
    if a.task != b.task:
        raise ConfigError(f"A grades task '{a.task}', B '{b.task}'; only evaluations of one task can be compared.")
    hashed = all(name is not None for given in (a, b) for name in given.facts.get("sha256", [None]))
    rows_a, rows_b = _keys(a, hashed=hashed), _keys(b, hashed=hashed)
    shared = [key for key in rows_a if key in rows_b]
    if not shared:
        raise DataError(
            f"no knee is in both evaluations: they are told apart by {'SHA-256' if hashed else 'file name'} and side, for example "
            f"{a.file[0]!r} in A and {b.file[0]!r} in B. Evaluate both models on the same images."
        )
    notes = [
        f"{len(lost)} of {len(rows)} knees of {name} are not in the other evaluation and are left out: {_some(lost)}."
        for name, given, rows, others in (("A", a, rows_a, rows_b), ("B", b, rows_b, rows_a))
        if (lost := [given.file[row] for key, row in rows.items() if key not in others])
    ]
    judged = [key for key in shared if a.target[rows_a[key]] == b.target[rows_b[key]]]
    if len(judged) < len(shared):
        differing = [a.file[rows_a[key]] for key in shared if key not in set(judged)]
        notes.append(f"{len(differing)} knees have another true label in B than in A and are left out: {_some(differing)}.")
    if not judged:
        raise DataError("every knee that both evaluations share has another true label in B than in A; evaluate both on the same labels.")
    first, second = (given.take(np.array([rows[key] for key in judged])) for given, rows in ((a, rows_a), (b, rows_b)))
    return Pair(first, second, tuple(notes))


def _keys(inputs: EvaluationInput, *, hashed: bool) -> dict[tuple[str, str, int], int]:
    """Return the row of each knee; copies of a knee are told apart by their order."""
    seen: Counter[tuple[str, str]] = Counter()
    rows = {}
    for row, (name, side) in enumerate(zip(inputs.facts["sha256"] if hashed else inputs.file, inputs.side, strict=True)):
        knee = (name, side or "")
        rows[*knee, seen[knee]] = row
        seen[knee] += 1
    return rows


def _some(files: list[str]) -> str:
    return ", ".join(files[:NAMED]) + (f" and {len(files) - NAMED} more" if len(files) > NAMED else "")


def compare(a: EvaluationInput, b: EvaluationInput, *, replicates: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Return the content of ``comparison.json``: plain JSON values, None for what is not defined.

    ``metrics`` maps each headline metric to ``{"a", "b", "difference": {"value", "low", "high"}, "better"}``; the difference is B minus A,
    and ``better`` is ``"a"``, ``"b"`` or None where the interval holds zero. Raises what :func:`pair` raises.
    """
    both = pair(a, b)
    task, owner = get_task(both.a.task), patients(both.a)
    tallies = [metrics.tally(given.probabilities, given.target, owner) for given in (both.a, both.b)]
    points = [metrics.measure(tallied, np.ones(tallied.patients)) for tallied in tallies]
    drawn = [metrics.bootstrap(tallied, replicates=replicates, seed=seed) for tallied in tallies] if tallies[0].patients > 1 else None
    answers = [given.probabilities.argmax(axis=1) for given in (both.a, both.b)]
    right = [answer == both.a.target for answer in answers]
    rows: dict[str, dict[str, Any]] = {}
    for name in metrics.HEADLINE:
        if not task.ordinal and name in metrics.ORDINAL_ONLY:
            continue
        one, other = (float(point[name][0]) for point in points)
        difference = value(other - one, drawn[1][name] - drawn[0][name] if drawn else None)
        rows[name] = {"a": _number(one), "b": _number(other), "difference": difference, "better": _better(name, difference)}
    primary = "qwk" if task.ordinal and rows["qwk"]["difference"]["value"] is not None else "accuracy"
    return {
        "version": 1,
        "task": task.name,
        "models": {"a": both.a.model_id, "b": both.b.model_id},
        "n": len(both.a.file),
        "n_patients": tallies[0].patients,
        "split_quality": max(both.a.split_quality, both.b.split_quality, key=("patient", "cluster", "image").index),
        "metrics": rows,
        "agreement": float((answers[0] == answers[1]).mean()),
        "mcnemar": mcnemar(*right),
        "stuart_maxwell": stuart_maxwell(contingency(*answers, classes=len(task.labels))),
        "bootstrap": {"unit": "patient", "replicates": replicates, "seed": seed, "level": 0.95},
        "primary": primary,
        "verdict": verdict(primary, rows[primary]),
        "notes": [*both.notes, *_notes(both, drawn is None)],
    }


def _notes(both: Pair, single: bool) -> list[str]:
    notes = []
    if unknown := sum(not name for name in both.a.patient_id):
        notes.append(f"{unknown} of {len(both.a.file)} rows of A name no patient and stand for themselves: intervals may be too narrow.")
    if single:
        notes.append("No interval is given: that takes two patients or more.")
    return notes


def _number(found: float) -> float | None:
    return None if np.isnan(found) else found


def _better(name: str, difference: dict[str, float | None]) -> str | None:
    low, high = difference["low"], difference["high"]
    if low is None or high is None or low <= 0 <= high:
        return None
    return "b" if (low > 0) != (name in LOWER_IS_BETTER) else "a"


def verdict(name: str, row: dict[str, Any]) -> str:
    """Return in words what the interval of the difference in ``name``, of which more is better, allows to say, and no more."""
    title, difference = {"qwk": "QWK"}.get(name, name), row["difference"]
    if difference["value"] is None:
        return f"No verdict: {title} is not defined on these knees."
    if difference["low"] is None:
        return f"No verdict: there is no interval for the difference in {title}, and a difference without one says nothing."
    low, high = difference["low"], difference["high"]
    if low == high == 0:
        return f"A and B have the same {title} on these knees, however they are resampled."
    told = f"B minus A is {difference['value']:+.3f} in {title}, 95% interval {low:+.3f} to {high:+.3f}."
    if row["better"]:
        return f"{row['better'].upper()} is better in {title} on these knees. {told}"
    return (
        f"No difference in {title} can be told on these knees. {told} It holds zero: the models may be equal, A may be better by up to "
        f"{abs(low):.3f}, and B by up to {high:.3f}."
    )


def contingency(a: ArrayLike, b: ArrayLike, *, classes: int) -> NDArray[np.int64]:
    """Return (K, K): how many knees A answered with the row's class and B with the column's."""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (np.asarray(a), np.asarray(b)), 1)
    return table


def mcnemar(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> dict[str, Any]:
    """Return ``{"only_a", "only_b", "p"}`` of McNemar's test: whether A and B are right equally often.

    It counts the knees, (N,) each, that only one of them gets right. ``p`` is the mid-p value, which keeps its level and has more power
    than the exact one (Fagerland, Lydersen & Laake, BMC Med Res Methodol 2013;13:91); 1 where there is no such knee.
    """
    from scipy.stats import binom

    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    fewer, total = min(only_a, only_b), only_a + only_b
    p = 2 * binom.cdf(fewer, total, 0.5) - binom.pmf(fewer, total, 0.5) if only_a != only_b else 1 - binom.pmf(fewer, total, 0.5) / 2
    return {"only_a": only_a, "only_b": only_b, "p": float(p) if total else 1.0}


def stuart_maxwell(table: ArrayLike) -> dict[str, Any]:
    """Return ``{"statistic", "df", "p"}``: whether A and B give each class equally often, from their answers ``table`` (K, K).

    Classes that neither gives, or that both give to the same knees only, drop out; None where none is left. Sources: Stuart, Biometrika
    1955;42:412; Maxwell, Br J Psychiatry 1970;116:651.
    """
    from scipy.stats import chi2

    counts = np.asarray(table, dtype=np.float64)
    off = counts - np.diag(np.diag(counts))
    counts = counts[np.ix_(keep := (off + off.T).any(axis=1), keep)]
    difference = (counts.sum(axis=1) - counts.sum(axis=0))[:-1]
    covariance = -(counts + counts.T)
    np.fill_diagonal(covariance, counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts))
    df = int(np.linalg.matrix_rank(covariance))
    if not df:
        return {"statistic": None, "df": 0, "p": None}
    statistic = float(difference @ np.linalg.pinv(covariance[:-1, :-1]) @ difference)
    return {"statistic": statistic, "df": df, "p": float(chi2.sf(statistic, df))}
