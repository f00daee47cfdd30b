"""Losses: each turns logits and targets into a scalar, and says how logits become probabilities.

A new loss is a function here and a row in :data:`LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from kneexray.errors import ConfigError, choices
from kneexray.train.config import LossConfig

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(config: LossConfig) -> Loss:
    """Cross-entropy with label smoothing."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, label_smoothing=config.smoothing)

    return loss


def soft_ordinal(config: LossConfig) -> Loss:
    """Cross-entropy against targets spread over neighbouring grades: ``t_k ~ exp(-sharpness * |k - y|)``.

    Readers disagree by one grade far more often than by two (Chen et al. 2019, doi:10.1016/j.compmedimag.2019.06.002,
    weigh errors by distance for the same reason).
    """

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, soft_targets(target, classes=logits.shape[1], sharpness=config.sharpness))

    return loss


def soft_targets(target: Tensor, *, classes: int, sharpness: float) -> Tensor:
    """Return (N, K) rows that sum to 1 with weights ``exp(-sharpness * |k - y|)``."""
    distance = (torch.arange(classes, device=target.device)[None] - target[:, None]).abs()
    weight = torch.exp(-sharpness * distance.float())
    return weight / weight.sum(dim=1, keepdim=True)


LOSSES: MappingProxyType[str, Callable[[LossConfig], Loss]] = MappingProxyType(
    {"cross_entropy": cross_entropy, "soft_ordinal": soft_ordinal}
)


def build(config: LossConfig) -> Loss:
    """Return the loss of a recipe; raises :class:`ConfigError` that lists the choices."""
    if config.name not in LOSSES:
        raise ConfigError(choices("loss.name", config.name, LOSSES))
    return LOSSES[config.name](config)
