"""Search for knees at every scale: on whole films, letterboxes, wide canvases and screenshots; and for those seen, but not surely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneexray.roi import localiser
from kneexray.roi.localiser import Joint, distinct, first_look, iou, second_look
from kneexray.types import Box

UNIFORM = 0.03
"""A row or column whose grey values span no more than this, but for a few, is border."""
FRAMED = 0.9
"""An image whose content is shorter than this share of it has a border worth cutting away."""
SMALL = 0.2
"""A knee smaller than this share of the view may stand beside one that was not seen: it is looked for closer, at this share."""
SURE_IN_PART = 0.6
"""Least score of a joint that only a part of the image shows, where the whole shows none: such parts show more that is no knee."""
SURE_ALONE = 0.5
"""Least score of an AP knee without another beside it: much bent knees from the side reached 0.47 (docs/localiser.md)."""
ALIKE = 1.6
"""Two knees of a person are not more than this factor apart in size on one film."""
MOST_SHARED = 0.1
"""Of joints that overlap by more (IoU) the less sure one is the same knee."""
ASIDE = 0.9
"""How far beside a knee its film may reach, in sides of its box; above and below twice as far."""
SEEN = 0.45
"""Least score, at the first look, of what counts as a knee that was seen though the second look does not confirm it."""


@dataclass(frozen=True, slots=True)
class Looked:
    """Joints of which the localiser is sure, and those that it saw and is not sure of; each from the film's left to its right."""

    joints: tuple[Joint, ...] = ()
    doubtful: tuple[Joint, ...] = ()


def look(pixels: NDArray[np.float32]) -> Looked:
    """Return the joints on an image (H, W) in [0, 1], whatever stands around the film, in its pixels."""
    content = content_of(pixels)
    square = _square(content)
    views = [localiser.whole(pixels)]
    if square[2] - square[0] < FRAMED * (views[0][2] - views[0][0]):
        views.append(square)
    seen, sure = _looked(pixels, views)
    if not sure:
        parts = [_moved(square, x, y) for y in _steps(content, 1, square) for x in _steps(content, 0, square)]
        more, found = _looked(pixels, parts)
        seen, sure = [*seen, *more], [joint for joint in found if joint.score >= SURE_IN_PART]
    if sure and (small := _closer(content, sure)):
        more, found = _looked(pixels, small)
        seen, sure = [*seen, *more], distinct([*sure, *found])
    kept = [joint for joint in sure if joint.kind != "ap" or joint.score >= SURE_ALONE or _has_peer(joint, sure)]
    seen = [*(joint for joint in sure if joint not in kept), *(joint for joint in seen if joint.score >= SEEN)]
    doubtful = [
        joint
        for joint in distinct(seen)
        if all(iou(joint.box, other.box) <= MOST_SHARED for other in kept) and all(_alike(joint, other) for other in kept)
    ]
    return Looked(tuple(sorted(kept, key=_x)), tuple(sorted(doubtful, key=_x)))


def surroundings(pixels: NDArray[np.float32], joints: Sequence[Joint]) -> Box | None:
    """Return the part of an image (H, W) around ``joints`` that may be their film, in whole pixels, where the image shows much else beside:
    borders, a viewer's panels, other pictures. None where it does not."""
    height, width = pixels.shape
    side = max(joint.box[2] - joint.box[0] for joint in joints)
    x0 = max(0.0, min(joint.box[0] for joint in joints) - ASIDE * side)
    x1 = min(float(width), max(joint.box[2] for joint in joints) + ASIDE * side)
    y0 = max(0.0, min(joint.box[1] for joint in joints) - 2 * ASIDE * side)
    y1 = min(float(height), max(joint.box[3] for joint in joints) + 2 * ASIDE * side)
    if max(x1 - x0, y1 - y0) >= FRAMED * max(height, width):
        return None
    return (float(round(x0)), float(round(y0)), float(round(x1)), float(round(y1)))


def _has_peer(joint: Joint, joints: Sequence[Joint]) -> bool:
    return any(other is not joint and other.kind != "lateral" and other.score >= SURE_ALONE and _alike(joint, other) for other in joints)


def _alike(one: Joint, other: Joint) -> bool:
    a, b = one.box[2] - one.box[0], other.box[2] - other.box[0]
    return max(a, b) <= ALIKE * min(a, b)


def content_of(pixels: NDArray[np.float32]) -> Box:
    """Return the part of an image (H, W) that is left when rows and columns of one grey value are cut from its edges."""
    height, width = pixels.shape
    step = max(1, max(height, width) // 512)
    seen = pixels[::step, ::step]
    x0, y0, x1, y1 = 0, 0, seen.shape[1], seen.shape[0]
    for _ in range(2):  # columns again once rows are gone, and the other way round
        columns, rows = _varied(seen[y0:y1], axis=0), _varied(seen[:, x0:x1], axis=1)
        if not columns.any() or not rows.any():
            return (0.0, 0.0, float(width), float(height))
        x0, x1 = int(columns.argmax()), len(columns) - int(columns[::-1].argmax())
        y0, y1 = int(rows.argmax()), len(rows) - int(rows[::-1].argmax())
    return (float(x0 * step), float(y0 * step), float(min(width, x1 * step)), float(min(height, y1 * step)))


def _varied(seen: NDArray[np.float32], *, axis: int) -> NDArray[np.bool_]:
    low, high = np.percentile(seen, (2, 98), axis=axis)
    return np.asarray(high - low > UNIFORM)


def _looked(pixels: NDArray[np.float32], views: list[Box]) -> tuple[list[Joint], list[Joint]]:
    """Return the joints of a first look at ``views``, and those that a second look confirms."""
    first = first_look(pixels, views)[: localiser.MOST] if views else []
    second = second_look(pixels, first)
    return first, distinct([joint for joint in second if joint is not None and joint.score >= localiser.SCORE])


def _closer(content: Box, joints: list[Joint]) -> list[Box]:
    """Return views in which a knee as large as those found fills the usual share, along the row of them; none where they are not small."""
    side = float(np.median([joint.box[2] - joint.box[0] for joint in joints]))
    length, width = side / SMALL, content[2] - content[0]
    if max(width, content[3] - content[1]) <= length:
        return []
    y = float(np.mean([joint.box[1] + joint.box[3] for joint in joints])) / 2
    count = min(8, max(1, math.ceil(2 * (width - length) / length) + 1)) if width > length else 1
    middles = np.linspace(content[0] + length / 2, content[2] - length / 2, count) if count > 1 else [(content[0] + content[2]) / 2]
    return [(x - length / 2, y - length / 2, x + length / 2, y + length / 2) for x in map(float, middles)]


def _square(box: Box) -> Box:
    x, y, half = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, max(box[2] - box[0], box[3] - box[1]) / 2
    return (x - half, y - half, x + half, y + half)


def _steps(content: Box, axis: int, square: Box) -> list[float]:
    """Return where the parts of half the square's side start along an ``axis`` of the content, each overlapping the next by half."""
    half = (square[2] - square[0]) / 2
    length = content[axis + 2] - content[axis]
    if length <= half:
        return [content[axis] + (length - half) / 2]
    count = math.ceil(2 * (length - half) / half) + 1
    return [float(start) for start in np.linspace(content[axis], content[axis + 2] - half, count)]


def _moved(square: Box, x: float, y: float) -> Box:
    half = (square[2] - square[0]) / 2
    return (x, y, x + half, y + half)


def _x(joint: Joint) -> float:
    return joint.box[0]
