"""Feature extractors: any timm network, or the recipe's own small one, as (N, 1, H, W) -> (N, C, h, w), with attention where asked."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import timm
import torch
from timm.layers.cbam import CbamModule
from timm.layers.squeeze_excite import SEModule
from timm.models import group_parameters
from torch import Tensor, nn

from kneexray.errors import ConfigError, choices
from kneexray.train.networks.cnn import PlainCnn
from kneexray.train.recipe.config import ModelConfig

PLAIN = "cnn"
"""The backbone that ``[model.cnn]`` describes."""
ATTENTION: MappingProxyType[str, type[nn.Module]] = MappingProxyType({"se": SEModule, "cbam": CbamModule})
"""Squeeze-and-excitation (Hu et al. 2018, arXiv:1709.01507); convolutional block attention (Woo et al. 2018, arXiv:1807.06521)."""


class Backbone(nn.Module):
    """A network without its head, whatever layout its features have, for images of ``size`` px.

    Raises :class:`ConfigError` for an unknown name, and for a size that the network cannot take.
    """

    def __init__(self, config: ModelConfig, *, size: int) -> None:
        super().__init__()
        self.config = config
        self.net = _create(config, size=size)
        self.attention = nn.Sequential()
        self.channels, self.map_size = self.probe(size)
        self.attention.extend(ATTENTION[name](self.channels) for name in config.attention)

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
        attended: Tensor = self.attention(feature)
        return attended

    @torch.no_grad()
    def probe(self, size: int) -> tuple[int, tuple[int, int]]:
        """Return channels and map size (h, w) for images of ``size`` px; raises :class:`ConfigError` where the network cannot take them."""
        training = self.training
        self.eval()
        try:
            patch = getattr(getattr(self.net, "patch_embed", None), "patch_size", (1,))
            if size % patch[0]:  # timm would leave the rest out without a word
                raise ValueError(f"no multiple of its patch, {patch[0]} px")
            _, channels, height, width = self(torch.zeros(1, 1, size, size)).shape
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"model.backbone: '{self.config.backbone}' cannot take inputs of {size} px ({error}).") from error
        finally:
            self.train(training)
        return channels, (height, width)

    def depths(self, *, coarse: bool) -> list[list[nn.Parameter]]:
        """Return the parameters by depth, input first, grouped by stage (``coarse``) or by layer, as timm groups them.

        Attention sits on top, in a group of its own.
        """
        config = self.config
        whole = self.net
        if config.out_index is not None:  # a cut network has lost its groups
            with torch.device("meta"):
                whole = timm.create_model(config.backbone, num_classes=0)
        groups = group_parameters(whole, whole.group_matcher(coarse=coarse))  # type: ignore[operator]
        mine = dict(self.net.named_parameters())
        found = [[mine[key] for name in names if (key := cut_name(name, mine)) is not None] for _, names in sorted(groups.items())]
        return [group for group in [*found, list(self.attention.parameters())] if group]


def cut_name(name: str, known: dict[str, Any]) -> str | None:
    """Return what a parameter of a whole timm network is called in a cut one, whose first level is renamed; None where it is cut off."""
    return next((key for key in (name, name.replace(".", "_", 1)) if key in known), None)


def _create(config: ModelConfig, *, size: int) -> nn.Module:
    if config.backbone == PLAIN:
        if config.out_index is not None:
            raise ConfigError(f"model.out_index does not apply to model.backbone = '{PLAIN}': list fewer model.cnn.channels.")
        return PlainCnn(config.cnn)
    if not timm.is_model(config.backbone):
        raise ConfigError(choices("model.backbone", config.backbone, [PLAIN, *timm.list_models()]))
    kwargs: dict[str, Any] = {"in_chans": 1, "drop_path_rate": config.drop_path_rate}
    if config.out_index is not None:
        kwargs |= {"features_only": True, "out_indices": (config.out_index,)}
    else:
        kwargs |= {"num_classes": 0, "global_pool": ""}
    known = timm.get_pretrained_cfg(config.backbone)
    if known is not None and known.fixed_input_size:
        kwargs["img_size"] = size
    try:
        net: nn.Module = timm.create_model(config.backbone, pretrained=False, **kwargs)
    except TypeError:  # not every architecture has stochastic depth
        kwargs.pop("drop_path_rate")
        net = timm.create_model(config.backbone, pretrained=False, **kwargs)
    except AssertionError as error:
        raise ConfigError(f"model.backbone: '{config.backbone}' cannot take inputs of {size} px ({error}).") from error
    return net
