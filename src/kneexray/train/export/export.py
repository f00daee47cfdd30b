"""A run folder -> a model bundle: one ONNX file that gives ``logits`` and, where the network has one, ``cam``; and its card."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors.torch import load_file

from kneexray.datasets import manifest as manifests
from kneexray.datasets.manifest import Manifest, digest
from kneexray.errors import ConfigError, choices
from kneexray.geometry import resample
from kneexray.inference.bundle import CARD, GOLDEN, NETWORK, Bundle, Card, HeadCard, open_bundle, sha256_of
from kneexray.inference.calibration import Calibration, fit_calibration
from kneexray.inference.session import Session
from kneexray.tasks import TASKS
from kneexray.train import data, labels
from kneexray.train.export import card as cards
from kneexray.train.export import out_of_fold, quantize
from kneexray.train.export.graph import Exported as Exported
from kneexray.train.export.graph import check_parity, write_onnx
from kneexray.train.export.half_precision import halve
from kneexray.train.export.model_card import PAGE, markdown
from kneexray.train.networks import models
from kneexray.train.networks.initial_weights import TRAINED
from kneexray.train.recipe.config import LAST, Config
from kneexray.train.run_folder import DATA, cache, load_config

logger = logging.getLogger(__name__)

GOLDEN_IMAGES = 4
Weights = Literal["float32", "float16", "int8"]
WEIGHTS: tuple[Weights, ...] = get_args(Weights)


def export(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    command: Sequence[str],
    task: str | None = None,
    mirrored: bool = True,
    weights: Weights = "float32",
) -> Card:
    """Write the bundle of one or several run folders into ``out``; return its card. Several make an ensemble.

    A bundle answers all tasks that its run learned, in one pass; ``task`` names one that it shall answer alone. ``weights`` is how the
    file stores them: float16 halves it, int8 quarters it and computes in 8 bits. Calibration is fitted, and the card's scores are
    measured, on the validation split with the network as it is stored; of the folds of a cross-validation, on each fold with the one
    member that did not learn from it. Raises :class:`ConfigError` where a run is not there or finished, where several do not share
    task, data and geometry, or where folds are to compute in 8 bits or answer several tasks, and :class:`BundleError` where ONNX and
    torch differ.
    """
    folders, out = [Path(run) for run in runs], Path(out)
    configs = [load_config(folder) for folder in folders]
    config = max(configs, key=lambda c: c.input.size)
    members = [(load_net(run, c, task=task), c.input.size) for run, c in zip(folders, configs, strict=True)]
    splits = [_split(folder, task or config.task) for folder in folders]
    _check_alike(folders, configs, splits)
    tasks = (task,) if task else config.tasks
    folds = out_of_fold.are_folds(splits)
    if folds and len(tasks) > 1:
        raise ConfigError(f"the folds learned {', '.join(tasks)}: name the one that their bundle shall answer with --task.")
    if folds and weights == "int8":
        raise ConfigError(
            f"--quantize int8: no image is new to every fold ({', '.join(map(str, folders))}) to judge the loss on; give one run."
        )
    manifest = splits[0]
    net = Exported(members, mirrored=mirrored, tasks=tasks).eval()
    out.mkdir(parents=True, exist_ok=True)
    write_onnx(net, out / NETWORK, size=config.input.size, outputs=net.outputs)
    judging = labels.collect([manifest, *(_split(folders[0], name) for name in tasks[1:])], "val")
    images = data.cached(manifest, judging.examples, config.input.geometry, dtype="float32", folder=cache(folders[0]))
    bundle = _describe(cards.of_runs(folders, config, splits, net, sha256=sha256_of(out / NETWORK), command=command), out)
    check_parity(bundle, net, np.ascontiguousarray(images[:GOLDEN_IMAGES]))
    exact = _logits(bundle, images) if weights == "int8" else None
    if weights != "float32":
        if weights == "int8":
            quantize.quantize(bundle.network, _calibration_images(manifest, config, folder=cache(folders[0])))
        else:
            bundle.network.write_bytes(halve(onnx.load(bundle.network)).SerializeToString())
        bundle = _describe(cards.of_runs(folders, config, splits, net, sha256=sha256_of(out / NETWORK), command=command), out)
    if folds:
        judged, logits = out_of_fold.answers(members, configs, splits, runs=folders, mirrored=mirrored)
    else:
        judged, given = replace(manifest, examples=manifest.split("val")), _logits(bundle, images)
        mine = judging.labels[:, 0] != labels.MISSING
        logits = given[mine, bundle.card.columns(tasks[0])]
        exact = None if exact is None else exact[mine, bundle.card.columns(tasks[0])]
    calibration = _calibrate(judged, logits)
    scores = cards.scores(judged, logits, calibration, bundle.card.model_id)
    scores_on = (cards.ON_FOLDS if folds else cards.ON_VALIDATION)[config.select.monitor != LAST]
    update: dict[str, Any] = {"calibration": calibration.to_dict(), "scores": scores.kept, "scores_on": scores_on}
    if exact is not None:
        before = cards.evaluation_input(judged, exact, _calibrate(judged, exact).apply(exact), model_id="float32")
        after = cards.evaluation_input(judged, logits, calibration.apply(logits), model_id=bundle.card.model_id)
        update["quantization"] = quantize.facts(before, after)
    if len(tasks) > 1:
        update["also"] = tuple(
            _further(_split(folders[0], name), judging, given[:, bundle.card.columns(name)], column, bundle.card.model_id)
            for column, name in enumerate(tasks)
            if column
        )
    card = bundle.card.model_copy(
        update=update | {"limitations": (*scores.in_words, *bundle.card.limitations), "warnings": scores.warnings}
    )
    _write_card(card, out)
    (out / PAGE).write_text(markdown(card), encoding="utf-8")
    _write_golden(bundle)
    return card


def _describe(card: Card, out: Path) -> Bundle:
    """Write the card of the network that lies in ``out``, calibration and scores still to come; return the bundle."""
    _write_card(card, out)
    return open_bundle(out)


def _check_alike(folders: Sequence[Path], configs: Sequence[Config], splits: Sequence[Manifest]) -> None:
    """Raise :class:`ConfigError` where runs cannot be members of one model."""
    facts = [
        (config.tasks, replace(config.input.geometry, size=0), digest((e.sha256, e.label, "") for e in split.examples))
        for config, split in zip(configs, splits, strict=True)
    ]
    for folder, fact in zip(folders, facts, strict=True):
        if fact != facts[0]:
            raise ConfigError(
                f"{folder}: cannot join {folders[0]} in one model: task, data, input.region, input.zoom and input.shift_y must be the same."
            )


def load_net(run: Path, config: Config, *, task: str | None = None) -> models.GradingNet:
    """Return the network of a run folder with the chosen epoch's averaged weights, ready to infer ``task`` (None: all that it learned).

    Raises :class:`ConfigError` for a run that is not finished, or that did not learn ``task``.
    """
    path = run / TRAINED
    if not path.is_file():
        raise ConfigError(f"{run}: holds no {TRAINED}; the training has not finished. Go on with 'kneexray train ... --resume'.")
    if task is not None and task not in config.tasks:
        raise ConfigError(f"{run}: {choices('task of this run', task, config.tasks)}")
    net = models.for_recipe(config)
    net.load_state_dict(load_file(path))
    return (net.answering(config.tasks.index(task)) if task else net).eval()


def _split(run: Path, task: str) -> Manifest:
    path = run / DATA
    if not path.is_file():
        raise ConfigError(f"{run}: {DATA} is missing; calibration and scores need the run's validation split.")
    return manifests.load(path, task=task)


def _logits(bundle: Bundle, images: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    session = Session(bundle)
    return np.concatenate([session.answers(np.ascontiguousarray(images[i : i + 16]), cam=False).logits for i in range(0, len(images), 16)])


def _further(manifest: Manifest, judging: labels.Labelled, logits: NDArray[np.float32], column: int, model_id: str) -> HeadCard:
    """Return what the card holds of a further task, the ``column``-th of ``judging``, by its logits (N, K) for all images."""
    known = judging.labels[:, column] != labels.MISSING
    names = manifest.task.labels
    examples = [
        replace(example, label=names[label], task=manifest.task.name)
        for example, label, there in zip(judging.examples, judging.labels[:, column], known, strict=True)
        if there
    ]
    judged = replace(manifest, examples=tuple(examples))
    calibration = _calibrate(judged, logits[known])
    scores = cards.scores(judged, logits[known], calibration, model_id)
    return HeadCard(task=manifest.task.name, labels=names, calibration=calibration.to_dict(), scores=scores.kept, warnings=scores.warnings)


def _calibrate(judged: Manifest, logits: NDArray[np.float32]) -> Calibration:
    task = judged.task
    derived = {t.name: t.derived[1] for t in TASKS.values() if t.derived is not None and t.derived[0] == task.name}
    groups = [e.patient_id or e.path for e in judged.examples]
    return fit_calibration(logits, judged.labels(judged.examples), task=task.name, ordinal=task.ordinal, groups=groups, derived=derived)


def _calibration_images(manifest: Manifest, config: Config, *, folder: Path) -> NDArray[np.floating[Any]]:
    """Return training images that set the ranges of a network of 8 bits, (N, 1, size, size)."""
    fitted = manifest.split("train")
    chosen = [fitted[place] for place in quantize.sample(len(fitted))]
    return data.cached(manifest, chosen, config.input.geometry, dtype="float32", folder=folder)


def _write_card(card: Card, out: Path) -> None:
    (out / CARD).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _write_golden(bundle: Bundle) -> None:
    """Keep inputs and outputs in the bundle, to check any engine against. The inputs are smooth noise, no patient's image."""
    size = bundle.card.input.size
    coarse = np.random.default_rng(0).random((GOLDEN_IMAGES, 12, 12), dtype=np.float32)
    images = np.stack([resample(c, (0, 0, 12, 12), size=(size, size)) for c in coarse])[:, None]
    golden = np.round(images * 255).astype(np.uint8)
    given = Session(bundle).answers(golden.astype(np.float32) / np.float32(255))
    arrays: dict[str, Any] = {"image": golden, "logits": given.logits}
    arrays |= {name: value for name, value in (("cam", given.cam), ("lengths", given.lengths)) if value is not None}
    np.savez_compressed(bundle.folder / GOLDEN, **arrays)
