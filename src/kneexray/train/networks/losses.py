"""Losses: each turns a network's outputs and targets into a scalar, and comes with the head that turns outputs into probabilities.

A new loss is a function here and a row in :data:`LOSSES`. The function gets outputs (N, M), targets as weights of the classes (N, K)
and the recipe's table, and returns one value a row, linear in the targets. A row of targets is a one for a label, shares for a smoothed
or mixed one, zeros for a missing one, each times the class's weight; so all of these work with every loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kneexray.errors import ConfigError, choices
from kneexray.train.networks.heads import CORAL, CORN, SIGMOIDS, SOFTMAX, Head
from kneexray.train.processes import averaged
from kneexray.train.recipe.config import LossConfig

Rows = Callable[[Tensor, Tensor, LossConfig], Tensor]


def cross_entropy(outputs: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Cross-entropy."""
    return F.cross_entropy(outputs, target, reduction="none")


def soft_ordinal(outputs: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Cross-entropy against targets spread over neighbouring grades: ``t_k ~ exp(-sharpness * |k - y|)``.

    Readers disagree by one grade far more often than by two (Chen et al. 2019, doi:10.1016/j.compmedimag.2019.06.002,
    weigh errors by distance for the same reason).
    """
    spread = torch.exp(-config.sharpness * distances(target.shape[1], like=target))
    return F.cross_entropy(outputs, target @ (spread / spread.sum(dim=1, keepdim=True)), reduction="none")


def distance_weighted(outputs: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Class distance weighted cross-entropy: ``-sum_k |k - y|^power log(1 - p_k)`` (Polat et al. 2022, arXiv:2202.05167)."""
    weight = target @ distances(target.shape[1], like=target) ** config.power
    return -(weight * log_others(outputs)).sum(dim=1)


def focal(outputs: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Focal loss of a softmax: ``-alpha_y (1 - p_y)^gamma log p_y`` (Lin et al. 2017, arXiv:1708.02002, equation 5).

    ``alpha`` is one weight a class, all 1 where none is given. For two classes this is Lin's binary loss with alpha = (1 - a, a).
    """
    weight = target * target.new_tensor(config.alpha or 1.0)
    return -(weight * torch.exp(config.gamma * log_others(outputs)) * F.log_softmax(outputs, dim=1)).sum(dim=1)


def focal_sigmoid(outputs: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Focal loss of one sigmoid a class, as RetinaNet's (Lin et al. 2017, section 4): the sum over classes of the binary loss.

    ``alpha`` is one number, the weight of a class where it is the true one; where it is not it weighs 1 - alpha.
    """
    others = target.sum(dim=1, keepdim=True) - target
    yes, no = F.logsigmoid(outputs), F.logsigmoid(-outputs)
    alpha_yes, alpha_no = (config.alpha[0], 1 - config.alpha[0]) if config.alpha else (1.0, 1.0)
    rows = alpha_yes * target * torch.exp(config.gamma * no) * yes + alpha_no * others * torch.exp(config.gamma * yes) * no
    return -rows.sum(dim=1)


def coral(outputs: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """The sum over thresholds of the binary loss of y > k (Cao, Mirjalili & Raschka 2020, doi:10.1016/j.patrec.2020.11.008)."""
    above = above_thresholds(target)
    below = target.sum(dim=1, keepdim=True) - above
    return -(above * F.logsigmoid(outputs) + below * F.logsigmoid(-outputs)).sum(dim=1)


def corn(outputs: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """The binary losses of y > k among those with y > k - 1, averaged over both (Shi, Cao & Raschka 2021, arXiv:2111.08851, equation 5)."""
    above = above_thresholds(target)
    asked = torch.cat([target.sum(dim=1, keepdim=True), above[:, :-1]], dim=1)
    rows = -(above * F.logsigmoid(outputs) + (asked - above) * F.logsigmoid(-outputs)).sum(dim=1)
    return rows * (averaged(target.sum()) / averaged(asked.sum()).clamp(min=torch.finfo(asked.dtype).tiny))


LOSSES: MappingProxyType[str, tuple[Rows, Head]] = MappingProxyType(
    {
        "cross_entropy": (cross_entropy, SOFTMAX),
        "soft_ordinal": (soft_ordinal, SOFTMAX),
        "distance": (distance_weighted, SOFTMAX),
        "focal": (focal, SOFTMAX),
        "focal_sigmoid": (focal_sigmoid, SIGMOIDS),
        "coral": (coral, CORAL),
        "corn": (corn, CORN),
    }
)


class Criterion(nn.Module):
    """A recipe's loss for one task of ``classes`` grades, each weighing ``weights`` (1 where None).

    Raises :class:`ConfigError` that lists the choices for an unknown name, and for an ``alpha`` of the wrong length.
    """

    weights: Tensor

    def __init__(self, config: LossConfig, *, classes: int, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.config = config
        self.rows, self.head = find(config)
        wanted = {"focal": classes, "focal_sigmoid": 1}.get(config.name, 0)
        if config.alpha and len(config.alpha) != wanted:
            raise ConfigError(f"loss.alpha has {len(config.alpha)} value(s); '{config.name}' on {classes} classes takes {wanted}.")
        self.classes = classes
        self.register_buffer("weights", torch.tensor(weights or [1.0] * classes), persistent=False)

    def targets(self, labels: Tensor) -> Tensor:
        """Return labels (N,), -1 where one is missing, as shares of the classes (N, K), smoothed as the recipe says."""
        known = (labels >= 0)[:, None]
        shares = F.one_hot(labels.clamp(min=0), self.classes) * known
        return shares * (1 - self.config.smoothing) + known * (self.config.smoothing / self.classes)

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of outputs (N, M) on labels (N,) or shares of the classes (N, K).

        Where several processes share a batch, the mean of what they return is the batch's.
        """
        with torch.autocast(outputs.device.type, enabled=False):  # logarithms need more than 16 bits
            outputs = outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
            shares = target if target.is_floating_point() else self.targets(target)
            weighed = shares.to(outputs.dtype) * self.weights.to(outputs.dtype)
            total = averaged(weighed.sum()).clamp(min=torch.finfo(weighed.dtype).tiny)
            return self.rows(outputs, weighed, self.config).sum() / total

    def probabilities(self, outputs: Tensor) -> Tensor:
        """(N, M) -> (N, K), rows that sum to 1."""
        return self.head.logits(outputs).softmax(dim=1)


def find(config: LossConfig) -> tuple[Rows, Head]:
    """Return the row of :data:`LOSSES` that a recipe names; raises :class:`ConfigError` that lists the choices."""
    if config.name not in LOSSES:
        raise ConfigError(choices("loss.name", config.name, LOSSES))
    return LOSSES[config.name]


def distances(classes: int, *, like: Tensor) -> Tensor:
    """Return |i - j| of all pairs of grades, (K, K)."""
    grade = torch.arange(classes, device=like.device, dtype=like.dtype)
    return (grade[:, None] - grade).abs()


def above_thresholds(target: Tensor) -> Tensor:
    """Return the target's weight above each threshold, (N, K) -> (N, K - 1): column k is that of y > k."""
    return target.flip(1).cumsum(dim=1).flip(1)[:, 1:]


def log_others(outputs: Tensor) -> Tensor:
    """Return log(1 - p_k) of a softmax (N, K), exact where p_k is near 1."""
    itself = torch.eye(outputs.shape[1], dtype=torch.bool, device=outputs.device)
    others = outputs[:, None, :].masked_fill(itself, -torch.inf).logsumexp(dim=2)  # (N, K)
    return others - outputs.logsumexp(dim=1, keepdim=True)
