"""What happens beside the training step: metrics on disk, a stop at numbers that are none, the average of the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
from safetensors.torch import save_file
from torch import Tensor

from kneexray.errors import DataError
from kneexray.train.curves import read_metrics


class JsonLines(L.Callback):
    """Append one line an epoch to ``metrics.jsonl``; lines of epochs that a resumed run repeats are dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the epoch's metrics."""
        if not trainer.is_global_zero:
            return
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
            save_file({"images": batch.images.float().cpu().contiguous(), "labels": batch.labels.cpu()}, path)
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
