"""Cross-validation: a run a fold, patients kept together, and what each fold's network says of the patients that it did not learn from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning as L

from kneexray.datasets.manifest import Manifest
from kneexray.errors import ConfigError
from kneexray.evaluation.inputs import EvaluationInput
from kneexray.evaluation.predictions_file import write_predictions
from kneexray.inference.calibration import softmax
from kneexray.train.export import out_of_fold
from kneexray.train.export.card import evaluation_input
from kneexray.train.export.export import load_net
from kneexray.train.processes import joined
from kneexray.train.recipe.config import LAST, Config
from kneexray.train.run import check, train

PREDICTIONS = "predictions.parquet"
CHOSEN = "each fold's epoch was chosen on the fold that it is judged on, which flatters the figures; select.monitor = 'last' does not"


def cross_validate(
    config: Config,
    folds: Sequence[Manifest],
    out: Path,
    *,
    command: Sequence[str],
    resume: bool = False,
    callbacks: Sequence[L.Callback] = (),
) -> EvaluationInput:
    """Train a run ``out/fold-0``, ``out/fold-1`` ... on each of ``folds``; return what each says of its split ``val``.

    The answers are also written, as ``out/predictions.parquet``. Each is of one network, averaged over the image and its mirror image, and
    not calibrated. Resumed, finished folds stay as they are. Raises :class:`ConfigError` for a recipe of several tasks.
    """
    if config.also:
        raise ConfigError(f"also = {', '.join(config.also)}: cross-validation is of one task at a time.")
    for fold in folds:  # all of them before the first one trains
        check(config, (fold,))
    runs = [out / f"fold-{i}" for i in range(len(folds))]
    with joined() as share:
        for run, fold in zip(runs, folds, strict=True):
            train(config, fold, run, command=command, resume=resume, callbacks=copy.deepcopy(callbacks))
        members = [(load_net(run, config), config.input.size) for run in runs]
        judged, logits = out_of_fold.answers(members, [config] * len(runs), folds, runs=runs, mirrored=True)
        model_id = f"{config.task}-{config.model.backbone.replace('_', '-')}-{config.input.size}-{len(folds)}-fold"
        answers = evaluation_input(judged, logits, softmax(logits), model_id=model_id)
        if config.select.monitor != LAST:
            answers = replace(answers, notes=(CHOSEN,))
        if share.first:
            write_predictions(out / PREDICTIONS, answers)
    return answers
