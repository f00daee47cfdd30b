"""One training run, from a recipe and a manifest to a run folder that can be resumed, exported and evaluated."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, RichProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from safetensors.torch import save_file
from torch import Tensor

from kneexray import provenance
from kneexray.datasets import manifest as manifests
from kneexray.datasets.manifest import Manifest
from kneexray.errors import ConfigError, DataError
from kneexray.preprocess import Geometry
from kneexray.train import data, models
from kneexray.train.config import Config, validate
from kneexray.train.curves import read_metrics, write_curves
from kneexray.train.module import GradingModule

CONFIG, DATA, IDENTITY = "config.json", "data.csv", "data.json"
WEIGHTS, METRICS, RECORD = "model.safetensors", "metrics.jsonl", "manifest.json"


def train(
    config: Config, manifest: Manifest, out: str | Path, *, command: Sequence[str], resume: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Train as ``config`` says on ``manifest``'s splits ``train`` and ``val``; return the run's manifest.

    The folder ``out`` then holds ``config.json``, ``data.csv``, ``metrics.jsonl``, ``curves.png``, ``tensorboard/``,
    ``checkpoints/``, the chosen epoch's averaged weights as ``model.safetensors``, and ``manifest.json``.
    Killed and resumed, a run gives the same files as if it had never stopped.
    """
    started = datetime.now(UTC)
    folder = Path(out)
    manifests.check_for_training(manifest)
    last = _prepare_folder(folder, config, manifest, resume=resume)
    loaders = _loaders(config, manifest, folder)
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
        module = GradingModule(config, classes=len(manifest.task.labels), steps_per_epoch=len(loaders[0]))
        start = models.load_starting_point(module.net, config.model)
        trainer = _trainer(config, folder, checkpoint, steps_per_epoch=len(loaders[0]), progress=progress)
        try:
            trainer.fit(module, *loaders, ckpt_path=last, weights_only=True)
        except torch.OutOfMemoryError as error:
            smaller = max(1, config.optim.batch_size // 2)
            raise ConfigError(
                f"out of device memory at batch_size {config.optim.batch_size}. Try --set optim.batch_size={smaller}."
            ) from error
    _write_weights(Path(checkpoint.best_model_path), folder / WEIGHTS)
    history = read_metrics(folder / METRICS)
    write_curves(history, folder / "curves.png")
    best = max(history, key=lambda row: row[config.select.monitor] * (1 if _mode(config) == "max" else -1))
    record = provenance.run_manifest(
        command=command,
        config=config.model_dump(mode="json"),
        inputs={str(manifest.root): manifest.digest()},
        outputs={"epochs": len(history), "best": best, "starting_point": asdict(start), "split_quality": manifest.split_quality},
        started=started,
        finished=datetime.now(UTC),
        environment=provenance.environment(device=str(trainer.strategy.root_device)),
    )
    provenance.write_manifest(folder / RECORD, record)
    return record


def load_config(run: str | Path) -> Config:
    """Return the resolved recipe of a run folder."""
    path = Path(run) / CONFIG
    if not path.is_file():
        raise ConfigError(f"{run}: is no run folder ({CONFIG} is missing). Give the --out of a 'kneexray train'.")
    return validate(json.loads(path.read_text(encoding="utf-8")), where=str(path))


class JsonLines(L.Callback):
    """Append one line an epoch to ``metrics.jsonl``; lines of epochs that a resumed run repeats are dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the epoch's metrics."""
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row |= {k: float(v) for k, v in trainer.callback_metrics.items() if not k.endswith("_step")}
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        rows = [old for old in read_metrics(self.path) if old["epoch"] < row["epoch"]] + [row]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        partial.replace(self.path)


class StopOnNonFinite(L.Callback):
    """Stop on a loss that is no number, and keep the batch that caused it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Check the loss of the step."""
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            path = self.folder / "bad-batch.safetensors"
            save_file({"images": batch[0].float().cpu().contiguous(), "labels": batch[1].cpu()}, path)
            raise DataError(
                f"the loss became {loss} at epoch {trainer.current_epoch}, step {trainer.global_step}. The batch is kept in {path}. "
                f"Try a lower learning rate (--set optim.lr={pl_module.config.optim.lr / 3:.1g}), and look at those images."
            )


def moving_average(decay: float) -> Callable[[Tensor, Tensor, int | Tensor], Tensor]:
    """Return an exponential average whose decay grows to ``decay`` as (1 + t) / (10 + t), so that the start is soon forgotten."""

    def average(averaged: Tensor, current: Tensor, steps: int | Tensor) -> Tensor:
        now = min(decay, (1 + int(steps)) / (10 + int(steps)))
        return averaged * now + current * (1 - now)

    return average


def _mode(config: Config) -> str:
    return "min" if config.select.monitor in {"val_nll", "val_mae"} else "max"


def _prepare_folder(folder: Path, config: Config, manifest: Manifest, *, resume: bool) -> Path | None:
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
        if json.loads((folder / IDENTITY).read_text())["digest"] != manifest.digest():
            raise ConfigError(f"{folder}: cannot resume, the data differ from those that the run began with. Train into another folder.")
        return last
    if last.exists():
        raise ConfigError(f"{folder}: already holds a run. Go on with --resume, or choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(config.model_dump_json(indent=2), encoding="utf-8")
    (folder / IDENTITY).write_text(
        json.dumps({"digest": manifest.digest(), "split_quality": manifest.split_quality, "root": str(manifest.root)})
    )
    manifests.write(manifest, folder / DATA)
    (folder / METRICS).unlink(missing_ok=True)
    return None


def _loaders(config: Config, manifest: Manifest, folder: Path) -> tuple[Any, Any]:
    geometry = Geometry(size=config.input.size, zoom=config.input.zoom, shift_y=config.input.shift_y)
    cache = folder / "cache"
    fit, judge = manifest.split("train"), manifest.split("val")
    seen = data.cached(manifest, fit, data.whole_box(geometry), dtype="float16", folder=cache)
    exact = data.cached(manifest, judge, geometry, dtype="float32", folder=cache)
    shuffle = data.EpochShuffle(len(fit), seed=config.seed)
    size = min(config.optim.batch_size, len(fit))
    return (
        data.loader(data.Knees(seen, manifest.labels(fit)), batch_size=size, sampler=shuffle, drop_last=True),
        data.loader(data.Knees(exact, manifest.labels(judge)), batch_size=2 * size),
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
