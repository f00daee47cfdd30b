"""Did a camera take an image? Radiographs are grey, but for marks, burnt-in colours and the even tone of a scanned film."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

# Tags of EXIF 2.32 that only cameras write: exposure time, aperture, sensitivity, flash, focal length.
_EXIF, _CAMERA = 0x8769, frozenset({0x829A, 0x829D, 0x8827, 0x9209, 0x920A})
_LOOKED_AT = 256
"""Longer side in pixels to which an image is reduced before its colours are looked at."""
_COLOURED, _MOST_COLOURED = 24, 0.3
"""Levels of 255 by which the channels of a coloured pixel differ, and the largest share of such pixels on a radiograph."""
_TINGED, _MOST_TINGED = 2, 0.5
"""The same of pixels that are not quite grey, on an image of a camera's size."""
_SHAPES, _CAMERA_PIXELS = (4 / 3, 3 / 2, 16 / 9), 960
"""Longer side over shorter of pictures as cameras and phones frame them, and the least longer side."""
_UNEVEN, _MOST_UNEVEN = 2.0, 0.15
"""Levels by which a pixel's colour differs from that of others as bright, and the largest share of such pixels on a tinged radiograph."""
_BRIGHTNESSES = 16


def is_photograph(image: Image) -> bool:
    """Say whether a camera took the loaded ``image``, by its EXIF data or its colours.

    Colours tell where they are strong and many; where there is a tinge all over an image of a camera's shape; and where that tinge is
    another at one place than at another as bright: lamps, glare and moire do that, a tone given to the whole film does not.
    """
    if "exif" in image.info and _CAMERA & image.getexif().get_ifd(_EXIF).keys():
        return True
    if image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I"):
        return False
    from PIL import ImageChops

    colour = image if image.mode == "RGB" else image.convert("RGBA").convert("RGB")
    reduction = max(1, max(image.size) // _LOOKED_AT)
    small = colour.reduce(reduction)
    red, green, blue = small.split()
    brightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    spread = ImageChops.subtract(brightest, darkest).histogram()  # how many pixels' channels differ by 0, 1, ... 255 levels
    if sum(spread[_COLOURED + 1 :]) > _MOST_COLOURED * sum(spread):
        return True
    if sum(spread[_TINGED:]) <= _MOST_TINGED * sum(spread):
        return False
    # below twice the size that is looked at the noise of JPEG colours is not averaged away
    return _has_camera_shape(image) or (reduction > 1 and _uneven_share(small) > _MOST_UNEVEN)


def _has_camera_shape(image: Image) -> bool:
    longer, shorter = max(image.size), min(image.size)
    return longer >= _CAMERA_PIXELS and any(abs(longer / shorter - shape) < 0.005 * shape for shape in _SHAPES)


def _uneven_share(image: Image) -> float:
    """Return the share of the pixels of a small RGB ``image`` whose colour is not that of most pixels as bright."""
    levels = np.asarray(image, dtype=np.float32).reshape(-1, 3)
    luma = levels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)  # (N,)
    colours = levels[:, ::2] - luma[:, None]  # (N, 2): red and blue
    step = (luma * (_BRIGHTNESSES / 256)).astype(np.intp)
    for which in range(_BRIGHTNESSES):
        same = step == which
        if same.any():
            colours[same] -= np.median(colours[same], axis=0)
    return float((np.abs(colours).max(axis=1) > _UNEVEN).mean())
