"""Random changes to a batch of radiographs, on whatever device the batch lies.

One affine warp does rotation, zoom, shear, shift, flip and the cut to the network's input in a single interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kneexray.inference.preprocess import Geometry
from kneexray.train.processes import ALONE, Share
from kneexray.train.recipe.config import AugmentConfig, Changes


def augment(
    images: Tensor,
    config: AugmentConfig,
    geometry: Geometry,
    *,
    size: int,
    generator: torch.Generator,
    labels: Sequence[str] | None = None,
    share: Share = ALONE,
) -> Tensor:
    """Return (N, 1, size, size) float32 from whole boxes ``images`` (N, 1, H, W) in [0, 1].

    ``generator`` (on the CPU) makes the draw reproducible and the same on every device. ``labels`` (N) are the images' classes, empty
    where one is not known. ``images`` may be one process's ``share`` of a batch.
    """
    n = len(images)
    chance = Chance(generator, n, share)
    kinds = _kinds(config)
    whose = [kinds.get(label, kinds[""]) for label in labels] if labels is not None else [kinds[""]] * n

    def amount(key: str) -> Tensor:  # (N,)
        return torch.tensor([changes.amount(key) for changes in whose])

    def draw(key: str) -> Tensor:  # (N,) uniform between minus and plus the amount
        return ((chance.uniform() * 2 - 1) * amount(key)).to(images.device)

    def asked(key: str) -> bool:  # for any class: other processes hold images of others, and must draw as often
        return any(changes.amount(key) for changes in kinds.values())

    images = images.float()
    gamma = torch.exp(draw("gamma"))[:, None, None, None]
    images = images.clamp(1e-3, 1) ** gamma
    contrast, brightness = torch.exp(draw("contrast")), draw("brightness")
    images = (images - 0.5) * contrast[:, None, None, None] + (0.5 + brightness)[:, None, None, None]
    images = images.clamp(0, 1)  # over- and under-exposure lose detail, as they do on a film
    angle, scale = torch.deg2rad(draw("rotate")), torch.exp(draw("zoom"))
    mirror = torch.where(chance.uniform() < amount("flip"), -1.0, 1.0).to(angle.device)
    x, y = 2 * draw("shift"), 2 * draw("shift")
    slant = torch.tan(torch.deg2rad(draw("shear"))) if asked("shear") else torch.zeros_like(angle)
    theta = _affine(angle, scale=scale * geometry.zoom, mirror=mirror, slant=slant, x=x, y=y + 2 * geometry.shift_y)
    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if asked("blur"):
        images = blurred(images, draw("blur").abs() * size)
    if asked("coarse"):
        images = _coarse(images, amount("coarse"), chance)
    if asked("noise"):
        noise = chance.normal(images.shape[1:]).to(images.device)
        images = images + noise * draw("noise").abs()[:, None, None, None]
    if asked("erase"):
        images = _erase(images, amount("erase"), chance)
    return images


class Chance:
    """Random numbers for ``n`` images, this process's share of a batch: drawn for all of it, so that processes see what one would."""

    def __init__(self, generator: torch.Generator, n: int, share: Share) -> None:
        self.generator = generator
        self.total = n * share.world
        self.rows = share.rows(self.total)

    def uniform(self) -> Tensor:
        """Return (N,), uniform in [0, 1)."""
        return torch.rand(self.total, generator=self.generator)[self.rows]

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return (N, *shape), normal."""
        return torch.randn((self.total, *shape), generator=self.generator)[self.rows]


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Return images (N, 1, H, W) under a Gaussian of ``sigma`` (N,) pixels each; the edge is repeated outside."""
    n, _, height, width = images.shape
    reach = min(math.ceil(3 * float(sigma.max())), height - 1, width - 1)
    at = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (at / sigma.clamp(min=1e-3)[:, None]) ** 2)  # (N, 2 * reach + 1)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    padded = F.pad(images.transpose(0, 1), (reach, reach, reach, reach), mode="replicate")  # (1, N, H, W): each image a channel
    down = F.conv2d(padded, kernel[:, None, :, None], groups=n)
    return F.conv2d(down, kernel[:, None, None, :], groups=n).transpose(0, 1)


def mixes(config: AugmentConfig) -> bool:
    """Say whether images of any class are mixed."""
    return any(changes.mixup or changes.cutmix for changes in _kinds(config).values())


def mix(
    images: Tensor, targets: Sequence[Tensor], config: AugmentConfig, *, generator: torch.Generator, labels: Sequence[str] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Return images (N, 1, H, W) each mixed with its counterpart from the other end of the batch, and targets (N, K) in the same shares.

    Mixup adds the two images (Zhang et al. 2018, arXiv:1710.09412); CutMix pastes a rectangle of the other (Yun et al. 2019,
    arXiv:1905.04899), whose area is the other's share. Where ``labels`` (N) are given, an image is mixed as its class is to be.
    """
    if not mixes(config):
        return images, list(targets)
    random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    kinds = {label: (changes.mixup, changes.cutmix) for label, changes in _kinds(config).items()}
    whose = [kinds.get(label, kinds[""]) for label in labels] if labels is not None else [kinds[""]] * len(images)
    mixed, other, own = images.clone(), images.flip(0), images.new_ones(len(images), 1)
    for kind in sorted({*kinds.values()} - {(0.0, 0.0)}):  # drawn for kinds without an image too: other processes may hold some
        rows = [row for row, mine in enumerate(whose) if mine == kind]
        mixed[rows], own[rows] = _mixed(images[rows], other[rows], *kind, random)
    return mixed, [own * target + (1 - own) * target.flip(0) for target in targets]


def _mixed(images: Tensor, other: Tensor, mixup: float, cutmix: float, random: np.random.Generator) -> tuple[Tensor, float]:
    """Return images (N, 1, H, W) mixed with others, and the share that is their own."""
    paste = cutmix > 0 and (mixup == 0 or random.random() < 0.5)
    alpha = cutmix if paste else mixup
    own = float(random.beta(alpha, alpha))
    if not paste:
        return own * images + (1 - own) * other, own
    height, width = images.shape[2:]
    side, middle = math.sqrt(1 - own), random.random(2)
    (top, bottom), (left, right) = (
        (round(max(0.0, c - side / 2) * length), round(min(1.0, c + side / 2) * length))
        for c, length in zip(middle, (height, width), strict=True)
    )
    pasted = images.clone()
    pasted[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)


def _kinds(config: AugmentConfig) -> dict[str, Changes]:
    """Return the changes of each class that has its own, and under the empty name those of all others."""
    return {label: config.of(label) for label in ("", *config.per_class)}


def _affine(angle: Tensor, *, scale: Tensor, mirror: Tensor, slant: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return (N, 2, 3) maps from the output's [-1, 1] square to the input's, of (N,) each; ``angle`` is in radians."""
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    first = torch.stack([cos * mirror, slant * cos - sin, x], dim=1)
    second = torch.stack([sin * mirror, slant * sin + cos, y], dim=1)
    return torch.stack([first, second], dim=1)


def _coarse(images: Tensor, probability: Tensor, chance: Chance) -> Tensor:
    """Take some images down to a third to nine tenths of their resolution and back, as copies that were stored small are."""
    size = images.shape[-1]
    small = max(8, round(size * (0.33 + 0.57 * float(torch.rand((), generator=chance.generator)))))
    chosen = (chance.uniform() < probability).to(images.device)[:, None, None, None]
    low = F.interpolate(images, size=(small, small), mode="bilinear", align_corners=False, antialias=True)
    return torch.where(chosen, F.interpolate(low, size=(size, size), mode="bilinear", align_corners=False), images)


def _erase(images: Tensor, probability: Tensor, chance: Chance) -> Tensor:
    """Fill one random rectangle (2-12 % of the area) of some images with their mean (Zhong et al. 2020, arXiv:1708.04896)."""
    height, width = images.shape[2:]
    area = chance.uniform() * 0.10 + 0.02
    aspect = torch.exp((chance.uniform() * 2 - 1) * math.log(3))
    half_h, half_w = (area * aspect).sqrt() / 2, (area / aspect).sqrt() / 2
    centre_y, centre_x = chance.uniform(), chance.uniform()
    chosen = chance.uniform() < probability
    rows = ((torch.arange(height) + 0.5) / height)[None]
    columns = ((torch.arange(width) + 0.5) / width)[None]
    inside_y = (rows - centre_y[:, None]).abs() < half_h[:, None]
    inside_x = (columns - centre_x[:, None]).abs() < half_w[:, None]
    mask = (inside_y[:, :, None] & inside_x[:, None, :] & chosen[:, None, None])[:, None].to(images.device)
    return torch.where(mask, images.mean(dim=(2, 3), keepdim=True), images)
