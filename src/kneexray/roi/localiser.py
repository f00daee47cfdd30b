"""Where on a film are the tibiofemoral joints, and how do they lie?

A network finds the centre of each joint's box on a heat map, and its size and tilt beside it ("objects as points": Zhou et al. 2019,
arXiv:1904.07850), first on the whole film, then again on the part of the film around each joint, where the knee always fills the same
share of the view. Made by :mod:`kneexray.makers.localiser.train`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kneexray.geometry import resample
from kneexray.inference.session import open_engine
from kneexray.types import Box

Kind = Literal["ap", "implant", "lateral"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What the network tells apart: a native knee in AP view, a knee with an implant (any view), a native knee in lateral view."""
FOLDER = Path(str(resources.files("kneexray"))) / "models" / "localiser"
NETWORK = FOLDER / "model.onnx"
SIZE = 192
"""Side of the network's square input in pixels."""
STRIDE = 8
UNIT = SIZE / 2
"""Side of a box whose log size is 0, in input pixels."""
FULL_ANGLE = 45.0
"""Tilt in degrees that the network calls 1."""
CLOSE_UP = 1.8
"""Side of the second look's view, in sides of the box found at the first."""
FIRST_SCORE, SCORE = 0.15, 0.4
"""Smallest scores of a joint at the first and at the second look."""
MOST = 6
"""How many joints the second look takes up."""
OVERLAP = 0.3
"""Of boxes that overlap by more (IoU) only the surest stays: two knees do not."""


@dataclass(frozen=True, slots=True)
class Joint:
    """A joint found. ``box`` is in pixels of the film, in the convention of :class:`kneexray.types.Knee`; ``tilt`` is how far the leg is
    turned clockwise on the film, in degrees (told within 45); ``score`` is in [0, 1]. ``rightness`` above 0
    says that the fibula lies as a right knee's does: no side is named by it yet (docs/localiser.md).
    """

    kind: Kind
    box: Box
    tilt: float
    rightness: float
    score: float


def find_joints(pixels: NDArray[np.float32], *, network: Path = NETWORK) -> list[Joint]:
    """Return the joints on a film (H, W) in [0, 1], from its left to its right, as one look at the whole film shows them.

    :func:`kneexray.roi.search.look` looks closer where knees are small.
    """
    first = first_look(pixels, [whole(pixels)], network=network)
    second = second_look(pixels, first[:MOST], network=network)
    return sorted(distinct([joint for joint in second if joint is not None and joint.score >= SCORE]), key=lambda joint: joint.box[0])


def first_look(pixels: NDArray[np.float32], windows: Sequence[Box], *, network: Path = NETWORK) -> list[Joint]:
    """Return what may be a joint in any of the square ``windows`` of a film (H, W), the surest first."""
    maps = _run([view(pixels, window) for window in windows], network)
    return distinct([joint for m, window in zip(maps, windows, strict=True) for joint in decode(m, window, least=FIRST_SCORE)])


def second_look(pixels: NDArray[np.float32], joints: Sequence[Joint], *, network: Path = NETWORK) -> list[Joint | None]:
    """Return what stands in the middle of the part of a film (H, W) around each of ``joints``, with a score of at least
    :data:`FIRST_SCORE`; None where that is nothing."""
    if not joints:
        return []
    windows = [around(joint.box, CLOSE_UP) for joint in joints]
    maps = _run([view(pixels, window) for window in windows], network)
    return [_central(decode(m, window, least=FIRST_SCORE), window) for m, window in zip(maps, windows, strict=True)]


def whole(pixels: NDArray[np.float32]) -> Box:
    """Return the square about a film (H, W)."""
    height, width = pixels.shape
    longer = max(height, width)
    return ((width - longer) / 2, (height - longer) / 2, (width + longer) / 2, (height + longer) / 2)


def around(box: Box, times: float) -> Box:
    """Return the square ``times`` as wide as the ``box`` about the same centre."""
    x, y, half = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, times * (box[2] - box[0]) / 2
    return (x - half, y - half, x + half, y + half)


def view(pixels: NDArray[np.float32], window: Box) -> NDArray[np.float32]:
    """Return the square ``window`` of a film (H, W) as the network sees it, (1, SIZE, SIZE): black outside the film."""
    height, width = pixels.shape
    scale = SIZE / (window[2] - window[0])
    x0, y0, x1, y1 = max(0.0, window[0]), max(0.0, window[1]), min(float(width), window[2]), min(float(height), window[3])
    seen = np.zeros((1, SIZE, SIZE), np.float32)
    left, right = round((x0 - window[0]) * scale), round((x1 - window[0]) * scale)
    top, bottom = round((y0 - window[1]) * scale), round((y1 - window[1]) * scale)
    if right > left and bottom > top:
        seen[0, top:bottom, left:right] = resample(pixels, (x0, y0, x1, y1), size=(bottom - top, right - left))
    return seen


def decode(answer: NDArray[np.float32], window: Box, *, least: float) -> list[Joint]:
    """Return the peaks with a score of ``least`` and more of a network's answer for ``window``, the surest first.

    ``answer`` is (kinds + 5, h, w): a logit for each kind, then the way from the cell's middle to the box's, right and down, in cells;
    the log of the box's side; its tilt; the log odds that it is a right knee.
    """
    heat = 1 / (1 + np.exp(-answer[: len(KINDS)]))  # (kinds, h, w)
    best = heat.max(axis=0)
    padded = np.pad(best, 1)
    height, width = best.shape
    neighbours = np.stack([padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)])
    rows, columns = np.nonzero((best == neighbours.max(axis=0)) & (best >= least))
    scale = (window[2] - window[0]) / SIZE
    found = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        right, down, size, tilt, rightness = answer[len(KINDS) :, row, column].tolist()
        x = window[0] + (column + 0.5 + right) * STRIDE * scale
        y = window[1] + (row + 0.5 + down) * STRIDE * scale
        half = UNIT * float(np.exp(size)) * scale / 2
        kind = KINDS[int(heat[:, row, column].argmax())]
        found.append(Joint(kind, (x - half, y - half, x + half, y + half), tilt * FULL_ANGLE, rightness, float(best[row, column])))
    return sorted(found, key=lambda joint: -joint.score)


def distinct(joints: Sequence[Joint]) -> list[Joint]:
    """Return ``joints`` without those that overlap a surer one, the surest first."""
    kept: list[Joint] = []
    for joint in sorted(joints, key=lambda joint: -joint.score):
        if all(iou(joint.box, other.box) <= OVERLAP for other in kept):
            kept.append(joint)
    return kept


def iou(a: Box, b: Box) -> float:
    """Return the intersection of two boxes over their union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _central(joints: Sequence[Joint], window: Box) -> Joint | None:
    """Return the surest of ``joints`` whose middle lies in the middle of the ``window``."""
    middle = around(window, 0.5)
    for joint in joints:
        x, y = (joint.box[0] + joint.box[2]) / 2, (joint.box[1] + joint.box[3]) / 2
        if middle[0] <= x <= middle[2] and middle[1] <= y <= middle[3]:
            return joint
    return None


def _run(views: Sequence[NDArray[np.float32]], network: Path) -> NDArray[np.float32]:
    """Return the network's answers (N, kinds + 5, h, w)."""
    answers: NDArray[np.float32] = _engine(network).run(None, {"image": np.stack(views)})[0]
    return answers


@cache
def _engine(network: Path) -> Any:
    return open_engine(network, threads=1)
