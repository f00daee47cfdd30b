"""Does an image look like the crop of one AP knee? Distance to a small linear model of how such crops look.

The model is the mean and the first principal components of 32 px training crops ("eigen-knees", after Turk & Pentland, J Cogn
Neurosci 1991;3:71): an image that the components cannot rebuild, or can only with rare amounts of them, is no such crop.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from kneexray.preprocess import resample

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


def thumbnail(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image (H, W) as the gate compares it: (32 * 32,) with mean 0 and standard deviation about 1."""
    height, width = pixels.shape
    small = resample(pixels, (0, 0, width, height), size=(SIDE, SIDE))
    small = small - small.mean()
    standardised: NDArray[np.float32] = (small / (small.std() + np.float32(0.02))).ravel()
    return standardised


def crop_likeness(pixels: NDArray[np.float32]) -> float:
    """Return how much an image (H, W) looks like the crop of one AP knee: 1 as typical ones do, 0.5 at the limit, 0 not at all."""
    height, width = pixels.shape
    if max(height, width) > ASPECT * min(height, width):
        return 0.0
    mean, components, variance = _model()
    difference = thumbnail(pixels) - mean
    amounts = components @ difference  # (C,)
    residual = float(((difference - amounts @ components) ** 2).mean())
    rarity = float((amounts**2 / variance).mean())
    excess = max(residual / RESIDUAL_LIMIT, rarity / RARITY_LIMIT)
    return 1.0 / (1.0 + excess**2)


def is_crop(likeness: float) -> bool:
    """Whether :func:`crop_likeness` is within the limits."""
    return likeness >= 0.5


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
