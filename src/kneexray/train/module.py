"""The training step, as a Lightning module."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kneexray import metrics
from kneexray.preprocess import Geometry
from kneexray.train import losses, models
from kneexray.train.augment import augment
from kneexray.train.config import Config


class GradingModule(L.LightningModule):
    """Augment on the device, forward, loss; AdamW with warm-up and cosine; validation metrics on a single un-mirrored pass."""

    def __init__(self, config: Config, *, classes: int, steps_per_epoch: int) -> None:
        super().__init__()
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.geometry = Geometry(size=config.input.size, zoom=config.input.zoom, shift_y=config.input.shift_y)
        self.net = models.build(config.model, classes=classes, size=config.input.size)
        self.loss = losses.build(config.loss)
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) in [0, 1] -> logits (N, K)."""
        logits: Tensor = self.net(images.contiguous(memory_format=torch.channels_last))
        return logits

    def size_at(self, epoch: int) -> int:
        """Return the input size that ``epoch`` trains at."""
        sizes = [size for first, size in sorted(self.config.input.progressive) if first <= epoch]
        return sizes[-1] if sizes else self.config.input.size

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One step on a batch of whole boxes (N, 1, H, W) and labels (N,).

        Augmentation and dropout draw from a state that depends on seed and step only: a resumed run equals an unbroken one.
        """
        images, target = batch
        generator = torch.manual_seed(self.config.seed * 1_000_003 + self.global_step)
        images = augment(images, self.config.augment, self.geometry, size=self.size_at(self.current_epoch), generator=generator)
        loss = self.loss(self(images), target)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(target))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep logits and labels; the metrics need the whole split."""
        images, target = batch
        self._outputs.append((self(images).float().cpu(), target.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log accuracy, QWK, MAE and NLL of the split."""
        logits = torch.cat([o for o, _ in self._outputs]).double()
        target = torch.cat([t for _, t in self._outputs]).numpy()
        self._outputs.clear()
        for name, value in validation_metrics(logits.softmax(dim=1).numpy(), target).items():
            self.log(f"val_{name}", value, prog_bar=name in {"accuracy", "qwk"})

    def configure_optimizers(self) -> Any:
        """Return AdamW (no decay on biases and norms) with a schedule stepped every batch."""
        optim = self.config.optim
        decayed = [p for p in self.net.parameters() if p.requires_grad and p.ndim > 1]
        plain = [p for p in self.net.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        whole = str(self.trainer.precision) == "32-true"  # Lightning refuses to clip gradients of a fused step under mixed precision
        optimizer = torch.optim.AdamW(groups, lr=optim.lr, fused=whole)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _factor(self, step: int) -> float:
        optim = self.config.optim
        total = max(1, optim.epochs * self.steps_per_epoch)
        warmup = optim.warmup_epochs * self.steps_per_epoch
        return min(1.0, (step + 1) / max(1.0, warmup)) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))


def validation_metrics(probabilities: NDArray[np.float64], target: NDArray[np.int64]) -> dict[str, float]:
    """Return the figures that an epoch is chosen by, from probabilities (N, K) and labels (N,)."""
    tally = metrics.tally(probabilities, target, np.arange(len(target)))
    measured = metrics.measure(tally, np.ones(tally.patients))
    return {name: float(measured[name][0]) for name in ("accuracy", "qwk", "mae", "nll")}
