"""The small plain networks that studies of this field build by hand, as one table of the recipe describes them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kneexray.train.recipe.config import CnnConfig


class PlainCnn(nn.Module):
    """(N, 1, H, W) -> (N, C, h, w): convolution, batch norm, ReLU, max pooling, dropout, for each of ``config.channels``."""

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        widths = (1, *config.channels)
        self.stages = nn.Sequential(*(_stage(config, a, b) for a, b in zip(widths, config.channels, strict=False)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, C, h, w)."""
        out: Tensor = self.stages(x)
        return out

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Say which parameters lie at which depth, as timm's networks do."""
        return {"blocks": r"^stages\.(\d+)"}


def _stage(config: CnnConfig, channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, config.kernel, padding=config.kernel // 2, bias=not config.batch_norm),
        nn.BatchNorm2d(channels) if config.batch_norm else nn.Identity(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(config.drop_rate),
    )
