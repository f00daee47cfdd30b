"""A knee on a film -> what a model sees. The only such function: training, export, prediction and the web use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kneexray.geometry import resample
from kneexray.inference.cartilage import cartilage_band
from kneexray.types import Box, Knee


@dataclass(frozen=True, slots=True)
class Geometry:
    """Which part of the knee's box a model sees, and at how many pixels.

    ``size`` is the side of the square input in pixels. ``zoom`` is the side of the seen square as a share of the
    box's side, and ``shift_y`` moves its centre down by that share: the joint line lies at 0.59 of the box's height.
    ``region`` "cartilage" takes the band that :func:`~.cartilage.cartilage_band` finds for the box, stretched to the square.
    """

    size: int
    zoom: float = 1.0
    shift_y: float = 0.0
    region: Literal["knee", "cartilage"] = "knee"

    def seen(self, knee: Knee) -> Box:
        """Return the part of the film that a model sees of ``knee``, in film pixels; it may reach outside the film."""
        if self.region == "knee":
            return self.window(knee.box)
        return self.window(cartilage_band(knee.radiograph.pixels, knee.box))

    def seen_of_box(self, knee: Knee) -> Box:
        """Return the same part in shares of the knee's box: (0, 0, 1, 1) is all of it."""
        x0, y0, x1, y1 = knee.box
        left, top, right, bottom = self.seen(knee)
        width, height = x1 - x0, y1 - y0
        return ((left - x0) / width, (top - y0) / height, (right - x0) / width, (bottom - y0) / height)

    def window(self, box: Box) -> Box:
        """Return the part of ``box`` that zoom and shift leave."""
        x0, y0, x1, y1 = box
        width, height = (x1 - x0) * self.zoom, (y1 - y0) * self.zoom
        centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2 + self.shift_y * (y1 - y0)
        return (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)


def preprocess(knee: Knee, geometry: Geometry) -> NDArray[np.float32]:
    """Return what a model of this ``geometry`` sees of ``knee``: (1, size, size) float32 in [0, 1].

    Left knees come mirrored (``knee.mirrored``), so that every knee looks like a right one. Exposure is not touched
    here: the network's first layer standardises each image.
    """
    return np.array(_seen(knee, geometry), order="C")[None]  # (1, H, W), the caller's own


def batch(knees: Sequence[Knee], geometry: Geometry) -> NDArray[np.float32]:
    """Return the inputs of several knees as one array, (N, 1, size, size) float32."""
    out = np.empty((len(knees), 1, geometry.size, geometry.size), dtype=np.float32)
    for row, knee in zip(out, knees, strict=True):
        row[0] = _seen(knee, geometry)
    return out


def _seen(knee: Knee, geometry: Geometry) -> NDArray[np.float32]:
    seen = resample(knee.radiograph.pixels, geometry.seen(knee), size=(geometry.size, geometry.size))
    return seen[:, ::-1] if knee.mirrored else seen
