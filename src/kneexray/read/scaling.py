"""From stored numbers to [0, 1]: which number means white."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

DEPTHS = (8, 10, 12, 14, 16)
"""The bit depths that radiographs are digitised at."""


def depth_for(maximum: float) -> int:
    """Return the smallest depth in bits of :data:`DEPTHS` whose full scale holds ``maximum``, or its own bit length beyond 16.

    A 16-bit container seldom says how many of its bits are used: 12-bit films in 16-bit PNG or TIFF are common. Dividing by
    the smallest full scale that fits makes 8, 12 and 16 bits of one film agree to quantisation, keeps the relation
    between films of one detector, and does not depend on single bright pixels as min-max scaling would. The price: a film
    whose brightest pixel stays below a quarter of its true full scale is taken for one of the next smaller depth and
    shows four times brighter, as it would with an automatic window.
    """
    for depth in DEPTHS:
        if maximum < 1 << depth:
            return depth
    return int(maximum).bit_length()


def to_unit(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return (H, W) ``values`` of an image format without declared depth as float32 in [0, 1].

    8-bit integers are divided by 255, wider ones by the full scale of :func:`depth_for`. Floats in [0, 1] stay as they are,
    other non-negative ones are taken for integers. Signed integers below zero lie in the smallest depth around zero that holds
    them, as in DICOM. Negative floats occur only where the scale is arbitrary: those images are stretched from their minimum to
    their maximum. NaN and infinity become the minimum.
    """
    if values.dtype == np.uint8:
        return _divided(values, 255)
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            values = np.where(finite, values, values[finite].min() if finite.any() else 0)
    low, high = float(values.min()), float(values.max())
    if low < 0 and values.dtype.kind == "i":
        half = 1 << depth_for(2 * max(high, -low - 1) + 1) - 1
        return np.asarray((values.astype(np.float64) + half) / (2 * half - 1), np.float32)
    if low < 0:
        return np.asarray((values.astype(np.float64) - low) / max(high - low, 1e-30), np.float32)
    if values.dtype.kind == "f" and high <= 1:
        return values.astype(np.float32)
    return _divided(values, (1 << depth_for(high)) - 1)


def _divided(values: NDArray[Any], full_scale: int) -> NDArray[np.float32]:
    return np.asarray(np.divide(values, np.float32(full_scale), dtype=np.float32))


def luma(colour: NDArray[Any]) -> NDArray[np.uint32]:
    """Return the Rec. 601 luma of (H, W, 3 or 4) unsigned RGB of at most 16 bits, as integers of the same depth.

    The fixed-point weights are Pillow's and sum to one exactly, so that grey pixels (R = G = B) keep their value.
    """
    wide = colour[..., :3].astype(np.uint32)
    return np.asarray((wide[..., 0] * 19595 + wide[..., 1] * 38470 + wide[..., 2] * 7471 + 0x8000) >> 16, np.uint32)
