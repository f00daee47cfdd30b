r"""Train the network that finds the joint space of a knee, and write it into a folder as ONNX with its card.

    python -m kneexray.makers.joint_space.train --masks ../shared/data/joint-space-masks --out src/kneexray/models/joint-space

The masks are of crops that are named by patient and side (``9003175L.png``). Some patients are held back, by the hash of their number:
the network is measured on them, by this command and by ``benchmarks/joint_space.py``.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from kneexray.datasets.catalogue.chen2018 import CARD
from kneexray.evaluation.estimates import Resampling, Value, means
from kneexray.geometry import CONDYLES, JOINT_LINE
from kneexray.makers.common import descend, write_card, write_network
from kneexray.makers.localiser.data import held_back
from kneexray.measure.joint_space import HEIGHT, NETWORK, WIDTH, find_bands, joint_space, seen
from kneexray.read import read_file
from kneexray.roi import whole_knee
from kneexray.train.networks.models import Standardise
from kneexray.types import Knee

logger = logging.getLogger(__name__)

HELD_BACK = 0.35
WIDTHS = (16, 24, 32, 48)
BATCH = 8
RATE = 4e-3
TURN, ZOOM, SHIFT = math.radians(7), 0.12, 0.04
"""Of training views, each way: tilt, log of the size, place in sides of the box."""
GAMMA, CONTRAST, NOISE, BLUR = 0.6, 0.4, 0.05, 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Masked:
    """A knee of one ``patient``, and where between its bones people saw the joint space: ``mask`` (H, W) in [0, 1], as its film."""

    knee: Knee
    patient: str
    mask: NDArray[np.float32]

    @property
    def held_back(self) -> bool:
        """Whether it is kept for measuring."""
        return held_back(f"joint-space {self.patient}", HELD_BACK)


def load(folder: Path) -> list[Masked]:
    """Return the knees in ``Train_X`` below ``folder`` with the masks in ``Train_Y``."""
    found = []
    for path in sorted((folder / "Train_X").iterdir()):
        if who := CARD.identify(path.stem):
            knee = whole_knee(read_file(path).radiographs[0], side=who.side)
            found.append(Masked(knee, who.patient_id, read_file(folder / "Train_Y" / path.name).radiographs[0].pixels))
    return found


class JointSpaceNet(nn.Module):
    """A small U-Net (Ronneberger et al. 2015, arXiv:1505.04597) on squares of 2 x 2 pixels (Shi et al. 2016, arXiv:1609.05158)."""

    def __init__(self) -> None:
        super().__init__()
        self.standardise = Standardise()
        self.down = nn.ModuleList(_block(a, b) for a, b in zip((4, *WIDTHS), WIDTHS, strict=False))
        self.up = nn.ModuleList(_block(a + b, b) for a, b in zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.answer = nn.Conv2d(WIDTHS[0], 4, 1)

    def logits(self, image: Tensor) -> Tensor:
        """(N, 1, HEIGHT, WIDTH) in [0, 1] -> (N, HEIGHT, WIDTH)."""
        features = []
        x = F.pixel_unshuffle(self.standardise(image), 2)
        for depth, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if depth else x)
            features.append(x)
        for block, feature in zip(self.up, features[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), feature], dim=1))
        return F.pixel_shuffle(self.answer(x), 2)[:, 0]

    def forward(self, image: Tensor) -> Tensor:
        """Return the share of each pixel that is joint space."""
        return torch.sigmoid(self.logits(image))


def _block(channels_in: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for first in (True, False):
        layers += [nn.Conv2d(channels_in if first else channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)


def loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return cross entropy, Dice loss (Milletari et al. 2016, arXiv:1606.04797) and the error of every column's width in pixels.

    Both (N, H, W).
    """
    share = torch.sigmoid(logits)
    overlap = 2 * (share * mask).sum() / (share.sum() + mask.sum() + 1)
    widths = (share.sum(dim=1) - mask.sum(dim=1)).abs().mean()
    return F.binary_cross_entropy_with_logits(logits, mask) + (1 - overlap) / 2 + widths / 10


def view(films: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return training views (N, 1, HEIGHT, WIDTH) and masks (N, HEIGHT, WIDTH) of ``films`` (N, 2, S, S): pixels and masks."""
    n = len(films)

    def draw(spread: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * spread

    scale, angle = torch.exp(draw(ZOOM)), draw(TURN)
    mirror = torch.where(draw(1) > 0, 1.0, -1.0)
    cos, sin, ratio = torch.cos(angle) * scale, torch.sin(angle) * scale, HEIGHT / WIDTH
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin * ratio, draw(2 * SHIFT)], dim=1),
            torch.stack([sin * mirror, cos * ratio, draw(2 * SHIFT) + 2 * JOINT_LINE - 1], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [n, 2, HEIGHT, WIDTH], align_corners=False)
    seen = F.grid_sample(films, grid, mode="bilinear", padding_mode="border", align_corners=False)
    images = seen[:, :1].clamp(1e-3, 1) ** torch.exp(draw(GAMMA))[:, None, None, None]
    images = (images - 0.5) * torch.exp(draw(CONTRAST))[:, None, None, None] + 0.5 + draw(0.2)[:, None, None, None]
    images = images.clamp(0, 1)
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.lerp(images, soft, (draw(1) + draw(BLUR))[:, None, None, None])  # below 0 it sharpens, as of a finer film
    return images + torch.randn(images.shape, generator=generator) * draw(NOISE).abs()[:, None, None, None], seen[:, 1]


def train(films: Tensor, net: JointSpaceNet, *, steps: int, seed: int) -> Iterator[tuple[int, float]]:
    """Train ``net`` in place on ``films`` (N, 2, S, S); yield the step and the mean loss every 50 steps."""
    generator = torch.Generator().manual_seed(seed)
    net.train()

    def losses() -> Iterator[Tensor]:
        for _ in range(steps):
            images, masks = view(films[torch.randperm(len(films), generator=generator)[:BATCH]], generator)
            yield loss(net.logits(images), masks)

    yield from descend(losses(), [{"params": list(net.parameters()), "lr": RATE}], steps=steps)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What a network did on knees with masks: Dice (N,), widths (N, 2, 2) by the masks and by the network, medial and lateral, in
    condyles' widths; NaN where no plausible joint space was found. ``owner`` (N,) numbers the patients."""

    dice: NDArray[np.float64]
    widths: NDArray[np.float64]
    owner: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as the card states them: each mean with its 95 % interval, of resamples of the patients."""
        resampling = Resampling(self.owner)
        by_mask, found = self.widths[:, 0], self.widths[:, 1]
        known = ~np.isnan(self.widths).any(axis=(1, 2))
        errors = np.nan_to_num(found - by_mask)
        dice, *rest = means(
            [(self.dice, np.ones(len(self.dice))), *((np.abs(e), known) for e in errors.T), *((e, known) for e in errors.T)], resampling
        )
        names = ("medial_mean_absolute_error", "lateral_mean_absolute_error", "medial_mean_error", "lateral_mean_error")
        return {
            "knees": len(self.dice),
            "patients": resampling.patients,
            "not_measured": int((~known).sum()),
            "unit": "condyles' widths",
            "mean_widths_by_masks": [round(float(w), 4) for w in np.nanmean(by_mask, axis=0)],
            "dice": _rounded(dice, 3),
            **{name: _rounded(value, 4) for name, value in zip(names, rest, strict=True)},
        }


def compare(masked: Sequence[Masked], *, network: Path) -> Measured:
    """Return what ``network`` finds on knees, against the masks."""
    bands = find_bands([m.knee for m in masked], network=network)
    masks = [seen(m.mask, m.knee) for m in masked]
    pairs = [(mask, band) for mask, band in zip(masks, bands, strict=True)]
    dice = [2 * np.sum((a >= 0.5) & (b >= 0.5)) / (np.sum(a >= 0.5) + np.sum(b >= 0.5)) for a, b in pairs]
    widths = [[_widths(band) for band in pair] for pair in pairs]
    return Measured(np.array(dice), np.array(widths), np.unique([m.patient for m in masked], return_inverse=True)[1])


def _widths(band: NDArray[np.float32]) -> tuple[float, float]:
    """Return the medial and the lateral width of a right knee's band in condyles' widths, NaN where it is none."""
    space = joint_space(band, pixel=(1 / (CONDYLES * WIDTH),) * 2)
    return (space.right.value, space.left.value) if space else (math.nan, math.nan)


def _rounded(value: Value, digits: int) -> Value:
    return {name: None if number is None else round(number, digits) for name, number in value.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, export and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, required=True, help="The folder of Train_X and Train_Y.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    masked = load(options.masks)
    known, unknown = ([m for m in masked if m.held_back is part] for part in (False, True))
    films = torch.from_numpy(np.stack([np.stack([m.knee.radiograph.pixels, m.mask]) for m in known]))  # (N, 2, S, S)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        net = JointSpaceNet()
        for step, value in train(films, net, steps=options.steps, seed=options.seed):
            logger.info("step %d of %d: loss %.3f", step, options.steps, value)
    network = write_network(net, options.out / NETWORK.name, size=(HEIGHT, WIDTH), output="band")
    facts = {
        "input": {"width": WIDTH, "height": HEIGHT, "joint_line": JOINT_LINE},
        "starting_point": "random weights",
        "data": {"joint-space masks of chen2018 train crops (licence unknown)": _counted(known)},
        "split": "by patient: a patient is held back by the hash of the number in the crop's name",
        "scores_on": f"the held-back {_counted(unknown)}",
        "scores": compare(unknown, network=network).to_dict(),
    }
    write_card(network, net, name=f"joint-space-unet-{WIDTH}", maker="kneexray.makers.joint_space.train", given=given, facts=facts)


def _counted(masked: Sequence[Masked]) -> str:
    return f"{len(masked)} knees of {len({m.patient for m in masked})} patients"


if __name__ == "__main__":
    main()
