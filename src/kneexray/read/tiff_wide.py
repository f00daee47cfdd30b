"""TIFFs that Pillow reads wrongly or not at all, through tifffile: signed, floating point, wide colour, planes, newer compressions."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kneexray.errors import ReadError
from kneexray.read.limits import Limits
from kneexray.read.scaling import depth_for, luma, to_unit

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3  # Sample Format
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # Photometric Interpretation
_PILLOW = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 32771, 34925, 50000, 50001})  # compressions that Pillow reads
_MOST_SAMPLES = 4
_REMEDY = "save it as PNG with 8 or 16 bits"


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its place in the file, (H, W) float32 in [0, 1], and its Orientation tag, not yet applied."""

    index: int
    pixels: NDArray[np.float32]
    orientation: int


def needs_care(data: bytes) -> bool:
    """Say whether any page is of a kind that Pillow does not read rightly; no for what tifffile cannot even open."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            return any(_needs_care(page) for page in _pages(tiff))
    except Exception:  # damaged: Pillow's reader says how
        return False


def wide_pages(data: bytes, limits: Limits) -> Iterator[Page]:
    """Yield the pages that are no reduced copies; raises :class:`ReadError`."""
    import tifffile

    total = 0
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        for index, page in enumerate(_pages(tiff)):
            if index >= limits.max_frames:
                raise ReadError("too_large", f"the TIFF has more than {limits.max_frames} pages; split it, or raise max_frames")
            total += page.imagewidth * page.imagelength
            if total > limits.max_pixels:
                size = f"{page.imagewidth} x {page.imagelength}"
                raise ReadError("too_large", f"the image is {size} pixels, and {limits.max_pixels} in all are allowed; raise max_pixels")
            if index and page.subfiletype & 1:
                continue
            orientation = page.tags.get("Orientation")
            yield Page(index, _pixels(page, len(data)), int(orientation.value) if orientation else 1)


def _pages(tiff: TiffFile) -> Iterator[TiffPage]:
    for page in tiff.pages:
        yield page.aspage()


def _needs_care(page: TiffPage) -> bool:
    bits, samples, form = page.bitspersample, page.samplesperpixel, int(page.sampleformat or _UNSIGNED)
    if int(page.compression) not in _PILLOW:
        return True
    if form != _UNSIGNED:
        return not (form == _FLOAT and bits == 32 and samples == 1)
    return (bits > 8 and samples > 1) or bits > 16


def _pixels(page: TiffPage, size: int) -> NDArray[np.float32]:
    photometric, samples = int(page.photometric), page.samplesperpixel
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or samples > _MOST_SAMPLES or page.imagedepth > 1:
        raise ReadError("unsupported", f"a TIFF of {samples} samples and photometric {photometric} is not read; {_REMEDY}")
    if any(start + count > size for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)):
        raise ReadError("truncated", f"the TIFF ends after {size} bytes, before its image does; copy or export it again")
    try:
        values = np.asarray(page.asarray())
    except MemoryError:
        raise
    except Exception as error:  # tifffile and the codecs have no error of their own
        known = any(word in str(error).lower() for word in ("support", "requires", "not available", "not implemented"))
        reason, remedy = ("unsupported", _REMEDY) if known or isinstance(error, NotImplementedError) else ("corrupt", "export it again")
        raise ReadError(reason, f"the TIFF of compression {int(page.compression)} cannot be decoded ({error}); {remedy}") from error
    if values.dtype.kind not in "iuf":
        raise ReadError("unsupported", f"a TIFF of {values.dtype} values is not read; {_REMEDY}")
    if samples > 1 and values.ndim == 3 and page.axes.startswith("S"):
        values = np.moveaxis(values, 0, -1)
    if values.shape[:2] != (page.imagelength, page.imagewidth) or values.ndim != 2 + (samples > 1):
        raise ReadError("unsupported", f"a TIFF page of shape {page.shape} is not read; {_REMEDY}")
    return _grey(values, photometric=photometric)


def _grey(values: NDArray[Any], *, photometric: int) -> NDArray[np.float32]:
    """Return (H, W) or (H, W, samples) ``values`` as (H, W) in [0, 1]; a last sample beyond grey or RGB is transparency."""
    if values.ndim == 2:
        if photometric == _WHITE_IS_ZERO and values.dtype.kind == "u":
            values = np.subtract((1 << depth_for(float(values.max()))) - 1, values.astype(np.float64))
        grey = to_unit(values)
        return np.asarray(1 - grey) if photometric == _WHITE_IS_ZERO and values.dtype.kind == "i" else grey
    colours = 3 if photometric == _RGB else 1
    colour = values[..., :colours]
    if colours == 1:
        flat: NDArray[Any] = colour[..., 0]
    elif values.dtype in (np.uint8, np.uint16):
        flat = luma(colour)
    else:
        flat = colour.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    grey = _grey(flat, photometric=photometric if colours == 1 else _BLACK_IS_ZERO)
    if values.shape[-1] == colours:
        return grey
    alpha = values[..., colours].astype(np.float64)
    if values.dtype.kind != "f":
        alpha /= np.iinfo(values.dtype).max
    return np.asarray(grey * np.clip(alpha, 0, 1), np.float32)
