"""Geometry: the convention of a knee's box, and resampling.

The convention is that of the public crops (Chen 2018), measured on them: a square whose side is the condyles' width over
:data:`CONDYLES`, with the joint line at :data:`JOINT_LINE` of its height. On films of known spacing the side is 105 to 110 mm.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from kneexray.types import Box

JOINT_LINE = 0.59
"""Height of the joint line in a knee's box, as a share of its side from the top."""
CONDYLES = 0.867
"""Width of the femoral condyles, as a share of the box's side."""
BOX_MM = 107.5
"""Usual side of a knee's box in mm at the detector: 105 to 110 where the spacing is known."""


Affine = tuple[float, float, float, float, float, float]
"""A map of the plane: (a x + b y + c, d x + e y + f)."""


def applied(affine: Affine | None, points: ArrayLike) -> NDArray[np.float64]:
    """Return ``points`` (N, 2) as (x, y) under ``affine``; as they are without one."""
    given = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if affine is None:
        return given
    matrix = np.array(affine).reshape(2, 3)
    return np.asarray(given @ matrix[:, :2].T + matrix[:, 2])


def box_under(affine: Affine | None, box: Box) -> Box:
    """Return the upright box about ``box`` under ``affine``."""
    corners = applied(affine, [(box[0], box[1]), (box[2], box[3])])
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    return (float(x0), float(y0), float(x1), float(y1))


def turned(pixels: NDArray[np.float32], quarters: int) -> tuple[NDArray[np.float32], Affine]:
    """Return ``pixels`` (H, W) turned counter-clockwise by ``quarters``, and the map from their new places to the old."""
    height, width = pixels.shape
    back: tuple[Affine, ...] = ((1, 0, 0, 0, 1, 0), (0, -1, width, 1, 0, 0), (-1, 0, width, 0, -1, height), (0, 1, 0, -1, 0, height))
    return np.ascontiguousarray(np.rot90(pixels, quarters)), back[quarters % 4]


def chained(first: Affine, then: Affine) -> Affine:
    """Return the map that does ``first``, then ``then``."""
    a, b = (np.vstack([np.array(m).reshape(2, 3), (0, 0, 1)]) for m in (first, then))
    return tuple(float(v) for v in (b @ a)[:2].ravel())  # type: ignore[return-value]


def resample(pixels: NDArray[np.float32], box: Box, *, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return ``box`` of ``pixels`` (H, W) at ``size`` (height, width), antialiased; outside the film the edge is repeated.

    Pillow's bilinear filter widens with the reduction, so that a 3000 px film and its thumbnail give the same input.
    """
    height, width = pixels.shape
    x0, y0, x1, y1 = box
    left, top = max(0, math.ceil(-x0)), max(0, math.ceil(-y0))
    right, bottom = max(0, math.ceil(x1 - width)), max(0, math.ceil(y1 - height))
    if left or top or right or bottom:
        pixels = np.pad(pixels, ((top, bottom), (left, right)), mode="edge")
        x0, y0, x1, y1 = x0 + left, y0 + top, x1 + left, y1 + top
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1)), dtype=np.float32)
