"""The band of a knee that holds its cartilage, found without learning: by how dense the grey is, row by row.

The study of 1,650 knee images (Gornale, Patravali & Hiremath, Front Robot AI 2020;7:591827) takes its cartilage region by the density of
pixels and gives no formula; the profile of row sums is that of Anifah et al., IPTEK J Technol Sci 2011;22(3):159. Cartilage lets rays
through: between the bright ends of femur and tibia the profile has a valley. Here it is taken over the condyles only, as the notch between
them is dark too, and weighed by where joint lines lie in crops of knees.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kneexray.geometry import JOINT_LINE, resample
from kneexray.types import Box

ROWS = 128
"""The profile's length; the film is brought to squares of that size, whatever its resolution."""
CONDYLE_COLUMNS = ((0.18, 0.42), (0.58, 0.82))
"""Columns of medial and lateral condyle, as shares of the box's width."""
VALLEY, SLOPE = 2.0, 9.0
"""Widths in rows (standard deviations of Gaussians) of the valley and of what it is a valley in."""
SPREAD = 0.10
"""Where the joint line lies in crops of knees, as a share of their height, and how far it may be off."""
BAND = 0.28
"""Height of the band as a share of the box's: condyles' edge, joint space and plateau."""


def cartilage_band(pixels: NDArray[np.float32], box: Box) -> Box:
    """Return the band of the joint's cartilage: as wide as the ``box`` of a knee on a film (H, W), bone bright, and 0.28 as high.

    A film that ends above and below within the box, so low that the usual crop does not fit about its joint, was cut about the joint.
    """
    seen = resample(pixels, box, size=(ROWS, ROWS))
    height, film = box[3] - box[1], pixels.shape[0]
    strip = box[1] < 0 and film < box[3] and film < 2 * (1 - JOINT_LINE) * height
    row = valley(seen, joint_line=(film / 2 - box[1]) / height if strip else JOINT_LINE)
    middle, half = box[1] + (row + 0.5) / ROWS * height, BAND / 2 * height
    return (box[0], middle - half, box[2], middle + half)


def valley(seen: NDArray[np.float32], *, joint_line: float) -> int:
    """Return the row of the joint space in a knee's square (ROWS, ROWS); ``joint_line`` is about where, as a share of its height."""
    likely = np.exp(-(((np.arange(ROWS) + 0.5) / ROWS - joint_line) ** 2) / (2 * SPREAD**2))
    depth = np.zeros(ROWS)
    for left, right in CONDYLE_COLUMNS:
        density = seen[:, round(left * ROWS) : round(right * ROWS)].mean(axis=1)
        density = (density - density.mean()) / (density.std() + 1e-3)
        depth += _smooth(density, SLOPE) - _smooth(density, VALLEY)
    return int((likely * np.maximum(depth, 0)).argmax()) if (depth > 0).any() else round(joint_line * ROWS)


def _smooth(profile: NDArray[np.floating], width: float) -> NDArray[np.floating]:
    """Return ``profile`` under a Gaussian of standard deviation ``width``, its ends continued."""
    reach = int(3 * width)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2))
    return np.convolve(np.pad(profile, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
