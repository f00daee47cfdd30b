"""The pictures of a knee that reports carry, encoded. Speed decides the formats: see ``indexed_overlay``."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kneexray.render.heatmap import colours, crop_for_display, heat_levels, indexed_overlay, opacities
from kneexray.types import OWN, Knee

SIZE = 224
"""The longer side of a picture of a knee, in pixels."""

_LAYER = 96  # finer than the map itself, for printers that do not smooth what they stretch


class Album:
    """The pictures of one film, so that several writers cut each knee out once. To be dropped with the film."""

    def __init__(self) -> None:
        self._crops: dict[Knee, NDArray[np.uint8]] = {}

    def crop(self, knee: Knee) -> NDArray[np.uint8]:
        """Return the knee as it lies on the film, (h, w)."""
        if knee not in self._crops:
            self._crops[knee] = crop_for_display(knee, size=SIZE)
        return self._crops[knee]


def overlay_png(crop: NDArray[np.uint8], *, heatmap: NDArray[np.float32]) -> bytes:
    """Return a knee (H, W) with the heatmap (h, w) over it, as PNG."""
    index, palette = indexed_overlay(crop, heatmap)
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes())
    mark = PngInfo()
    mark.add_text("Software", OWN)
    return _encoded(image, "PNG", compress_level=1, pnginfo=mark)


def knee_jpeg(crop: NDArray[np.uint8]) -> bytes:
    """Return a knee (H, W) without a heatmap, as grey JPEG."""
    return _encoded(Image.fromarray(crop), "JPEG", quality=82)


def layer_png(heatmap: NDArray[np.float32]) -> bytes:
    """Return a heatmap (h, w) alone, coloured and transparent, as a small PNG to be stretched over the knee."""
    image = Image.fromarray(heat_levels(heatmap)).resize((_LAYER, _LAYER), Image.Resampling.BILINEAR)
    image.putpalette(colours().tobytes())
    return _encoded(image, "PNG", compress_level=1, transparency=(opacities() * 255).round().astype(np.uint8).tobytes())


def data_uri(data: bytes, *, kind: str) -> str:
    """Return an encoded image (``kind``: png, jpeg) as the address of itself, for a page that stands alone."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()
