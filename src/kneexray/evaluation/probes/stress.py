"""Shortcut tests: what a model's grades are worth when the joint is hidden, or the film is not as films should be.

Every changed film goes the way of any other film, as the crop of one knee (``--roi whole``): the gate still turns back what looks
inverted, and grades, with a warning, what it would refuse of its own accord. The share of those is reported beside the accuracy.
Hidden evidence after Zech et al., PLoS Med 2018;15:e1002683, and DeGrave et al., Nat Mach Intell 2021;3:610.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kneexray.errors import DataError
from kneexray.evaluation.answers import Labelled
from kneexray.evaluation.metrics import Floats
from kneexray.evaluation.probes import figures
from kneexray.evaluation.probes.corruptions import CORRUPTIONS, Corruption
from kneexray.evaluation.probes.outcome import Outcome
from kneexray.evaluation.probes.sample import Sample, draw, estimate, exceeds, words
from kneexray.pages import figure_style
from kneexray.pages.page import Section, Table, short
from kneexray.predict import Predictor
from kneexray.roi import DOUBTFUL, INVERTED
from kneexray.tasks import Task, get_task
from kneexray.types import Prediction, Study

JOINT = "joint_masked"
FAIR = 0.2
"""QWK up to which agreement is no more than slight (Landis & Koch, Biometrics 1977;33:159)."""


@dataclass(frozen=True, slots=True)
class Corrupted:
    """A labelled film that reads as a changed one. The same ``seed`` gives the same noise."""

    item: Labelled
    change: Corruption
    strength: float
    seed: tuple[int, ...]

    @property
    def name(self) -> str:
        """The path of the film."""
        return self.item.name

    def read(self) -> Study:
        """Return the film's study, its radiographs changed."""
        study, generator = self.item.read(), np.random.default_rng(self.seed)
        changed = [replace(r, pixels=self.change.apply(r.pixels, self.strength, generator)) for r in study.radiographs]
        return replace(study, radiographs=tuple(changed))


def section(predictor: Predictor, items: Sequence[Labelled], *, seed: int = 0, most: int) -> Section:
    """Return the shortcut tests of the model in ``predictor`` on at most ``most`` of ``items``, patients drawn with ``seed``.

    Raises :class:`~kneexray.errors.DataError` where ``items`` are none, or where none of those drawn is graded.
    """
    sample = draw(items, most=most, seed=seed)
    task = get_task(sample.items[0].example.task)
    bundle = next(grader.bundle for grader in predictor.graders if task in grader.tasks)
    whole = Predictor(tasks=[task.name], models=[bundle.folder], roi_mode="whole", heatmaps=False, threads=1)
    clean = _outcome(whole, sample, CORRUPTIONS[JOINT], CORRUPTIONS[JOINT].identity, task, seed=seed)
    if np.isnan(clean.accuracy[0]):
        raise DataError(f"none of the {len(sample.items)} images drawn is graded; look at them with 'kneexray predict --roi whole'")
    outcomes = {
        name: [
            *(_outcome(whole, sample, change, strength, task, seed=seed) for strength in change.strengths),
            replace(clean, strength=change.identity),
        ]
        for name, change in CORRUPTIONS.items()
    }
    return report(outcomes, sample, task, seed=seed)


def report(outcomes: Mapping[str, Sequence[Outcome]], sample: Sample, task: Task, *, seed: int) -> Section:
    """Return the section of ``outcomes``: of each change, its strengths and the one that changes nothing."""
    outcomes = {name: sorted(found, key=lambda o: o.strength) for name, found in outcomes.items()}
    clean = next(o for o in outcomes[JOINT] if o.strength == CORRUPTIONS[JOINT].identity)
    hidden = outcomes[JOINT][-1]
    majority = _majority(sample, len(task.labels))
    with figure_style.style():
        drawn = {
            "curves": (figures.curves(outcomes, majority=float(majority[0])), _CURVES),
            "refused": (figures.refusals(outcomes), _refused_caption(outcomes)),
        }
    return Section(
        key="stress",
        title="Shortcuts and stress",
        lead=f"{len(sample.items)} images of {sample.patients} patients, drawn at random (seed {seed}), were changed and graded again as "
        f"crops of one knee (--roi whole). With the joint hidden by a band {hidden.strength:.0%} as high as the crop, accuracy goes from "
        f"{words(clean.accuracy)} to {words(hidden.accuracy)} and QWK from {words(clean.qwk)} to {words(hidden.qwk)}; "
        f"answering always with the most frequent grade is right in {majority[0]:.3f}.",
        alarm=alarm(hidden, majority),
        figures=drawn,
        tables=(_joint_table(outcomes[JOINT], majority), _worst_table(outcomes, clean)),
        data=_data(outcomes, sample, clean, majority, seed=seed),
    )


def alarm(hidden: Outcome, majority: Floats) -> str:
    """Return what to say where a model still grades with the joint hidden: its accuracy stays above the ``majority`` rate (1 + B,), or
    its answers still follow the truth more than slightly. Empty where neither is shown by the 95 % interval.
    """
    reasons = []
    if exceeds(hidden.accuracy - majority, 0):
        reasons.append(f"accuracy stays {words(hidden.accuracy - majority)} above that of answering always with the most frequent grade")
    if exceeds(hidden.qwk, FAIR):
        reasons.append(f"answers still agree with the truth, QWK {words(hidden.qwk)}")
    if not reasons:
        return ""
    return f"With the joint hidden, {' and '.join(reasons)}. This model grades, at least in part, by something other than the joint."


def _outcome(predictor: Predictor, sample: Sample, change: Corruption, strength: float, task: Task, *, seed: int) -> Outcome:
    films = [Corrupted(item, change, strength, (seed, place)) for place, item in enumerate(sample.items)]
    answers: dict[int, Prediction] = {}
    for row, result in enumerate(predictor.predict_sources(films)):
        if len(result.predictions) == 1:
            answers[row] = result.predictions[0]
    probabilities = np.array([answer.probabilities for answer in answers.values()]).reshape(-1, len(task.labels))
    accuracy, qwk = sample.take([*answers]).scores(probabilities)
    accepted = sum(DOUBTFUL not in answer.warnings for answer in answers.values())
    turned_back = sum(INVERTED in answer.warnings for answer in answers.values())
    return Outcome(strength, accuracy, qwk, 1 - accepted / len(films), turned_back / len(films))


def _majority(sample: Sample, classes: int) -> Floats:
    """Return (1 + B,): the share of the most frequent grade."""
    shares = np.stack([sample.mean((sample.target == label).astype(np.float64)) for label in range(classes)])
    return np.asarray(shares.max(axis=0), dtype=np.float64)


def _worst_table(outcomes: Mapping[str, Sequence[Outcome]], clean: Outcome) -> Table:
    changed = {name: [o for o in found if o.strength != CORRUPTIONS[name].identity] for name, found in outcomes.items() if name != JOINT}
    worst = {name: min(found, key=lambda o: np.nan_to_num(o.accuracy[0], nan=2.0)) for name, found in changed.items()}
    rows = []
    for name, found in sorted(worst.items(), key=lambda item: item[1].accuracy[0]):
        change = CORRUPTIONS[name]
        at = f"{found.strength:g}\n{change.unit}" if change.unit else ""
        drop = short(estimate(clean.accuracy - found.accuracy), digits=3, sign="+")
        rows.append((change.title, at, _cell(found.accuracy), drop, _cell(found.qwk), f"{found.refused:.0%}"))
    columns = ("Change", "At", "Accuracy", "Drop", "QWK", "Gate would refuse")
    return Table("Each change at the strength where accuracy is lowest.", columns, tuple(rows))


def _joint_table(outcomes: Sequence[Outcome], majority: Floats) -> Table:
    rows = []
    for found in outcomes:
        excess = short(estimate(found.accuracy - majority), digits=3, sign="+")
        rows.append((f"{found.strength:.0%}", _cell(found.accuracy), excess, _cell(found.qwk), f"{found.refused:.0%}"))
    columns = ("Height of the band", "Accuracy", "Above the majority rate", "QWK", "Gate would refuse")
    return Table("The joint hidden by bands of growing height, in shares of the crop's.", columns, tuple(rows))


def _cell(samples: Floats) -> str:
    return short(estimate(samples), digits=3)


def _data(outcomes: Mapping[str, Sequence[Outcome]], sample: Sample, clean: Outcome, majority: Floats, *, seed: int) -> dict[str, Any]:
    return {
        "n": len(sample.items),
        "n_patients": sample.patients,
        "seed": seed,
        "majority_rate": float(majority[0]),
        "accuracy": estimate(clean.accuracy),
        "qwk": estimate(clean.qwk),
        "changes": {
            name: [
                {
                    "strength": found.strength,
                    "accuracy": estimate(found.accuracy),
                    "accuracy_drop": estimate(clean.accuracy - found.accuracy),
                    "qwk": estimate(found.qwk),
                    "refused": found.refused,
                    "turned_back": found.turned_back,
                }
                for found in curve
            ]
            for name, curve in outcomes.items()
        },
    }


_CURVES = (
    "Accuracy and QWK of the changed films with 95 % intervals, all graded as crops of one knee. The open mark is the unchanged film, "
    "the dashed line the accuracy of answering always with the most frequent grade. With the joint masked, accuracy should fall to that "
    "line and QWK to 0. A masked border wider than 0.065 touches the bone."
)


def _refused_caption(outcomes: Mapping[str, Sequence[Outcome]]) -> str:
    back = outcomes["inverted"][-1].turned_back
    return (
        "Share of the changed films that 'predict' would refuse as no crop of one AP knee, at the strength where it is largest. What is "
        "graded badly and not refused is graded badly without a word. "
        f"Of the inverted films {back:.0%} were turned back before grading."
    )
