"""An evaluation as the workbench shows it: the stored answers, and the figures made from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kneexray.datasets.example import Example
from kneexray.datasets.manifest import Manifest
from kneexray.evaluation.evaluate import evaluate
from kneexray.evaluation.inputs import EvaluationInput
from kneexray.evaluation.predictions_file import read_predictions
from kneexray.inference.bundle import read_card
from kneexray.roi import Mode
from kneexray.tasks import get_task
from kneexray.workbench.places import PREDICTIONS, read_json

_NEEDED = frozenset({"oa", "subgroups", "calibration", "prediction_sets", "averages", "reliability"})
"""What ``metrics.json`` of this version holds; an older one is made anew from the answers."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Stored answers, and the content of their ``metrics.json``. ``version`` changes when the answers are written anew."""

    folder: Path
    inputs: EvaluationInput
    metrics: dict[str, Any]
    version: int


def version_of(folder: Path) -> int:
    """Return what changes when the answers in ``folder`` are written anew."""
    return (folder / PREDICTIONS).stat().st_mtime_ns


def open_evaluation(folder: Path) -> Evaluation:
    """Return the evaluation in ``folder``; figures that are not stored with the answers are made from them.

    Raises :class:`~kneexray.errors.DataError` for answers that cannot be used.
    """
    version = version_of(folder)
    inputs = read_predictions(folder / PREDICTIONS, invalid="drop")
    figures = read_json(folder / "metrics.json")
    same = figures.get("n") == len(inputs.file) and figures.get("model_id") == inputs.model_id
    return Evaluation(folder, inputs, figures if same and figures.keys() >= _NEEDED else evaluate(inputs, invalid="drop"), version)


def cell(inputs: EvaluationInput, *, truth: int, answer: int) -> list[int]:
    """Return the rows of a cell of the confusion matrix, the surest answers first."""
    chosen = np.flatnonzero((inputs.target == truth) & (inputs.probabilities.argmax(axis=1) == answer))
    return [int(row) for row in chosen[np.argsort(-inputs.probabilities[chosen, answer], kind="stable")]]


def films_of(inputs: EvaluationInput, roots: Iterable[Path]) -> Manifest:
    """Return the films that were graded as a manifest whose paths are those of the files, where they can be found below ``roots``."""
    labels, places = get_task(inputs.task).labels, tuple(roots)
    root = next((place for place in places if inputs.file and (place / inputs.file[0]).is_file()), Path())
    examples = tuple(
        Example(file, labels[target], inputs.task, patient or "", side or "", split or "", source or "")
        for file, target, patient, side, split, source in zip(
            inputs.file, inputs.target, inputs.patient_id, inputs.side, inputs.split, inputs.source, strict=True
        )
    )
    return Manifest(get_task(inputs.task), examples, root)


def roi_of(inputs: EvaluationInput) -> Mode:
    """Return how the knees were found: square images are crops of one knee."""
    return "whole" if inputs.facts.get("width") == inputs.facts.get("height") else "auto"


def bundle_of(model_id: str, bundles: Iterable[Path]) -> Path | None:
    """Return the bundle that gave the answers, None where it is not among ``bundles``."""
    return next((folder for folder in bundles if read_card(folder).model_id == model_id), None)
