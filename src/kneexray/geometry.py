"""Geometry: the convention of a knee's box, and resampling.

The convention is that of the public crops (Chen 2018), measured on them: a square whose side is the condyles' width over
:data:`CONDYLES`, with the joint line at :data:`JOINT_LINE` of its height. On films of known spacing the side is 105 to 110 mm.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneexray.types import Box

JOINT_LINE = 0.59
"""Height of the joint line in a knee's box, as a share of its side from the top."""
CONDYLES = 0.867
"""Width of the femoral condyles, as a share of the box's side."""
BOX_MM = 107.5
"""Usual side of a knee's box in mm at the detector: 105 to 110 where the spacing is known."""


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
