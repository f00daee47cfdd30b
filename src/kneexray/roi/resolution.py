"""The true resolution of a knee: an image enlarged from few pixels has many, and no detail."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneexray.roi.quality import joint_region, on_film
from kneexray.types import Box

COARSE, MIDDLE, FINE, FINEST = (10, 20), (50, 60), (66, 80), (90, 110)
"""Bands of spatial frequency, in cycles per side of a knee's box: what every knee shows; what 100, 132 and 180 px at least show."""
LEAST_MIDDLE, LEAST_FINE, LEAST_FINEST = -2.55, -3.05, -3.5
"""Power in three bands, as log10 of its share of the coarse band's, below which they count as empty.

Measured on Chen validation crops as they are and reduced to 64, 96 and 128 px (docs/limits.md).
"""
SOFT_WARNING = "the knee shows little detail, as if it had been enlarged or blurred: grades of such knees are right less often"
_SIDE = 288
LEAST_SIDE = 222
"""Of a knee's box in pixels: smaller ones cannot hold the finest band, and nothing is said of them."""
_WIDTH, _HEIGHT = 64, 32  # of the least region in which a spectrum can be told


@dataclass(frozen=True, slots=True)
class Detail:
    """Power in the bands :data:`MIDDLE`, :data:`FINE` and :data:`FINEST`, as log10 of shares of the coarse band's."""

    middle: float
    fine: float
    finest: float


def detail(pixels: NDArray[np.float32], box: Box) -> Detail | None:
    """Return the power in three bands of a knee's ``box`` on a film (H, W), from the joint region, windowed after Hann.

    None where the box is smaller than :data:`LEAST_SIDE`, too little of the region lies on the film, or it shows nothing.
    """
    side = box[2] - box[0]
    joint = on_film(pixels, joint_region(box))
    times = max(1, math.floor(side / _SIDE))
    if side < LEAST_SIDE:
        return None
    if times > 1:
        joint = np.asarray(Image.fromarray(np.ascontiguousarray(joint)).reduce(times))
    height, width = joint.shape
    if width < _WIDTH or height < _HEIGHT:
        return None
    seen = (joint - joint.mean()) * np.hanning(height)[:, np.newaxis] * np.hanning(width)
    power = np.abs(np.fft.rfft2(seen)) ** 2
    down, across = np.fft.fftfreq(height) * side / times, np.fft.rfftfreq(width) * side / times  # cycles per side of the box
    frequency = np.hypot(down[:, np.newaxis], across)
    coarse = _mean(power, frequency, *COARSE)
    if coarse <= 0:
        return None
    return Detail(*(math.log10(max(_mean(power, frequency, *band) / coarse, 1e-9)) for band in (MIDDLE, FINE, FINEST)))


def resolution_objection(found: Detail | None) -> tuple[str, str] | None:
    """Return why a knee of this :func:`detail` must not be graded, as a reason and a sentence, or None."""
    if found is None or found.finest >= LEAST_FINEST or found.middle >= LEAST_MIDDLE:
        return None
    return "low_resolution", "the knee shows no more detail than one of about 100 px: it was enlarged or blurred. Give the film itself"


def is_soft(found: Detail | None) -> bool:
    """Say whether a knee of this :func:`detail` is to be warned of."""
    return found is not None and found.finest < LEAST_FINEST and found.fine < LEAST_FINE


def _mean(power: NDArray[np.floating], frequency: NDArray[np.floating], low: float, high: float) -> float:
    band = power[(frequency >= low) & (frequency < high)]
    return float(band.mean()) if band.size else 0.0  # beyond what the pixels can hold
