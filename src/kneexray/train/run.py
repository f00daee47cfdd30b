"""One training run, from a recipe and a manifest to a run folder that can be resumed, exported and evaluated."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, RichProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.memory import is_oom_error
from safetensors.torch import save_file

from kneexray import provenance
from kneexray.bundle import Bundle
from kneexray.datasets import manifest as manifests
from kneexray.datasets.manifest import Manifest
from kneexray.errors import ConfigError
from kneexray.train import data, distil, imbalance, labels
from kneexray.train.callbacks import JsonLines, StopOnNonFinite, moving_average
from kneexray.train.config import Config, validate
from kneexray.train.curves import read_metrics, write_curves
from kneexray.train.labels import Labelled
from kneexray.train.module import GradingModule
from kneexray.train.start import TRAINED, load_starting_point

CONFIG, DATA, IDENTITY = "config.json", "data.csv", "data.json"
METRICS, RECORD = "metrics.jsonl", "manifest.json"


def train(
    config: Config,
    manifest: Manifest,
    out: str | Path,
    *,
    command: Sequence[str],
    also: Sequence[Manifest] = (),
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train as ``config`` says on ``manifest``'s splits ``train`` and ``val``; return the run's manifest.

    ``also`` holds the manifests of the tasks ``config.also``, made from the same place as ``manifest``.

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
    checkpoint = ModelCheckpoint(
        folder / "checkpoints",
        filename="best",
        monitor=config.select.monitor,
        mode=_mode(config),
        save_last=True,
        enable_version_counter=False,
    )
    with torch.random.fork_rng():  # the caller's random state is left as it was
        torch.manual_seed(config.seed)
        fit, judge = (labels.collect(tasks, split) for split in ("train", "val"))
        sampler = imbalance.EpochShuffle(fit.strata(), seed=config.seed, sampling=config.imbalance.sampling)
        steps = len(sampler) // min(config.optim.batch_size, len(sampler))
        module = GradingModule(config, counts=fit.counts([len(m.task.labels) for m in tasks]), steps_per_epoch=steps)
        start = load_starting_point(module.net, config.model)
        last = _prepare_folder(folder, config, everything, identity, resume=resume)  # nothing is written for a recipe that cannot be
        loaders = _loaders(config, everything, fit, judge, teachers, sampler, folder / "cache")
        trainer = _trainer(config, folder, checkpoint, steps_per_epoch=steps, progress=progress)
        try:
            trainer.fit(module, *loaders, ckpt_path=last, weights_only=True)
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or is_oom_error(error)):
                raise
            smaller = max(1, config.optim.batch_size // 2)
            raise ConfigError(
                f"out of memory at batch_size {config.optim.batch_size}. Try --set optim.batch_size={smaller}, or a smaller input.size."
            ) from error
    _write_weights(Path(checkpoint.best_model_path), folder / TRAINED)
    history = read_metrics(folder / METRICS)
    write_curves(history, folder / "curves.png")
    best = max(history, key=lambda row: row[config.select.monitor] * (1 if _mode(config) == "max" else -1))
    record = provenance.run_manifest(
        command=command,
        config=config.model_dump(mode="json"),
        inputs={str(manifest.root): everything.digest(), **{str(t.folder): t.card.sha256 for t in teachers}},
        outputs={"epochs": len(history), "best": best, "starting_point": asdict(start), "split_quality": everything.split_quality},
        started=started,
        finished=datetime.now(UTC),
        environment=provenance.environment(device=str(trainer.strategy.root_device)),
    )
    provenance.write_manifest(folder / RECORD, record)
    return record


def check(config: Config, tasks: Sequence[Manifest]) -> None:
    """Raise :class:`DataError` or :class:`ConfigError` for data, one manifest a task, that ``config`` cannot be trained on."""
    if tuple(m.task.name for m in tasks) != config.tasks:
        raise ConfigError(f"the recipe trains {', '.join(config.tasks)}; the data are of {', '.join(m.task.name for m in tasks)}.")
    for manifest in tasks:
        manifests.check_for_training(manifest)
    labels.check_splits(tasks)


def load_config(run: str | Path) -> Config:
    """Return the resolved recipe of a run folder."""
    path = Path(run) / CONFIG
    if not path.is_file():
        raise ConfigError(f"{run}: is no run folder ({CONFIG} is missing). Give the --out of a 'kneexray train'.")
    return validate(json.loads(path.read_text(encoding="utf-8")), where=str(path))


def _mode(config: Config) -> str:
    return "min" if config.select.monitor in {"val_nll", "val_mae"} else "max"


def _prepare_folder(folder: Path, config: Config, manifest: Manifest, identity: dict[str, Any], *, resume: bool) -> Path | None:
    last = folder / "checkpoints" / "last.ckpt"
    if resume and last.exists():
        before = load_config(folder)
        if before != config:
            old, new = before.model_dump(), config.model_dump()
            changed = [f"{k}.{s}" for k in old if isinstance(old[k], dict) for s in old[k] if old[k][s] != new[k][s]]
            changed += [k for k in old if not isinstance(old[k], dict) and old[k] != new[k]]
            raise ConfigError(
                f"{folder}: cannot resume, the recipe differs in {', '.join(changed)}. "
                f"Resume with the same recipe, or train into another folder."
            )
        began = {"teachers": {}} | json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
        for what, key in (("data", "digest"), ("teachers", "teachers")):
            if began[key] != identity[key]:
                raise ConfigError(
                    f"{folder}: cannot resume, the {what} differ from those that the run began with. Train into another folder."
                )
        return last
    if last.exists():
        raise ConfigError(f"{folder}: already holds a run. Go on with --resume, or choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(config.model_dump_json(indent=2), encoding="utf-8")
    (folder / IDENTITY).write_text(json.dumps(identity), encoding="utf-8")
    manifests.write(manifest, folder / DATA)
    (folder / METRICS).unlink(missing_ok=True)
    return None


def _loaders(
    config: Config,
    manifest: Manifest,
    fit: Labelled,
    judge: Labelled,
    teachers: Sequence[Bundle],
    sampler: imbalance.EpochShuffle,
    cache: Path,
) -> tuple[Any, Any]:
    geometry = config.input.geometry
    seen = data.cached(manifest, fit.examples, data.whole_box(geometry), dtype="float16", folder=cache)
    exact = data.cached(manifest, judge.examples, geometry, dtype="float32", folder=cache)
    taught = None
    if teachers:
        taught = distil.soften(distil.teacher_logits(teachers, manifest, fit.examples, folder=cache), config.distil)
    size = min(config.optim.batch_size, len(sampler))
    return (
        data.loader(data.Knees(seen, fit.labels, taught=taught), batch_size=size, sampler=sampler, drop_last=True),
        data.loader(data.Knees(exact, judge.labels), batch_size=2 * size),
    )


def _trainer(config: Config, folder: Path, checkpoint: ModelCheckpoint, *, steps_per_epoch: int, progress: bool) -> L.Trainer:
    cuda = torch.cuda.is_available()
    precision = {"auto": "bf16-mixed" if cuda else "32-true", "32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[
        config.optim.precision
    ]
    callbacks: list[L.Callback] = [
        checkpoint,
        EarlyStopping(config.select.monitor, mode=_mode(config), patience=config.select.patience, check_finite=False),
        LearningRateMonitor("step"),
        JsonLines(folder / METRICS),
        StopOnNonFinite(folder),
    ]
    if config.optim.average:
        callbacks.insert(0, WeightAveraging(avg_fn=moving_average(config.optim.average)))
    if progress:
        callbacks.append(RichProgressBar())
    return L.Trainer(
        default_root_dir=folder,
        accelerator="auto",
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


def _write_weights(checkpoint: Path, path: Path) -> None:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    partial = path.with_suffix(f".{os.getpid()}")
    save_file({k.removeprefix("net."): v.contiguous() for k, v in state.items() if k.startswith("net.")}, partial)
    partial.replace(path)
