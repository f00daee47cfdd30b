"""One training run, from a recipe and a manifest to a run folder that can be resumed, exported and evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, ProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.memory import is_oom_error

from kneexray import provenance
from kneexray.datasets import manifest as manifests
from kneexray.datasets.manifest import Manifest
from kneexray.errors import ConfigError
from kneexray.inference.bundle import Bundle
from kneexray.train import data, distil, imbalance, labels, run_folder, soft_targets
from kneexray.train.callbacks import JsonLines, StopOnNonFinite, moving_average
from kneexray.train.curves import read_metrics, write_curves
from kneexray.train.labels import Labelled
from kneexray.train.module import GradingModule
from kneexray.train.networks.initial_weights import TRAINED, StartingPoint, load_starting_point
from kneexray.train.processes import Share, Shared, dealt, first_goes_ahead, joined, layout
from kneexray.train.recipe.config import LAST, Config
from kneexray.train.run_folder import METRICS, RECORD


def train(
    config: Config,
    manifest: Manifest,
    out: str | Path,
    *,
    command: Sequence[str],
    also: Sequence[Manifest] = (),
    resume: bool = False,
    callbacks: Sequence[L.Callback] = (),
) -> dict[str, Any]:
    """Train as ``config`` says on ``manifest``'s splits ``train`` and ``val``; return the run's manifest.

    ``also`` holds the manifests of the tasks ``config.also``, made from the same place as ``manifest``. ``callbacks`` watch the run: a
    progress bar, a tuner. Started by ``torchrun``, the processes train one network together.

    The folder ``out`` then holds ``config.json``, ``data.csv``, ``metrics.jsonl``, ``curves.png``, ``tensorboard/``,
    ``checkpoints/``, the chosen epoch's averaged weights as ``model.safetensors``, and ``manifest.json``.
    Killed and resumed, a run gives the same files as if it had never stopped.
    """
    started = datetime.now(UTC)
    folder = Path(out)
    tasks = (manifest, *also)
    check(config, tasks)
    everything = replace(manifest, examples=tuple(e for m in tasks for e in m.examples))
    teachers = distil.open_teachers(config.distil, task=config.task)
    identity = {
        "digest": everything.digest(),
        "split_quality": everything.split_quality,
        "root": str(manifest.root),
        "teachers": {t.card.model_id: t.card.sha256 for t in teachers},
    }
    chosen = config.select.monitor != LAST
    checkpoint = ModelCheckpoint(
        folder / run_folder.CHECKPOINTS,
        filename="best",
        monitor=config.select.monitor if chosen else None,
        mode=run_folder.mode(config),
        save_last=True,
        enable_version_counter=False,
    )
    with joined() as share, torch.random.fork_rng():  # the caller's random state is left as it was
        torch.manual_seed(config.seed)
        fit, judge = (labels.collect(tasks, split) for split in ("train", "val"))
        sampler = imbalance.EpochShuffle(fit.strata(), seed=config.seed, sampling=config.imbalance.sampling)
        size = share.batch_size(config.optim.batch_size, images=len(sampler))
        steps = len(sampler) // size
        module = GradingModule(config, counts=fit.counts([len(m.task.labels) for m in tasks]), steps_per_epoch=steps, share=share)
        start = load_starting_point(module.net, config.model)
        with first_goes_ahead(share):
            if share.first:  # nothing is written for a recipe that cannot be
                run_folder.begin(folder, config, everything, identity, resume=resume)
            loaders = _loaders(
                config,
                everything,
                fit=fit,
                judge=judge,
                teachers=teachers,
                sampler=Shared(sampler, batch_size=size, share=share),
                cache=run_folder.cache(folder),
            )
        trainer = _trainer(config, folder, [checkpoint, *callbacks], steps_per_epoch=steps, share=share)
        try:
            trainer.fit(module, *loaders, ckpt_path=run_folder.checkpoint(folder), weights_only=True)
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or is_oom_error(error)):
                raise
            smaller = config.optim.batch_size // 2
            remedy = f"--set optim.batch_size={smaller}, or a smaller input.size" if smaller else "a smaller input.size or backbone"
            raise ConfigError(f"out of memory at batch_size {config.optim.batch_size}. Try {remedy}.") from error
        environment = provenance.environment(device=str(trainer.strategy.root_device)) | {"processes": share.world}
        with first_goes_ahead(share):
            if share.first:
                run_folder.write_weights(Path(checkpoint.best_model_path), folder / TRAINED)
                inputs = {str(manifest.root): everything.digest(), **{str(t.folder): t.card.sha256 for t in teachers}}
                outputs = _outputs(config, folder, start) | {"split_quality": everything.split_quality}
                record = provenance.run_manifest(
                    command=command,
                    config=config.model_dump(mode="json"),
                    inputs=inputs,
                    outputs=outputs,
                    started=started,
                    finished=datetime.now(UTC),
                    environment=environment,
                )
                provenance.write_manifest(folder / RECORD, record)
    return run_folder.read_record(folder)


def _outputs(config: Config, folder: Path, start: StartingPoint) -> dict[str, Any]:
    """Draw the learning curves; return what the run's manifest holds of them."""
    history = read_metrics(folder / METRICS)
    write_curves(history, folder / "curves.png")
    best = history[-1]
    if config.select.monitor != LAST:
        sign = 1 if run_folder.mode(config) == "max" else -1
        best = max(history, key=lambda row: row[config.select.monitor] * sign)
    return {"epochs": len(history), "best": best, "starting_point": asdict(start)}


def check(config: Config, tasks: Sequence[Manifest]) -> None:
    """Raise :class:`DataError` or :class:`ConfigError` for data, one manifest a task, that ``config`` cannot be trained on."""
    if tuple(m.task.name for m in tasks) != config.tasks:
        raise ConfigError(f"the recipe trains {', '.join(config.tasks)}; the data are of {', '.join(m.task.name for m in tasks)}.")
    for manifest in tasks:
        manifests.check_for_training(manifest)
    labels.check_splits(tasks)


def _loaders(
    config: Config,
    manifest: Manifest,
    *,
    fit: Labelled,
    judge: Labelled,
    teachers: Sequence[Bundle],
    sampler: Shared,
    cache: Path,
) -> tuple[Any, Any]:
    geometry = config.input.geometry
    seen = data.cached(manifest, fit.examples, data.whole_box(geometry), dtype="float16", folder=cache)
    exact = data.cached(manifest, judge.examples, geometry, dtype="float32", folder=cache)
    taught = lengths = None
    if teachers:
        taught = distil.soften(distil.teacher_logits(teachers, manifest, fit.examples, folder=cache), config.distil)
    elif config.distil.answers:
        taught, lengths = soft_targets.from_answers(config, fit.examples)
    if config.lengths.weight:
        lengths = soft_targets.blended(soft_targets.read_lengths(config, fit.examples), lengths, weight=config.distil.weight)
    size = len(sampler.rows)
    knees = data.Knees(seen, fit.labels, taught=taught, lengths=lengths)
    return (
        data.loader(knees, batch_size=size, sampler=sampler, drop_last=True),
        data.loader(data.Knees(exact, judge.labels), batch_size=2 * size, sampler=dealt(len(judge.labels), sampler.share)),
    )


def _trainer(config: Config, folder: Path, watchers: Sequence[L.Callback], *, steps_per_epoch: int, share: Share) -> L.Trainer:
    cuda = torch.cuda.is_available()
    precision = {"auto": "bf16-mixed" if cuda else "32-true", "32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[
        config.optim.precision
    ]
    callbacks: list[L.Callback] = [
        *([WeightAveraging(avg_fn=moving_average(config.optim.average))] if config.optim.average else []),
        LearningRateMonitor("step"),
        JsonLines(folder / METRICS),
        StopOnNonFinite(folder),
        *watchers,
    ]
    if config.select.monitor != LAST:
        patience = config.select.patience
        callbacks.append(EarlyStopping(config.select.monitor, mode=run_folder.mode(config), patience=patience, check_finite=False))
    progress = any(isinstance(callback, ProgressBar) for callback in watchers)
    devices, nodes = layout(share)
    return L.Trainer(
        default_root_dir=folder,
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if share.world > 1 else "auto",
        sync_batchnorm=cuda and share.world > 1,
        use_distributed_sampler=False,
        precision=precision,
        max_epochs=config.optim.epochs,
        gradient_clip_val=config.optim.clip or None,
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name="tensorboard", version=""),
        log_every_n_steps=min(10, steps_per_epoch),
        num_sanity_val_steps=0,
        enable_progress_bar=progress,
        enable_model_summary=progress,
    )
