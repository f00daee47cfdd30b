"""Networks: a backbone, pooling, a last layer a task. With average pooling and one linear layer the class map is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from kneexray.errors import ConfigError
from kneexray.tasks import LENGTHS, TASKS
from kneexray.train.networks import losses
from kneexray.train.networks.backbone import Backbone
from kneexray.train.networks.heads import SOFTMAX, Head
from kneexray.train.recipe.config import Config, ModelConfig

STANDARDISE_EPSILON = 0.02
"""Added to each image's standard deviation, in units of the full grey range, so that a flat image is not amplified to noise."""


class Standardise(nn.Module):
    """Give every image mean 0 and standard deviation 1: exposure and windowing differ between films, anatomy does not."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) in [0, 1] -> (N, 1, H, W)."""
        x = x - x.mean(dim=(2, 3), keepdim=True)
        deviation = x.square().mean(dim=(2, 3), keepdim=True).sqrt()
        standardised: Tensor = x / (deviation + STANDARDISE_EPSILON)
        return standardised


class GradingNet(nn.Module):
    """Standardise -> backbone -> pooling -> hidden layers -> dropout -> last layer, one for each task.

    Where :attr:`has_cam`, the class map ``sum_c w_kc * feature_c`` is Grad-CAM before its ReLU and scale, and its mean over the map
    plus the bias is the logit: explanation and answer cannot differ.
    """

    def __init__(self, config: ModelConfig, *, classes: Sequence[int], size: int, head: Head = SOFTMAX, lengths: int = 0) -> None:
        super().__init__()
        self.kind = head
        self.standardise = Standardise()
        self.backbone = Backbone(config, size=size)
        height, width = self.backbone.map_size
        self.pool = _Average() if config.pool == "average" else nn.Flatten()
        features = self.backbone.channels * (1 if config.pool == "average" else height * width)
        self.hidden = nn.Sequential()
        for wide in config.hidden:
            self.hidden.extend([nn.Linear(features, wide), nn.ReLU()])
            features = wide
        self.dropout = nn.Dropout(config.drop_rate)
        self.head = head.layer(features, classes[0])
        self.also = nn.ModuleList(head.layer(features, k) for k in classes[1:])
        self.lengths = nn.Linear(features, lengths) if lengths else None
        self.has_cam = config.pool == "average" and not config.hidden and head is SOFTMAX and height * width > 1

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 1, H, W) float in [0, 1] -> each task's outputs (N, M), what the loss is for; then lengths (N, L) where it gives any."""
        feature = self.backbone(self.standardise(x))  # (N, C, h, w)
        pooled = self.dropout(self.hidden(self.pool(feature)))
        lengths = () if self.lengths is None else (self.lengths(pooled),)
        return (self.head(pooled), *(head(pooled) for head in self.also), *lengths)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) float in [0, 1] -> the first task's logits (N, K), whose softmax are the probabilities."""
        return self.kind.logits(self.outputs(x)[0])

    def answers(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(N, 1, H, W) -> logits (N, K) of all tasks side by side, their class maps (N, K, h, w) where it :attr:`has_cam`, and lengths.

        Of a network in evaluation mode.
        """
        feature = self.backbone(self.standardise(x))
        pooled = self.hidden(self.pool(feature))
        heads = (self.head, *self.also)
        logits = torch.cat([self.kind.logits(head(pooled)) for head in heads], dim=1)
        cam = None
        if self.has_cam:
            weight = torch.cat([cast("nn.Linear", head).weight for head in heads])
            cam = nn.functional.conv2d(feature, weight[:, :, None, None])
        return logits, cam, None if self.lengths is None else self.lengths(pooled)

    def answering(self, task: int) -> GradingNet:
        """Return this network with the head of its ``task``-th task alone."""
        if task:
            self.head = self.also[task - 1]
        self.also, self.lengths = nn.ModuleList(), None
        return self

    def train(self, mode: bool = True) -> GradingNet:
        """Switch between training and evaluation; what is frozen always infers, so that its batch-norm statistics are kept."""
        super().train(mode)
        for module in self.backbone.modules() if mode else ():
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()
        return self


class _Average(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def build(config: ModelConfig, *, classes: int | Sequence[int], size: int, head: Head = SOFTMAX, lengths: int = 0) -> GradingNet:
    """Return the network of a recipe's table for ``classes`` grades (of each task, where there are several), with random weights."""
    net = GradingNet(config, classes=[classes] if isinstance(classes, int) else classes, size=size, head=head, lengths=lengths)
    _freeze(net, config)
    return net.to(memory_format=torch.channels_last)


def for_recipe(config: Config) -> GradingNet:
    """Return the network of a whole recipe: heads for its tasks and its loss, every size of its schedule tried."""
    _, head = losses.find(config.loss)
    classes = [len(TASKS[task].labels) for task in config.tasks]
    lengths = len(LENGTHS) if config.lengths.weight else 0
    net = build(config.model, classes=classes, size=config.input.size, head=head, lengths=lengths)
    for _, size in config.input.progressive:
        net.backbone.probe(size)
    return net


def learning_rates(net: GradingNet, *, decay: float) -> dict[nn.Parameter, float]:
    """Return a factor on the learning rate of each parameter: ``decay`` to the power of its layer's distance from the head."""
    factors = dict.fromkeys(net.parameters(), 1.0)
    if decay < 1:
        for distance, layer in enumerate(reversed(net.backbone.depths(coarse=False)), start=1):
            factors |= dict.fromkeys(layer, decay**distance)
    return factors


def _freeze(net: GradingNet, config: ModelConfig) -> None:
    if not config.freeze:
        return
    stages = net.backbone.depths(coarse=True)
    count = len(stages) - bool(config.attention) if config.freeze == "backbone" else config.freeze
    if count > len(stages):
        raise ConfigError(f"model.freeze = {count}: the backbone '{config.backbone}' has {len(stages)} stages.")
    for stage in stages[:count]:
        for parameter in stage:
            parameter.requires_grad_(False)
