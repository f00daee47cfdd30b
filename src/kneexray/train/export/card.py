"""The card of a model that was trained here: what it was made from, what it scored, and what its users must know, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneexray import provenance
from kneexray.datasets.catalogue import CATALOGUE
from kneexray.datasets.manifest import Example, Manifest
from kneexray.evaluation import crossfit
from kneexray.evaluation.evaluate import NEVER, evaluate
from kneexray.evaluation.inputs import EvaluationInput
from kneexray.evaluation.metrics import HEADLINE
from kneexray.inference.bundle import Card, DataCard, HeadCard, InputCard, MemberCard
from kneexray.inference.calibration import Calibration
from kneexray.tasks import LENGTHS, TASKS, Task
from kneexray.train.export.graph import Exported
from kneexray.train.recipe.config import Config
from kneexray.train.run_folder import read_record

INTENDED_USE = (
    "Research on knee radiographs: frontal (AP or PA, standing) views of adults, cropped to one knee. "
    "Not a medical device; not for diagnosis or for decisions about any patient."
)
LIMITATIONS = (
    "Not tested on children, lateral or skyline views, implants, fractures or other joint disease.",
    "A film unlike the training data (other devices, exposures, populations) may be graded worse than the scores say.",
)
OF_TASK: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "kl": ("Grades carry the reader noise of the training labels; grade 1 (doubtful) is the hardest for readers and model alike.",),
        "osteoporosis": (
            "A radiograph does not measure bone density: the model answers by what went with the labels in its training films. It replaces "
            "no densitometry, and a normal answer rules nothing out.",
        ),
    }
)
"""Limits of every model for a task. Those of a data set stand in its catalogue card, those of a model are told by its scores."""
ON_VALIDATION = (
    "the run's validation split, which also fitted temperature and prediction sets: ECE, Brier and NLL are in-sample",
    "the run's validation split, which also chose the epoch and fitted temperature and prediction sets: "
    "accuracy on new patients may be slightly lower, and ECE, Brier and NLL are in-sample",
)
ON_FOLDS = (
    "every image of the cross-validation, each judged by the one member that did not learn from it; they also fitted temperature and "
    "prediction sets. The members' mean, which is this model, was judged by no image that is new to all of them",
    "every image of the cross-validation, each judged by the one member that did not learn from it, though its epoch was chosen on them; "
    "they also fitted temperature and prediction sets: figures on new patients may be lower",
)
"""What scores are measured on: where the last epoch is kept, and where the epoch was chosen."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What a card keeps of an evaluation, what it says of it in words, and what is said with every answer of the model."""

    kept: dict[str, Any]
    in_words: tuple[str, ...]
    warnings: tuple[str, ...]


def of_runs(
    folders: Sequence[Path], config: Config, splits: Sequence[Manifest], net: Exported, *, sha256: str, command: Sequence[str]
) -> Card:
    """Return the card before calibration: what is known from the runs alone."""
    manifest = splits[0]
    fitted = tuple({e.path: e for split in splits for e in split.split("train")}.values())
    title, licence, inherited = _source(fitted)
    members = tuple(_member(read_record(folder)) for folder in folders)
    kind = "reading" if len(net.tasks) > 1 else manifest.task.name
    name = members[0].recipe["model"]["backbone"].replace("_", "-") if len(members) == 1 else f"ensemble{len(members)}"
    return Card(
        model_id=f"{kind}-{name}-{config.input.size}-{sha256[:8]}",
        task=manifest.task.name,
        labels=manifest.task.labels,
        licence="Apache-2.0",
        sha256=sha256,
        input=InputCard(**asdict(config.input.geometry)),
        mirrored_averaging=net.mirrored,
        class_map=net.has_cam,
        parameters=sum(p.numel() for p in net.parameters()),
        calibration=Calibration(ordinal=manifest.task.ordinal).to_dict(),
        command=provenance.command_line(command, home=str(Path.home())),
        data=DataCard(
            title=title,
            licence=licence,
            sha256=manifest.digest(),
            images=len(fitted),
            patients=len({e.patient_id for e in fitted if e.patient_id}),
            split_quality=manifest.split_quality,
        ),
        members=members,
        format_version=2 if len(net.tasks) > 1 else 1,
        also=tuple(
            HeadCard(task=name, labels=TASKS[name].labels, calibration=Calibration(ordinal=TASKS[name].ordinal).to_dict(), scores={})
            for name in net.tasks[1:]
        ),
        lengths=LENGTHS if net.has_lengths else (),
        scores_on="",
        scores={},
        intended_use=INTENDED_USE,
        limitations=(*OF_TASK.get(manifest.task.name, ()), *inherited, *LIMITATIONS),
    )


def _member(record: dict[str, Any]) -> MemberCard:
    start = record["outputs"]["starting_point"]
    return MemberCard(
        command=record["command"],
        recipe=record["config"],
        starting_point=start["weights"],
        starting_point_licence=start["licence"],
        best_epoch=record["outputs"]["best"]["epoch"],
        environment=record["environment"],
    )


def _source(examples: Sequence[Example]) -> tuple[str, str, tuple[str, ...]]:
    """Return title and licence of the data, and what its models inherit, where all examples come from one data set of the catalogue."""
    names = {e.source for e in examples}
    if len(names) == 1 and (card := CATALOGUE.get(*names)) is not None:
        return card.title, card.licence, card.inherited
    return ", ".join(sorted(n for n in names if n)) or "unnamed", "unknown", ()


def evaluation_input(
    judged: Manifest, logits: NDArray[np.float32], probabilities: NDArray[np.float64], *, model_id: str
) -> EvaluationInput:
    """Return the answers to all examples of ``judged``, logits and probabilities (N, K), as evaluation takes them."""
    examples = judged.examples
    return EvaluationInput(
        task=judged.task.name,
        model_id=model_id,
        split_quality=judged.split_quality,
        file=[e.path for e in examples],
        target=np.asarray(judged.labels(examples)),
        probabilities=probabilities,
        patient_id=[e.patient_id for e in examples],
        side=[e.side for e in examples],
        split=[e.split for e in examples],
        source=[e.source for e in examples],
        logits=logits.astype(np.float64),
    )


def scores(judged: Manifest, logits: NDArray[np.float32], calibration: Calibration, model_id: str) -> Scores:
    """Return what a card holds of ``evaluate`` on ``judged``: the main row, OA, what calibration and sets are worth, and it in words."""
    measured = evaluate(evaluation_input(judged, logits, calibration.apply(logits), model_id=model_id))
    kept = {name: measured[name] for name in ("n", "n_patients", *HEADLINE, "oa")} | {"cross_fitted": crossfit.summary(measured)}
    never = tuple(note for note in measured["notes"] if note.startswith(NEVER))
    return Scores(kept, (*against_chance(measured), *never), warnings(measured, judged.task))


def warnings(measured: dict[str, Any], task: Task) -> tuple[str, ...]:
    """Return the sentence that names the classes which the model was not shown to tell from the others better than by chance."""
    doubtful = [
        label for label, figures in measured["per_class"].items() if figures["auc"]["low"] is not None and figures["auc"]["low"] <= 0.5
    ]
    if not doubtful:
        return ()
    return (f"{task.title}: this model was not shown to tell {', '.join(doubtful)} from the rest better than by chance; see its card",)


def against_chance(measured: dict[str, Any]) -> tuple[str, ...]:
    """Return, where some class was not told from the others better than by chance, the sentence that says of each whether it was."""
    told, doubtful = [], False
    for label, figures in measured["per_class"].items():
        auc = figures["auc"]
        if auc["value"] is None or auc["low"] is None:
            continue
        better = auc["low"] > 0.5
        doubtful |= not better
        verdict = "better than chance" if better else "not shown to be better than chance"
        told.append(f"{label} {verdict} (AUC against the rest {auc['value']:.2f}, {auc['low']:.2f} to {auc['high']:.2f})")
    units = measured["bootstrap"]["unit"]
    return (f"On {measured['n']} images of {measured['n_patients']} {units}s: {'; '.join(told)}.",) if doubtful else ()
