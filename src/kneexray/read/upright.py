"""Square pixels, and a film that stands upright: what its header says is done before anything looks at it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kneexray.errors import ReadError
from kneexray.geometry import Affine, chained, resample, turned

SQUARE = 1.01
"""Pixels whose sides differ by less than this factor are taken as square."""
MOST_STRETCHED = 4.0
"""Largest ratio of a pixel's sides that a radiograph may have."""


def upright(
    pixels: NDArray[np.float32], spacing: tuple[float, float] | None, *, aspect: float, quarters: int
) -> tuple[NDArray[np.float32], tuple[float, float] | None, Affine | None, tuple[str, ...]]:
    """Return ``pixels`` (H, W) with square pixels, turned counter-clockwise by ``quarters``; their spacing; the map back; what was done.

    ``aspect`` is height over width of a stored pixel. The coarser direction is enlarged, so that no detail is lost. Raises
    :class:`ReadError` for pixels that no radiograph has.
    """
    back: Affine = (1, 0, 0, 0, 1, 0)
    notes: list[str] = []
    if max(aspect, 1 / aspect) > MOST_STRETCHED:
        raise ReadError("unsupported", f"the image's pixels are {aspect:g} times as high as wide; no radiograph has such. Export it again")
    if max(aspect, 1 / aspect) > SQUARE:
        height, width = pixels.shape
        new_height, new_width = round(height * max(aspect, 1)), round(width * max(1 / aspect, 1))
        pixels = resample(pixels, (0, 0, width, height), size=(new_height, new_width))
        back = (width / new_width, 0, 0, 0, height / new_height, 0)
        spacing = None if spacing is None else (min(spacing), min(spacing))
        notes.append(f"pixels are not square (height over width {aspect:.3g}); the image was stretched to square ones")
    if quarters % 4:
        pixels, unturned = turned(pixels, quarters)
        back = chained(unturned, back)
        spacing = spacing[::-1] if spacing is not None and quarters % 2 else spacing
        notes.append("the film does not stand upright by its Patient Orientation; it was turned")
    return pixels, spacing, back if notes else None, tuple(notes)
