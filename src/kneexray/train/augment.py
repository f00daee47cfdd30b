"""Random changes to a batch of radiographs, on whatever device the batch lies.

One affine warp does rotation, zoom, shift, flip and the cut to the network's input in a single interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kneexray.preprocess import Geometry
from kneexray.train.config import AugmentConfig


def augment(images: Tensor, config: AugmentConfig, geometry: Geometry, *, size: int, generator: torch.Generator) -> Tensor:
    """Return (N, 1, size, size) float32 from whole boxes ``images`` (N, 1, H, W) in [0, 1].

    ``generator`` (on the CPU) makes the draw reproducible and the same on every device.
    """
    n = len(images)

    def draw(spread: float) -> Tensor:  # (N,) uniform in [-spread, spread]
        return ((torch.rand(n, generator=generator) * 2 - 1) * spread).to(images.device)

    images = images.float()
    gamma = torch.exp(draw(config.gamma))[:, None, None, None]
    images = images.clamp(1e-3, 1) ** gamma
    contrast, brightness = torch.exp(draw(config.contrast)), draw(config.brightness)
    images = (images - 0.5) * contrast[:, None, None, None] + (0.5 + brightness)[:, None, None, None]
    images = images.clamp(0, 1)  # over- and under-exposure lose detail, as they do on a film
    theta = _affine(config, geometry, draw)
    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if config.noise:
        noise = torch.randn(images.shape, generator=generator).to(images.device)
        images = images + noise * draw(config.noise).abs()[:, None, None, None]
    if config.erase:
        images = _erase(images, config.erase, generator)
    return images


def _affine(config: AugmentConfig, geometry: Geometry, draw: Callable[[float], Tensor]) -> Tensor:
    """Return (N, 2, 3) maps from the output's [-1, 1] square to the input's."""
    angle = draw(math.radians(config.rotate))
    scale = torch.exp(draw(config.zoom)) * geometry.zoom
    mirror = torch.where(draw(1.0) < 2 * config.flip - 1, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    x, y = draw(2 * config.shift), draw(2 * config.shift) + 2 * geometry.shift_y
    return torch.stack([torch.stack([cos * mirror, -sin, x], dim=1), torch.stack([sin * mirror, cos, y], dim=1)], dim=1)


def _erase(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Fill one random rectangle (2-12 % of the area) of some images with their mean (Zhong et al. 2020, arXiv:1708.04896)."""
    n, _, height, width = images.shape
    area = torch.rand(n, generator=generator) * 0.10 + 0.02
    aspect = torch.exp((torch.rand(n, generator=generator) * 2 - 1) * math.log(3))
    half_h, half_w = (area * aspect).sqrt() / 2, (area / aspect).sqrt() / 2
    centre_y, centre_x = torch.rand(n, generator=generator), torch.rand(n, generator=generator)
    chosen = torch.rand(n, generator=generator) < probability
    rows = ((torch.arange(height) + 0.5) / height)[None]
    columns = ((torch.arange(width) + 0.5) / width)[None]
    inside_y = (rows - centre_y[:, None]).abs() < half_h[:, None]
    inside_x = (columns - centre_x[:, None]).abs() < half_w[:, None]
    mask = (inside_y[:, :, None] & inside_x[:, None, :] & chosen[:, None, None])[:, None].to(images.device)
    return torch.where(mask, images.mean(dim=(2, 3), keepdim=True), images)
