r"""Train the joint localiser and write it into a folder as ONNX with its card.

    python -m kneexray.makers.localiser.train --wani ../shared/data/wani --others ../shared/data --crops ../shared/data/chen2018/train \
        --negatives ../shared/data/not-knees --weights weights/mobilenetv2_100.safetensors --out src/kneexray/models/localiser

The films that :mod:`kneexray.makers.localiser.data` holds back are left out; ``benchmarks/localiser.py`` measures on them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from kneexray.makers.common import descend, write_card, write_network
from kneexray.makers.localiser import data
from kneexray.makers.localiser.data import Film, Marked
from kneexray.makers.localiser.metal import with_metal
from kneexray.makers.localiser.scenes import exposed, pasted, scene, targets
from kneexray.read import read_file
from kneexray.roi.localiser import KINDS, NETWORK, SIZE, STRIDE, find_joints, iou
from kneexray.train.networks.models import Standardise

logger = logging.getLogger(__name__)

BACKBONE = "mobilenetv2_100"
LEVELS = (2, 3, 4)
"""Of the backbone's features: strides 8, 16 and 32."""
WIDTH = 64
FROZEN = 2
"""How many of the backbone's first stages, to stride 4, stay as they are: edges are edges, and that halves the work."""
CROPS = 1600
BATCH = 24
RATE = 3e-3
SHARES = {"film": 0.37, "pasted": 0.17, "crop": 0.11, "implant": 0.12, "lateral": 0.08, "negative": 0.11, "turned": 0.04}
"""How often a training view is of each kind of film."""
METAL = 0.25
"""How often an AP joint gets drawn metal."""


class LocaliserNet(nn.Module):
    """MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) and a top-down pathway (Lin et al. 2017, arXiv:1612.03144) to stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.standardise = Standardise()
        self.backbone: Any = timm.create_model(BACKBONE, features_only=True, out_indices=LEVELS, in_chans=1)
        self.lateral = nn.ModuleList(nn.Conv2d(channels, WIDTH, 1) for channels in self.backbone.feature_info.channels())
        self.head = nn.Sequential(_block(), _block())
        self.answer = nn.Conv2d(WIDTH, len(KINDS) + 5, 1)
        with torch.no_grad():
            self.answer.weight.zero_()
            bias = torch.zeros(len(KINDS) + 5)
            bias[: len(KINDS)] = -4.0  # at first nothing is found, or the many empty cells would drown the rest
            self.answer.bias = nn.Parameter(bias)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, SIZE, SIZE) in [0, 1] -> (N, kinds + 5, h, w); see :func:`kneexray.roi.localiser.decode`."""
        features = self.backbone(self.standardise(image))
        total: Tensor = self.lateral[-1](features[-1])
        for lateral, feature in zip(reversed(self.lateral[:-1]), reversed(features[:-1]), strict=True):
            total = F.interpolate(total, scale_factor=2.0, mode="nearest") + lateral(feature)
        answer: Tensor = self.answer(self.head(total))
        return answer


def _block() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True))


def loss(answer: Tensor, heat: Tensor, weight: Tensor, told: Tensor) -> Tensor:
    """Return the focal loss of the heat maps (Law & Deng 2018, arXiv:1808.01244) and the absolute errors at the joints.

    ``answer`` (N, kinds + 5, h, w), ``heat`` (N, kinds, h, w), ``weight`` (N, h, w), ``told`` (N, 6, h, w).
    """
    logits = answer[:, : len(KINDS)]
    p = torch.sigmoid(logits)
    positive = heat == 1
    focal = torch.where(positive, (1 - p) ** 2 * F.softplus(-logits), (1 - heat) ** 4 * p**2 * F.softplus(logits))
    joints = positive.sum().clamp(min=1)
    where = told[:, 5:]
    places, sides = answer[:, len(KINDS) : -1], answer[:, -1:]
    errors = (places - told[:, :4]).abs() * torch.tensor([1.0, 1.0, 4.0, 2.0])[None, :, None, None]
    wrong_side = F.softplus(-sides * told[:, 4:5]) * told[:, 4:5].abs()
    return (focal * weight[:, None]).sum() / joints + ((errors + wrong_side / 2) * where).sum() / where.sum().clamp(min=1)


class Draw:
    """Draws training views from films, by the shares of :data:`SHARES`."""

    def __init__(self, films: Sequence[Film], crops: Sequence[Film], others: Sequence[Film], negatives: Sequence[Film]) -> None:
        implants = [film for film in (*others, *films) if any(joint.kind == "implant" for joint in film.joints)]
        laterals = [film for film in others if any(joint.kind == "lateral" for joint in film.joints)]
        self.crops = crops
        self.pools = {"film": films, "crop": crops, "implant": implants, "lateral": laterals, "negative": negatives, "turned": films}

    def batch(self, rng: Generator) -> tuple[Tensor, ...]:
        """Return images (N, 1, SIZE, SIZE) and their targets."""
        rows = [self._one(rng) for _ in range(BATCH)]
        images, heat, weight, told = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        return images[:, None], heat, weight, told

    def _one(self, rng: Generator) -> tuple[Any, ...]:
        what = rng.choice(list(SHARES), p=list(SHARES.values()))
        pool = self.pools.get(what)
        film = pasted(self.crops, rng) if pool is None else pool[int(rng.integers(len(pool)))]
        if what == "turned":
            film = Film(film.name, np.ascontiguousarray(np.rot90(film.pixels, int(rng.integers(1, 4)))))
        elif {joint.kind for joint in film.joints} == {"ap"} and rng.random() < METAL:
            film = with_metal(film, rng)
        view = scene(film, rng)
        return exposed(view.pixels, rng), *targets(view)


def train(draw: Draw, net: LocaliserNet, *, steps: int, rate: float, seed: int) -> Iterator[tuple[int, float]]:
    """Train ``net`` in place for ``steps``; yield the step and the mean loss every 20 steps."""
    frozen = [net.backbone.conv_stem, net.backbone.bn1, *net.backbone.blocks[:FROZEN]]
    for module in frozen:
        module.requires_grad_(False)
    backbone = [p for p in net.backbone.parameters() if p.requires_grad]
    rest = [p for name, p in net.named_parameters() if not name.startswith("backbone.")]
    net.train().to(memory_format=torch.channels_last)
    for module in frozen:
        module.eval()

    def losses() -> Iterator[Tensor]:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(draw.batch, np.random.default_rng([seed, 0]))
            for step in range(steps):
                images, *wanted = waiting.result()
                waiting = pool.submit(draw.batch, np.random.default_rng([seed, step + 1]))
                yield loss(net(images.contiguous(memory_format=torch.channels_last)), *wanted)

    groups = [{"params": backbone, "lr": rate / 3}, {"params": rest, "lr": rate}]
    yield from descend(losses(), groups, steps=steps, every=20)


def start(net: LocaliserNet, weights: Path) -> None:
    """Load ImageNet weights in timm's naming into the backbone; the three channels of its first layer are summed."""
    state = load_file(weights)
    state["conv_stem.weight"] = state["conv_stem.weight"].sum(dim=1, keepdim=True)
    wanted = set(net.backbone.state_dict())
    net.backbone.load_state_dict({name: value.float() for name, value in state.items() if name in wanted})


@dataclass(frozen=True, slots=True)
class Measured:
    """What a localiser did on held-back files; ``ious`` of every AP knee with its best AP box (0 where none overlaps)."""

    films: int
    ious: NDArray[np.float64]
    sides: tuple[int, int]
    extra: int
    without: int
    wrongly: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as the card states them."""
        return {
            "films": self.films,
            "knees": len(self.ious),
            "median_iou": round(float(np.median(self.ious)), 3),
            "iou_at_least_0.5": round(float((self.ious >= 0.5).mean()), 4),
            "iou_at_least_0.8": round(float((self.ious >= 0.8).mean()), 4),
            "extra_boxes": self.extra,
            "sides_told_rightly": list(self.sides),
            "images_without_ap_knee": self.without,
            "of_those_with_a_box": len(self.wrongly),
        }


def measure(marked: Sequence[Marked], *, network: Path) -> Measured:
    """Return what the localiser ``network`` finds on files: AP boxes against those that were drawn.

    Only the carefully drawn boxes of the Wani films count for ``ious``.
    """
    ious: list[float] = []
    wrongly: list[str] = []
    extra = rightly = told = films = without = 0
    for entry in marked:
        drawn = [joint for joint in entry.joints if joint.kind == "ap"]
        found = [j for j in find_joints(read_file(entry.path).radiographs[0].pixels, network=network) if j.kind == "ap"]
        if not drawn:
            without += 1
            wrongly += [entry.path.name] if found else []
            continue
        if entry.shares:
            continue
        films += 1
        extra += max(0, len(found) - len(drawn))
        for mark in drawn:
            best = max(found, key=lambda joint: iou(mark.box, joint.box), default=None)
            ious.append(iou(mark.box, best.box) if best else 0.0)
            if best and mark.side:
                told += 1
                rightly += (best.rightness > 0) == (mark.side == "R")
    return Measured(films, np.array(ious), (rightly, told), extra, without, tuple(wrongly))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, export and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wani", type=Path, required=True, help="The Wani & Arora films with boxes.csv and labels.csv.")
    parser.add_argument("--others", type=Path, required=True, help="The folder of knee-implants and mixed-knee-films.")
    parser.add_argument("--crops", type=Path, required=True, help="Crops of one AP knee each, named by patient and side.")
    parser.add_argument("--negatives", type=Path, required=True, help="Images that show no knee.")
    parser.add_argument("--weights", type=Path, required=True, help="MobileNetV2 of ImageNet as safetensors in timm's naming.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--swap", action="store_true", help="Learn from the implants and laterals held back, and hold back the rest.")
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    everything = (data.wani(options.wani), data.others(options.others, swap=options.swap), data.negatives([options.negatives]))
    wani, others, negatives = ([entry for entry in part if not entry.held_back] for part in everything)
    crops = data.crops(options.crops, most=CROPS)
    draw = Draw(data.load(wani), crops, data.load(others), data.load(negatives))
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        net = LocaliserNet()
        start(net, options.weights)
        for step, value in train(draw, net, steps=options.steps, rate=RATE, seed=options.seed):
            logger.info("step %d of %d: loss %.3f", step, options.steps, value)
    network = write_network(net, options.out / NETWORK.name, size=SIZE, output="answer")
    measured = measure([entry for part in everything for entry in part if entry.held_back], network=network)
    facts = {
        "input": {"size": SIZE, "stride": STRIDE, "kinds": list(KINDS)},
        "starting_point": options.weights.name,
        "starting_point_licence": "Apache-2.0 (timm, ImageNet-1k)",
        "data": {
            "wani2021 (CC BY 4.0 as far as known)": f"{len(wani)} films with {sum(len(e.joints) for e in wani)} boxes",
            "chen2018 train (CC BY 4.0)": f"{len(crops)} crops",
            "knee-implants, mixed-knee-films (licence unknown)": f"{len(others)} files",
            "images without a knee (licence unknown)": f"{len(negatives)} files",
        },
        "split": data.__doc__,
        "scores_on": "the held-back files",
        "scores": measured.to_dict(),
    }
    name = f"localiser-{BACKBONE.replace('_', '-')}-{SIZE}"
    write_card(network, net, name=name, maker="kneexray.makers.localiser.train", given=given, facts=facts)


if __name__ == "__main__":
    main()
