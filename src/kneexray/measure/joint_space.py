"""Joint space width: the minimum of each tibiofemoral compartment, on a band that a small network finds.

The network, made by :mod:`kneexray.makers.joint_space.train`, says of each pixel near the joint line whether it lies between the
margins of femur and tibia. Where a width is taken follows the fixed-location measurements of the Osteoarthritis Initiative (Neumann et al.,
Osteoarthritis Cartilage 2009;17:761): on an axis from the medial edge of the condyles, 0, to the lateral, 1, the medial ones lie at
0.15 to 0.30. The width of a compartment here is the least one in that stretch, or in its mirror image at the lateral end, perpendicular
to the middle line of the space there. Where the condyles' edges are is taken from the knee's box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kneexray.geometry import CONDYLES, JOINT_LINE, resample
from kneexray.inference.engines import Engine, open_engine
from kneexray.types import Box, Knee, Measurement

FOLDER = Path(str(resources.files("kneexray"))) / "models" / "joint-space"
NETWORK = FOLDER / "model.onnx"
WIDTH, HEIGHT = 224, 112
"""Of the network's input in pixels: a knee's box across, and half of its height about the joint line."""
PORTION = (0.15, 0.30)
"""Of the way from either edge of the condyles: where a compartment's width is taken."""
SMOOTHED = 5
"""How many columns one width is the mean of: 0.025 of the condyles' width, the step between the fixed locations."""
SPAN = (0.5, 1.0)
"""Least and greatest length of a plausible band, in sides of the box; it is short where bone lies on bone."""
MOST_GAPS = 0.35
"""Largest share of columns between its ends that lack the band."""
MOST_UNSURE = 1.5
"""Largest doubt at a margin in pixels: how far its pixels are from certain together. A sharp margin has at most 0.5."""
STEEPEST = 0.05, 0.04
"""Most that the middle line may rise or fall, in sides of the box, on a stretch of that length of a compartment, beside the knee's tilt.
Chosen on the Chen validation crops: it refuses 7 of 826 more, on each of which the line leaves the joint or follows an implant."""
MOST_TILT = 0.3
"""Largest slope between the middles of the two compartments."""
IMPLAUSIBLE = "joint space not measured: no plausible joint space was found"


@dataclass(frozen=True, slots=True)
class Width:
    """A compartment's width, in the unit that :func:`joint_space` was given, and the ``line`` of its pixels that it was taken on."""

    value: float
    line: Box


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """A joint space in pixels of the network's input: ``margins`` (n, 3), of each column x and the y of femur and tibia; the widths."""

    margins: NDArray[np.float64]
    left: Width
    right: Width


def measure(knees: Sequence[Knee], *, network: Path = NETWORK) -> list[Knee]:
    """Return ``knees`` with their joint space and its widths, or with a warning where none that is plausible was found.

    Widths are in mm at the plane of the film's pixel spacing, where that is known: at the detector (``ImagerPixelSpacing``) a knee is
    some percent larger than it is. Otherwise they are shares of the condyles' width. Those of a knee of unknown side are named by
    their place on the film.
    """
    if not knees:
        return []
    return [_measured(knee, band) for knee, band in zip(knees, find_bands(knees, network=network), strict=True)]


def _measured(knee: Knee, band: NDArray[np.float32]) -> Knee:
    spacing = knee.radiograph.pixel_spacing
    scale = (knee.box[2] - knee.box[0]) / WIDTH
    down, across = (scale * spacing[0], scale * spacing[1]) if spacing else (1 / (CONDYLES * WIDTH),) * 2
    found = joint_space(band, pixel=(down, across))
    if found is None:
        return replace(knee, warnings=(*knee.warnings, IMPLAUSIBLE))
    medial, lateral = ("jsw_medial", "jsw_lateral") if knee.side else ("jsw_film_right", "jsw_film_left")
    unit: Literal["mm", "1"] = "mm" if spacing else "1"
    x0, y0, _, _ = window(knee.box)
    to_film = np.array([-scale if knee.mirrored else scale, scale]), np.array([knee.box[2] if knee.mirrored else x0, y0])

    def line(width: Width) -> Box:
        (a, b), (c, d) = np.array(width.line).reshape(2, 2) * to_film[0] + to_film[1]
        return (float(a), float(b), float(c), float(d))

    margins = found.margins * to_film[0][[0, 1, 1]] + to_film[1][[0, 1, 1]]
    return replace(
        knee,
        joint_space=margins.astype(np.float32),
        measurements=(
            *knee.measurements,
            Measurement(medial, found.right.value, unit, line(found.right)),
            Measurement(lateral, found.left.value, unit, line(found.left)),
        ),
    )


def window(box: Box) -> Box:
    """Return the part of a knee's ``box`` that the network sees, in film pixels."""
    x0, y0, x1, y1 = box
    middle, half = y0 + JOINT_LINE * (y1 - y0), (x1 - x0) * HEIGHT / WIDTH / 2
    return (x0, middle - half, x1, middle + half)


def seen(pixels: NDArray[np.float32], knee: Knee) -> NDArray[np.float32]:
    """Return what the network sees of ``pixels`` (H, W), those of the knee's film or a mask on it: (HEIGHT, WIDTH), as of a right knee."""
    x0, y0, x1, y1 = window(knee.box)
    reach = math.ceil((x1 - x0) / WIDTH) + 1  # of the filter: the rest of a large film need not be touched
    left, top = max(0, math.floor(x0) - reach), max(0, math.floor(y0) - reach)
    part = pixels[top : math.ceil(y1) + reach, left : math.ceil(x1) + reach]
    image = resample(part, (x0 - left, y0 - top, x1 - left, y1 - top), size=(HEIGHT, WIDTH))
    return image[:, ::-1] if knee.mirrored else image


def find_bands(knees: Sequence[Knee], *, network: Path = NETWORK) -> NDArray[np.float32]:
    """Return how much of each pixel is joint space, (N, HEIGHT, WIDTH) in [0, 1]; each knee as if it were a right one."""
    images = np.stack([seen(knee.radiograph.pixels, knee) for knee in knees])[:, None]
    bands: NDArray[np.float32] = _engine(network).run(None, {"image": images})[0]
    return bands


def joint_space(band: NDArray[np.float32], *, pixel: tuple[float, float]) -> Space | None:
    """Return the joint space in ``band`` (H, W), None where that is no plausible one; ``pixel`` is the height and width of its pixels.

    The height of the space in a column is the sum of the shares of its pixels, so that it is finer than a pixel.
    """
    heights = band.sum(axis=0, dtype=np.float64)  # (W,)
    columns = np.flatnonzero(band.max(axis=0) >= 0.5)
    if not len(columns):
        return None
    length = int(columns[-1] - columns[0]) + 1
    doubt = float(np.minimum(band, 1 - band).sum()) / (2 * len(columns))
    width = band.shape[1]
    if not (SPAN[0] * width <= length <= SPAN[1] * width) or len(columns) < (1 - MOST_GAPS) * length or doubt > MOST_UNSURE:
        return None
    x = np.arange(width)
    rows = np.arange(band.shape[0]) + 0.5
    middles = np.interp(x, columns, rows @ band[:, columns] / heights[columns])
    margins = np.stack([x + 0.5, middles - heights / 2, middles + heights / 2], axis=1)[columns[0] : columns[-1] + 1]
    if not follows_joint(margins, band.shape):
        return None
    smooth = np.convolve(heights, np.full(SMOOTHED, 1 / SMOOTHED), mode="same")  # too low at the ends, where no width is taken
    near, far = (round(width * (0.5 - CONDYLES / 2 + CONDYLES * share)) for share in PORTION)
    return Space(margins, *(_width(middles, smooth, part, pixel) for part in (slice(near, far), slice(width - far, width - near))))


def follows_joint(margins: NDArray[np.float64], shape: tuple[int, int]) -> bool:
    """Return whether ``margins`` (n, 3) in a band of this ``shape`` stay in the joint to its ends.

    A line that leaves it turns up or down steeply, as along the fibula or a condyle's outer side. Between the compartments the
    intercondylar notch may be as steep, and is not judged.
    """
    height, width = shape
    x, upper, lower = margins.T
    share = (x / width - 0.5) / CONDYLES + 0.5  # of the condyles' width
    if upper.min() <= 0 or lower.max() >= height:
        return False
    middles = (upper + lower) / 2
    ends = [end for end in (share <= PORTION[1], share >= 1 - PORTION[1]) if end.any()]  # none where bone lies on bone
    tilt = 0.0
    if len(ends) == 2:
        (left, high), (right, low) = ((float(np.median(x[end])), float(np.median(middles[end]))) for end in ends)
        tilt = (low - high) / (right - left)
    level = middles - tilt * x
    stretch = round(STEEPEST[1] * width)
    steps = [np.abs(line[stretch:] - line[:-stretch]).max(initial=0) for line in (level[end] for end in ends)]
    return abs(tilt) <= MOST_TILT and max(steps, default=0) <= STEEPEST[0] * width


def _width(middles: NDArray[np.float64], heights: NDArray[np.float64], part: slice, pixel: tuple[float, float]) -> Width:
    """Return the least width within ``part`` of a band of these ``middles`` and ``heights`` (W,)."""
    lever = np.arange(part.stop - part.start) - (part.stop - part.start - 1) / 2
    slope = float(lever @ middles[part] / (lever @ lever))  # of the line with the least squares
    place = part.start + int(heights[part].argmin())
    turn = math.atan(slope * pixel[0] / pixel[1])
    value = float(heights[place]) * pixel[0] * math.cos(turn)
    right, down = value / 2 * math.sin(turn) / pixel[1], value / 2 * math.cos(turn) / pixel[0]
    a, b = place + 0.5, float(middles[place])
    return Width(value, (a + right, b - down, a - right, b + down))


@cache
def _engine(network: Path) -> Engine:
    return open_engine(network, threads=1)
