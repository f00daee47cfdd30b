"""Where a network's weights begin: a file in timm's naming, a model hub, or chance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from kneexray.errors import ConfigError
from kneexray.train.networks.backbone import cut_name
from kneexray.train.networks.models import GradingNet
from kneexray.train.recipe.config import ModelConfig

BACKBONE = "backbone.net."
"""How the names of a backbone's tensors begin in a run's weights."""
TRAINED = "model.safetensors"
"""A finished run's weights, in its folder."""


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """Where the weights began: the choice taken, the file's SHA-256 if it was a file, and the licence as the recipe states it."""

    weights: str
    sha256: str
    licence: str


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
        if path.is_dir() and (path / TRAINED).is_file():
            return _go_on_from(net, path / TRAINED, config)
        if path.is_file():
            _load_state(net, _read_safetensors(path), origin=str(path))
            return StartingPoint(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), config.weights_licence)
    raise ConfigError(
        f"model.weights: none of {', '.join(config.weights)} is there. Give a safetensors file in timm's naming "
        f"(--set model.weights=FILE), 'timm' where a model hub is reachable, or 'none' to start from random weights."
    )


def _go_on_from(net: GradingNet, path: Path, config: ModelConfig) -> StartingPoint:
    """Load a finished run's whole network, head and all; its backbone alone where the rest is not the same: another task, say."""
    state = _read_safetensors(path)
    here = net.state_dict()
    if {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in here.items()}:
        net.load_state_dict(state)
        taken = f"run {path.parent.name}"
    else:
        backbone = {key.removeprefix(BACKBONE): value for key, value in state.items() if key.startswith(BACKBONE)}
        _load_state(net, backbone, origin=str(path.parent))
        taken = f"backbone of run {path.parent.name}"
    return StartingPoint(taken, hashlib.sha256(path.read_bytes()).hexdigest(), config.weights_licence)


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
    for name, value in state.items():
        key = cut_name(name, target)
        if key is None:
            continue
        if value.ndim == 4 and value.shape[1] == 3 and target[key].shape[1] == 1:
            value = value.sum(dim=1, keepdim=True)
        if name == "pos_embed" and value.shape != target[key].shape:
            value = _resized_positions(value, net.backbone.net)
        if value.shape == target[key].shape:
            adapted[key] = value
    missing = [k for k in target if k not in adapted and not k.endswith("num_batches_tracked")]
    if missing:
        raise ConfigError(
            f"model.weights: {origin} lacks {len(missing)} of the backbone's {len(target)} tensors, first {missing[0]!r}: another network?"
        )
    net.backbone.net.load_state_dict(adapted, strict=False)


def _resized_positions(positions: Tensor, net: Any) -> Tensor:
    """Return a vision transformer's position embedding (1, tokens, C), made for another image size, for the size of ``net``."""
    prefix = 0 if net.no_embed_class else net.num_prefix_tokens
    resized: Tensor = resample_abs_pos_embed(positions, list(net.patch_embed.grid_size), num_prefix_tokens=prefix)
    return resized
