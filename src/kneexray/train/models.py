"""Networks: a timm backbone, global average pooling and one linear layer, so that the class map is exact."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kneexray.errors import ConfigError, choices
from kneexray.train.config import ModelConfig

STANDARDISE_EPSILON = 0.02
"""Added to each image's standard deviation, in units of the full grey range, so that a flat image is not amplified to noise."""


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """Where the weights began: the choice taken, the file's SHA-256 if it was a file, and the licence as the recipe states it."""

    weights: str
    sha256: str
    licence: str


class Standardise(nn.Module):
    """Give every image mean 0 and standard deviation 1: exposure and windowing differ between films, anatomy does not."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) in [0, 1] -> (N, 1, H, W)."""
        x = x - x.mean(dim=(2, 3), keepdim=True)
        deviation = x.square().mean(dim=(2, 3), keepdim=True).sqrt()
        standardised: Tensor = x / (deviation + STANDARDISE_EPSILON)
        return standardised


class Backbone(nn.Module):
    """Any timm network as (N, 1, H, W) -> (N, C, h, w), whatever layout its features have."""

    def __init__(self, config: ModelConfig, *, size: int) -> None:
        super().__init__()
        kwargs: dict[str, Any] = {"in_chans": 1, "drop_path_rate": config.drop_path_rate}
        if config.out_index is not None:
            self.net = _create(config.backbone, features_only=True, out_indices=(config.out_index,), **kwargs)
        else:
            self.net = _create(config.backbone, num_classes=0, global_pool="", **kwargs)
        self.channels, self.map_size = self._probe(size)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, C, h, w)."""
        out = self.net(x)
        feature: Tensor = out[0] if isinstance(out, (list, tuple)) else out
        if feature.ndim == 3:  # (N, prefix + h*w, C) of a vision transformer
            feature = feature[:, self.net.num_prefix_tokens :].transpose(1, 2)
            grid: Any = self.net.patch_embed
            feature = feature.unflatten(2, grid.grid_size)
        elif getattr(self.net, "output_fmt", None) == "NHWC":
            feature = feature.permute(0, 3, 1, 2)
        return feature

    @torch.no_grad()
    def _probe(self, size: int) -> tuple[int, tuple[int, int]]:
        training = self.training
        self.eval()
        _, channels, height, width = self(torch.zeros(1, 1, size, size)).shape
        self.train(training)
        return channels, (height, width)


class GradingNet(nn.Module):
    """Standardise -> backbone -> global average pooling -> dropout -> linear.

    The class map ``sum_c w_kc * feature_c`` is Grad-CAM before its ReLU and scale, and its mean over the map plus the
    bias is the logit: explanation and answer cannot differ.
    """

    def __init__(self, config: ModelConfig, *, classes: int, size: int) -> None:
        super().__init__()
        self.standardise = Standardise()
        self.backbone = Backbone(config, size=size)
        self.dropout = nn.Dropout(config.drop_rate)
        self.head = nn.Linear(self.backbone.channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) float in [0, 1] -> logits (N, K)."""
        feature = self.backbone(self.standardise(x))  # (N, C, h, w)
        logits: Tensor = self.head(self.dropout(feature.mean(dim=(2, 3))))
        return logits

    def with_cam(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, H, W) -> logits (N, K) and class maps (N, K, h, w)."""
        feature = self.backbone(self.standardise(x))
        logits = self.head(feature.mean(dim=(2, 3)))
        cam = nn.functional.conv2d(feature, self.head.weight[:, :, None, None])
        return logits, cam


def build(config: ModelConfig, *, classes: int, size: int) -> GradingNet:
    """Return the network of a recipe, with random weights."""
    return GradingNet(config, classes=classes, size=size).to(memory_format=torch.channels_last)


def load_starting_point(net: GradingNet, config: ModelConfig) -> StartingPoint:
    """Load the first of ``config.weights`` that is there into the backbone of ``net``.

    A three-channel first layer is summed over its channels, as timm does for grey input. Raises :class:`ConfigError`
    when none is there, or when the file's tensors are not those of the backbone.
    """
    for name in config.weights:
        if name == "none":
            return StartingPoint("none", "", "")
        if name == "timm" or name.startswith("timm:"):
            return _from_hub(net, config, name)
        path = Path(name).expanduser()
        if path.is_file():
            _load_state(net, _read_safetensors(path), origin=str(path))
            return StartingPoint(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), config.weights_licence)
    raise ConfigError(
        f"model.weights: none of {', '.join(config.weights)} is there. Give a safetensors file in timm's naming "
        f"(--set model.weights=FILE), 'timm' where a model hub is reachable, or 'none' to start from random weights."
    )


def _create(backbone: str, **kwargs: Any) -> nn.Module:
    if not timm.is_model(backbone):
        raise ConfigError(choices("model.backbone", backbone, timm.list_models()))
    try:
        net: nn.Module = timm.create_model(backbone, pretrained=False, **kwargs)
    except TypeError:  # not every architecture has stochastic depth
        kwargs.pop("drop_path_rate")
        net = timm.create_model(backbone, pretrained=False, **kwargs)
    return net


def _from_hub(net: GradingNet, config: ModelConfig, name: str) -> StartingPoint:
    tag = name.partition(":")[2] or config.backbone
    try:
        source = timm.create_model(tag, pretrained=True)
    except Exception as error:  # the hub client raises errors of many libraries
        raise ConfigError(
            f"model.weights: '{name}' could not be fetched from the model hub ({type(error).__name__}: {error}). "
            f"Give a safetensors file with --set model.weights=FILE, or 'none'."
        ) from error
    licence = str(source.pretrained_cfg.get("license") or config.weights_licence)
    _load_state(net, source.state_dict(), origin=name)
    return StartingPoint(f"timm:{tag}", "", licence)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"model.weights: {path} is no readable safetensors file ({error}).") from error


def _load_state(net: GradingNet, state: dict[str, Tensor], *, origin: str) -> None:
    target = net.backbone.net.state_dict()
    adapted = {}
    for key, value in state.items():
        flat = key if key in target else key.replace(".", "_", 1)  # features_only renames the first level
        if flat not in target:
            continue
        if value.ndim == 4 and value.shape[1] == 3 and target[flat].shape[1] == 1:
            value = value.sum(dim=1, keepdim=True)
        if value.shape == target[flat].shape:
            adapted[flat] = value
    missing = [k for k in target if k not in adapted and not k.endswith("num_batches_tracked")]
    if missing:
        raise ConfigError(
            f"model.weights: {origin} lacks {len(missing)} of the backbone's {len(target)} tensors, first {missing[0]!r}: another network?"
        )
    net.backbone.net.load_state_dict(adapted, strict=False)
