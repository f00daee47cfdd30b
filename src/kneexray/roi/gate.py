"""Does an image look like the crop of one AP knee, and is it the right way up and the right way bright?

The model is the mean and the first principal components of 32 px training crops ("eigen-knees", after Turk & Pentland, J Cogn
Neurosci 1991;3:71): an image that the components cannot rebuild, or can only with rare amounts of them, is no such crop.
An inverted or upside-down crop resembles the mean most when it is turned back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from kneexray.geometry import resample

SIDE = 32
"""Side of the images that the gate compares, in pixels."""
MINIMUM_PIXELS = 96
"""A knee with fewer pixels a side shows no joint space and no osteophytes."""
ASPECT = 1.25
"""Crops are square; an image longer than this times its width is none."""
RESIDUAL_LIMIT = 0.105
"""Largest share of an image's variance that the components may leave unexplained."""
RARITY_LIMIT = 6.0
"""Largest mean squared amount of the components, in units of their variance among training crops."""
CORRELATION_LIMIT = 0.3
"""Smallest correlation with the mean crop."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How much an image looks like the crop of one AP knee, after turning it back where it is inverted.

    ``likeness`` is near 1 for typical crops, 0.5 at the limit, near 0 for anything else.
    """

    likeness: float
    inverted: bool
    upside_down: bool

    @property
    def is_crop(self) -> bool:
        """Whether the image may be graded as one knee."""
        return self.likeness >= 0.5 and not self.upside_down


NOTHING_LIKE_IT = Verdict(likeness=0.0, inverted=False, upside_down=False)


def judge(pixels: NDArray[np.float32]) -> Verdict:
    """Return the verdict on an image (H, W)."""
    height, width = pixels.shape
    if max(height, width) > ASPECT * min(height, width):
        return NOTHING_LIKE_IT
    mean, components, variance = _model()
    small = thumbnail(pixels)
    if not small.any():
        return NOTHING_LIKE_IT
    upright, flipped = _correlation(small, mean), _correlation(small.reshape(SIDE, SIDE)[::-1].ravel(), mean)
    inverted = abs(min(upright, flipped)) > max(upright, flipped)
    if inverted:
        small, upright, flipped = -small, -upright, -flipped
    difference = small - mean
    amounts = components @ difference  # (C,)
    residual = float(((difference - amounts @ components) ** 2).mean())
    rarity = float((amounts**2 / variance).mean())
    excess = max(residual / RESIDUAL_LIMIT, rarity / RARITY_LIMIT, CORRELATION_LIMIT / max(upright, 1e-3))
    return Verdict(likeness=1.0 / (1.0 + excess**2), inverted=inverted, upside_down=flipped > upright)


def thumbnail(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image (H, W) as the gate compares it: (32 * 32,) with mean 0 and standard deviation about 1."""
    height, width = pixels.shape
    small = resample(pixels, (0, 0, width, height), size=(SIDE, SIDE))
    small = small - small.mean()
    standardised: NDArray[np.float32] = (small / (small.std() + np.float32(0.02))).ravel()
    return standardised


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@cache
def _model() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return mean (P,), components (C, P) and their variances (C,), P = 32 * 32."""
    path = resources.files("kneexray") / "models" / "appearance.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return (
            arrays["gate_mean"].astype(np.float32),
            arrays["gate_components"].astype(np.float32),
            arrays["gate_variance"].astype(np.float32),
        )
