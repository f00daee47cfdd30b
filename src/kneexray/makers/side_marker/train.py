r"""Train the reader of side markers and write it into a folder as ONNX with its card.

    python -m kneexray.makers.side_marker.train ../shared/data --out src/kneexray/models/side-marker

It learns from drawn letters, and from everything of a letter's size on real films. Those that :mod:`kneexray.makers.side_marker.data` holds
back are left out; ``benchmarks/markers.py`` measures on them.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from kneexray.makers.common import descend, write_card, write_network
from kneexray.makers.side_marker import data
from kneexray.makers.side_marker.data import Marked
from kneexray.makers.side_marker.letters import drawn
from kneexray.read import read_file
from kneexray.roi.markers import CERTAIN, LETTERS, NETWORK, PATCH, candidates, find_markers, lie_together
from kneexray.types import Box

logger = logging.getLogger(__name__)

WIDTHS, HIDDEN = (12, 24), 48
BATCH = 256
RATE = 4e-3
REPEATED = 8
"""How often a real letter is shown in an epoch, each time a little moved and with other noise: there are few."""
OTHERS = 24_000
"""How many real things that are no letter are shown in an epoch, at most."""


class MarkerNet(nn.Module):
    """Two convolutions and two dense layers: what the patch shows."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, WIDTHS[0], 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTHS[0], WIDTHS[1], 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(WIDTHS[1] * (PATCH // 4) ** 2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1 + len(LETTERS))
        )

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, PATCH, PATCH) -> logits (N, 1 + letters): none first, then :data:`~kneexray.roi.markers.LETTERS`."""
        logits: Tensor = self.head(self.features(image))
        return logits


class Probabilities(nn.Module):
    """The network as it is shipped: probabilities (N, 1 + letters)."""

    def __init__(self, net: MarkerNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, PATCH, PATCH) -> (N, 1 + letters), each row with sum 1."""
        return torch.softmax(self.net(image), dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """``images`` (N, PATCH, PATCH) and what they show, ``classes`` (N,): 0 no letter, else one more than the index into the letters."""

    images: NDArray[np.float32]
    classes: NDArray[np.int64]


def real(entries: Iterable[Marked]) -> Patches:
    """Return everything of a letter's size on films, by what a person saw there."""
    images, classes = [], []
    for entry in entries:
        for candidate in candidates(read_file(entry.path).radiographs[0].pixels):
            there = [mark for mark in entry.marks if lie_together(mark.box, candidate.box)]
            letters = [mark.letter for mark in there if mark.letter != "?" and _alike(mark.box, candidate.box)]
            if letters or not there:
                images.append(candidate.patch)
                classes.append(1 + LETTERS.index(letters[0]) if letters else 0)
    return Patches(np.stack(images), np.array(classes))


def _alike(a: Box, b: Box) -> bool:
    return 0.55 < (a[3] - a[1]) / (b[3] - b[1]) < 1.8


def synthetic(films: Sequence[NDArray[np.uint8]], count: int, rng: Generator) -> Patches:
    """Return ``count`` drawn letters and other signs on parts of ``films``."""
    classes = np.arange(count) % (1 + len(LETTERS))
    return Patches(np.stack([drawn(films, LETTERS[k - 1] if k else None, rng) for k in classes.tolist()]), classes)


def train(net: MarkerNet, patches: Patches, *, epochs: int, seed: int) -> Iterator[tuple[int, float]]:
    """Train ``net`` in place; yield the step and the mean loss of each epoch."""
    images, classes = torch.from_numpy(patches.images)[:, None], torch.from_numpy(patches.classes)
    steps = -(-len(images) // BATCH)
    generator = torch.Generator().manual_seed(seed)
    net.train()

    def losses() -> Iterator[Tensor]:
        for _ in range(epochs):
            for rows in torch.randperm(len(images), generator=generator).split(BATCH):
                yield F.cross_entropy(net(images[rows]), classes[rows])

    groups = [{"params": list(net.parameters()), "lr": RATE}]
    yield from descend(losses(), groups, steps=epochs * steps, rising=0.2, clip=math.inf, every=steps)
    net.eval()


def highest_wrong(net: MarkerNet, found: Patches) -> float:
    """Return the highest probability that ``net`` gives to a letter that is not there."""
    with torch.inference_mode():
        scores = torch.softmax(net(torch.from_numpy(found.images)[:, None]), dim=1).numpy()
    scores[np.arange(len(scores)), found.classes] = 0
    return float(scores[:, 1:].max())


def together(found: Patches, made: Patches, rng: Generator) -> Patches:
    """Return both: of the real ones :data:`OTHERS`, and each letter :data:`REPEATED` times, sometimes as its mirror image."""
    letters, others = np.flatnonzero(found.classes), rng.permutation(np.flatnonzero(found.classes == 0))[:OTHERS]
    rows = np.repeat(letters, REPEATED)
    moved = np.stack([np.roll(found.images[row], rng.integers(-1, 2, 2), axis=(0, 1)) for row in rows.tolist()])
    moved = moved + rng.normal(0, 0.05, moved.shape) * rng.integers(0, 2, (len(rows), 1, 1))
    classes = found.classes[rows].copy()
    behind = (np.arange(len(rows)) % 4 == 0) & (classes != 1 + LETTERS.index("mirrored"))
    moved[behind], classes[behind] = moved[behind, :, ::-1], 1 + LETTERS.index("mirrored")
    images = np.concatenate([found.images[others], moved.astype(np.float32), made.images])
    return Patches(images, np.concatenate([found.classes[others], classes, made.classes]))


@dataclass(frozen=True, slots=True)
class Measured:
    """What a reader did on films: of ``legible`` letters (R and L), how many were ``read``, and what was read wrongly.

    ``wrong`` names the film of each letter read as another, ``false`` of each read where there is none; ``without`` counts films with none.
    """

    films: int
    legible: int
    read: int
    wrong: tuple[str, ...]
    without: int
    false: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as the card states them."""
        wrong, false = len(self.wrong), len(self.false)
        return {
            "films": self.films,
            "letters": self.legible,
            "read": self.read,
            "wrong": wrong,
            "films_without": self.without,
            "letters_read_where_none_is": false,
        }


def measure(entries: Iterable[Marked], *, least: float = CERTAIN, network: Path = NETWORK) -> Measured:
    """Return how the letters that ``network`` reads on films compare with those that a person saw there."""
    films = legible = read = without = 0
    wrong: list[str] = []
    false: list[str] = []
    for entry in entries:
        markers = find_markers(read_file(entry.path).radiographs[0].pixels, least=least, network=network)
        found = [marker for marker in markers if marker.letter != "mirrored"]
        films += 1
        without += not entry.marks
        for mark in entry.marks:
            here = [marker for marker in found if lie_together(mark.box, marker.box)]
            legible += mark.letter in ("R", "L")
            read += any(marker.letter == mark.letter for marker in here) and mark.letter in ("R", "L")
            wrong += [entry.path.name for marker in here if mark.letter not in (marker.letter, "?")]
        false += [entry.path.name for marker in found if not any(lie_together(mark.box, marker.box) for mark in entry.marks)]
    return Measured(films, legible, read, tuple(wrong), without, tuple(false))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, export and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="The folder of wani, mixed-knee-films, knee-implants and not-knees.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--drawn", type=int, default=14_000, help="How many letters and signs are drawn.")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    entries = data.films(options.data)
    learnt = [entry for entry in entries if not entry.held_back]
    rng = np.random.default_rng(options.seed)
    grounds = [np.rint(read_file(entry.path).radiographs[0].pixels * 255).astype(np.uint8) for entry in learnt[::12]]
    found = real(learnt)
    logger.info("%d things of a letter's size on %d films", len(found.classes), len(learnt))
    patches = together(found, synthetic(grounds, options.drawn, rng), rng)
    logger.info("%d patches: %s", len(patches.classes), np.bincount(patches.classes))
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        net = MarkerNet()
        for step, value in train(net, patches, epochs=options.epochs, seed=options.seed):
            logger.info("step %d: loss %.4f", step, value)
    worst = highest_wrong(net, found)
    logger.info("highest probability of a wrong letter on these films: %.4f", worst)
    network = write_network(Probabilities(net), options.out / NETWORK.name, size=PATCH, output="probabilities", halved=False)
    measured = measure([entry for entry in entries if entry.held_back], network=network)
    facts = {
        "input": {"size": PATCH, "classes": ["none", *LETTERS]},
        "data": {folder: f"{sum(entry.folder == folder for entry in learnt)} films" for folder in data.FOLDERS}
        | {"drawn letters and signs": options.drawn},
        "split": data.__doc__,
        "highest_wrong_probability_on_training_films": round(worst, 4),
        "scores_on": "the held-back films",
        "scores": measured.to_dict(),
    }
    write_card(network, net, name=f"side-marker-{PATCH}", maker="kneexray.makers.side_marker.train", given=given, facts=facts)


if __name__ == "__main__":
    main()
