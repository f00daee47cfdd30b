"""The training step, as a Lightning module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kneexray.errors import DataError
from kneexray.evaluation import metrics
from kneexray.tasks import TASKS
from kneexray.train import soft_targets
from kneexray.train.augment import Chance, augment, mix
from kneexray.train.data import Batch
from kneexray.train.distil import imitation
from kneexray.train.imbalance import class_weights
from kneexray.train.networks import models
from kneexray.train.networks.losses import Criterion
from kneexray.train.processes import ALONE, Share, gathered
from kneexray.train.recipe.config import Config


class GradingModule(L.LightningModule):
    """Augment on the device, forward, loss; AdamW with warm-up and cosine; validation metrics on a single un-mirrored pass.

    ``counts`` are, for each task of the recipe, how many training images each class has. ``share`` is what this process does of it.
    """

    def __init__(self, config: Config, *, counts: Sequence[Sequence[int]], steps_per_epoch: int, share: Share = ALONE) -> None:
        super().__init__()
        self.share = share
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.net = models.for_recipe(config)
        self.criteria = nn.ModuleList(
            Criterion(config.loss, classes=len(count), weights=class_weights(count, config.imbalance)) for count in counts
        )
        self._outputs: list[tuple[list[Tensor], Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) in [0, 1] -> the first task's logits (N, K)."""
        logits: Tensor = self.net(images.contiguous(memory_format=torch.channels_last))
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step on a batch of whole boxes.

        Augmentation and dropout draw from a state that depends on seed and step only: a resumed run equals an unbroken one.
        """
        seed, size = self.config.seed * 1_000_003 + self.global_step, self.config.input.size_at(self.current_epoch)
        generator = torch.manual_seed(seed)
        batch, images = changed(batch, self.config, size=size, generator=generator, share=self.share)
        targets = [cast("Criterion", c).targets(labels) for c, labels in zip(self.criteria, batch.labels.unbind(dim=1), strict=True)]
        targets += [extra for extra in (batch.taught, batch.lengths) if extra is not None]
        images, targets = mix(images, targets, self.config.augment, generator=generator, labels=class_names(batch, self.config))
        if not self.share.first:
            torch.manual_seed(seed + (self.share.rank << 32))  # or every process would drop the same features
        outputs = self.net.outputs(images.contiguous(memory_format=torch.channels_last))
        weights = [1.0, *[self.config.loss.also] * len(self.config.also)]
        losses = [w * c(out, target) for w, c, out, target in zip(weights, self.criteria, outputs, targets, strict=False)]
        loss = torch.stack(losses).sum()
        if batch.taught is not None:
            taught, distil = targets[len(weights)], self.config.distil
            logits = [self.net.kind.logits(out.float()) for out in outputs[: len(weights)]]
            soft = soft_targets.imitation(logits, taught, weights) if distil.answers else imitation(logits[0], taught, distil)
            loss = (1 - distil.weight) * loss + distil.weight * soft
        if batch.lengths is not None and self.net.lengths is not None:
            loss = loss + self.config.lengths.weight * soft_targets.length_loss(outputs[-1].float(), targets[-1])
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(images), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep each task's logits, and the labels; the metrics need the whole split."""
        outputs = self.net.outputs(batch.images.contiguous(memory_format=torch.channels_last))
        logits = [self.net.kind.logits(out.float()).cpu() for out in outputs[: len(self.config.tasks)]]
        self._outputs.append((logits, batch.labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log accuracy, QWK, MAE and NLL of the split: of the first task as ``val_accuracy``, of another as ``val_TASK_accuracy``."""
        rows = len(self.trainer.val_dataloaders.dataset)
        target = gathered(torch.cat([labels for _, labels in self._outputs]), rows=rows)  # (N, T)
        for i, task in enumerate(self.config.tasks):
            logits, known = gathered(torch.cat([o[i] for o, _ in self._outputs]), rows=rows).double(), target[:, i] >= 0
            if not torch.isfinite(logits).all():
                raise DataError("the network answers with values that are no numbers. Try a lower learning rate (optim.lr).")
            measured = validation_metrics(logits[known].softmax(dim=1).numpy(), target[known, i].numpy())
            for name, value in measured.items():
                shown = i == 0 and name in {"accuracy", "qwk"}
                self.log(f"val_{name}" if i == 0 else f"val_{task}_{name}", value, prog_bar=shown, sync_dist=True)
        self._outputs.clear()

    def configure_optimizers(self) -> Any:
        """Return AdamW with a schedule stepped every batch."""
        whole = str(self.trainer.precision) == "32-true"  # Lightning refuses to clip gradients of a fused step under mixed precision
        optimizer = torch.optim.AdamW(self.parameter_groups(), lr=self.config.optim.lr, fused=whole)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters that learn, by learning rate, highest first; biases and norms are not decayed."""
        optim = self.config.optim
        factors = {p: f for p, f in models.learning_rates(self.net, decay=optim.layer_decay).items() if p.requires_grad}
        groups = []
        for factor in sorted(set(factors.values()), reverse=True):
            mine = [p for p, f in factors.items() if f == factor]
            decayed, plain = [p for p in mine if p.ndim > 1], [p for p in mine if p.ndim <= 1]
            for parameters, decay in ((decayed, optim.weight_decay), (plain, 0.0)):
                groups.append({"params": parameters, "weight_decay": decay, "lr": optim.lr * factor})
        return groups

    def _factor(self, step: int) -> float:
        optim = self.config.optim
        total = max(1, optim.epochs * self.steps_per_epoch)
        warmup = optim.warmup_epochs * self.steps_per_epoch
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, step / total))) if optim.schedule == "cosine" else 1.0
        return min(1.0, (step + 1) / max(1.0, warmup)) * decay


def augmented(batch: Batch, config: Config, *, size: int, generator: torch.Generator, share: Share = ALONE) -> Tensor:
    """Return what the network sees of a batch of whole boxes, (N, 1, size, size), each class changed as much as the recipe says."""
    return changed(batch, config, size=size, generator=generator, share=share)[1]


def changed(batch: Batch, config: Config, *, size: int, generator: torch.Generator, share: Share = ALONE) -> tuple[Batch, Tensor]:
    """Return a batch of whole boxes, and what the network sees of it, (N, 1, size, size), each class changed as much as the recipe says.

    Where the mirror image has other targets, the batch returned is mirrored already, its targets with it.
    """
    labels, changes = class_names(batch, config), config.augment
    if batch.lengths is not None or soft_targets.has_sides(config.tasks):
        chances = torch.tensor([changes.of(label).flip for label in labels])
        batch = soft_targets.mirrored(batch, config.tasks, Chance(generator, len(batch.images), share).uniform() < chances)
        changes = changes.model_copy(update={"flip": 0.0, "per_class": {k: v | {"flip": 0.0} for k, v in changes.per_class.items()}})
    return batch, augment(batch.images, changes, config.input.geometry, size=size, generator=generator, labels=labels, share=share)


def class_names(batch: Batch, config: Config) -> list[str]:
    """Return the class of each image in the recipe's first task, empty where it is not known."""
    names = [*TASKS[config.task].labels, ""]
    return [names[label] for label in batch.labels[:, 0].tolist()]  # a missing label, -1, takes the last


def validation_metrics(probabilities: NDArray[np.float64], target: NDArray[np.int64]) -> dict[str, float]:
    """Return the figures that an epoch is chosen by, from probabilities (N, K) and labels (N,)."""
    tally = metrics.tally(probabilities, target, np.arange(len(target)))
    measured = metrics.measure(tally, np.ones(tally.patients))
    return {name: float(measured[name][0]) for name in ("accuracy", "qwk", "mae", "nll")}
