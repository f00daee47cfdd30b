"""Ordinary images, through Pillow.

Each format's own Pillow class is called, instead of ``Image.open``: that skips trying the other formats, and Pillow's
global bomb limit with its warning, in favour of :class:`~kneexray.read.limits.Limits`, which is checked on the header. What
Pillow can still warn of is damaged metadata in an image that it reads.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kneexray.errors import ReadError
from kneexray.read.codestream import Codestream, decode, inspect
from kneexray.read.limits import Limits
from kneexray.read.photograph import is_photograph
from kneexray.read.scaling import depth_for, luma, to_unit
from kneexray.read.tiff import check_directories
from kneexray.read.tiff_wide import needs_care, wide_pages
from kneexray.types import OWN, Radiograph, Rejection, Study

if TYPE_CHECKING:
    from PIL.Image import Image

_CLASSES: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
        "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
        "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
        "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
        "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    }
)
_ENDINGS: MappingProxyType[str, bytes] = MappingProxyType({"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"})
# Tags of TIFF 6.0 and EXIF 2.32.
_NEW_SUBFILE_TYPE, _PHOTOMETRIC, _ORIENTATION = 254, 262, 274
_WHITE_IS_ZERO = 0


def read_image(data: bytes, kind: str, *, source: str, limits: Limits) -> Study:
    """Return the study of an image file of format ``kind`` (a name of :data:`~kneexray.read.sniff.IMAGES`).

    Each page of a TIFF is a radiograph with its page as ``frame``; reduced copies (thumbnails, pyramids) are left out. Of an
    animation the first picture is read. Colour becomes luma, transparency becomes black, EXIF orientation is applied.
    Never raises for bad content: pages before one with damaged pixels are kept, the rest is a rejection.
    """
    radiographs: list[Radiograph] = []
    page = 0
    try:
        if kind == "TIFF":
            check_directories(data)
            if needs_care(data):
                for wide in wide_pages(data, limits):
                    page = wide.index
                    pixels = _turned(wide.pixels, wide.orientation)
                    radiographs.append(Radiograph(pixels, source, frame=page or None))
                return Study(source, tuple(radiographs) if len(radiographs) < 2 else tuple(_numbered(radiographs)))
        if kind == "JPEG" and (stream := _codestream(data, limits)) is not None:
            return Study(source, (Radiograph(_decoded(data, stream), source),))
        image = _open(data, kind)
        if kind == "PNG" and image.info.get("Software") == OWN:
            raise ReadError("unsupported", f"the picture was made by {OWN}; give the film that it was made from")
        pages = _pages(image, limits)
        for page in pages:
            pixels, warnings = _page_pixels(image, data, kind, page)
            frame = page if len(pages) > 1 else None
            radiographs.append(Radiograph(pixels, source, frame=frame, warnings=warnings, photograph=is_photograph(image)))
    except ImportError:  # a broken installation, not a broken file
        raise
    except Exception as error:  # a damaged file makes Pillow raise nearly anything: SyntaxError, struct.error, EOFError, ...
        problem = _explained(error, data, kind)
        rejection = Rejection(source, problem.reason, f"page {page}: {problem.detail}" if radiographs else problem.detail)
        return Study(source, tuple(radiographs), (rejection,))
    return Study(source, tuple(radiographs))


def _numbered(radiographs: list[Radiograph]) -> Iterator[Radiograph]:
    """Give the first of several pages its number as well."""
    for radiograph in radiographs:
        yield radiograph if radiograph.frame is not None else replace(radiograph, frame=0)


def _codestream(data: bytes, limits: Limits) -> Codestream | None:
    """Return the header of JPEG-LS, and of JPEG of more than 8 bits or without loss, which Pillow does not read; None for the rest."""
    try:
        stream = inspect(data)
    except ReadError:  # Pillow reads on where it can, and says what is wrong where it cannot
        return None
    if stream is None or (stream.family == "JPEG" and stream.precision == 8 and not stream.lossless):
        return None
    if stream.rows * stream.columns > limits.max_pixels:
        size = f"{stream.columns} x {stream.rows}"
        raise ReadError("too_large", f"the image is {size} pixels, and {limits.max_pixels} in all are allowed; raise max_pixels")
    return stream


def _decoded(data: bytes, stream: Codestream) -> NDArray[np.float32]:
    values = decode(data, stream, photometric="YBR_FULL")
    values = luma(values) if values.ndim == 3 else values
    if not 8 < stream.precision < 16:
        return to_unit(values)
    return np.asarray(values / np.float32((1 << stream.precision) - 1), np.float32)  # such a depth was set on purpose


def _open(data: bytes, kind: str) -> Image:
    module, name = _CLASSES[kind]
    image: Image = getattr(importlib.import_module(module), name)(io.BytesIO(data))
    return image


def _pages(image: Image, limits: Limits) -> list[int]:
    """Return the pages to read, having checked all of them against ``limits`` by their headers."""
    total = _checked_area(image, 0, limits)
    if image.format != "TIFF":
        return [0]
    pages = [0] if not _is_reduced_copy(image) else []
    for index in _further_pages(image):
        if index >= limits.max_frames:
            raise ReadError("too_large", f"the TIFF has more than {limits.max_frames} pages; split it, or raise max_frames")
        total = _checked_area(image, total, limits)
        if not _is_reduced_copy(image):
            pages.append(index)
    image.seek(0)
    return pages or [0]


def _further_pages(image: Image) -> Iterator[int]:
    index = 1
    while True:
        try:
            image.seek(index)
        except EOFError:
            return
        yield index
        index += 1


def _checked_area(image: Image, before: int, limits: Limits) -> int:
    width, height = image.size
    if width < 1 or height < 1:
        raise ReadError("corrupt", f"the image claims to be {width} x {height} pixels")
    total = before + width * height
    if total > limits.max_pixels:
        raise ReadError(
            "too_large",
            f"the image is {width} x {height} pixels, and {limits.max_pixels} in all are allowed; raise max_pixels",
        )
    return total


def _is_reduced_copy(image: Image) -> bool:
    return bool(int(getattr(image, "tag_v2", {}).get(_NEW_SUBFILE_TYPE, 0)) & 1)


def _page_pixels(image: Image, data: bytes, kind: str, index: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return page ``index`` of an opened ``image``, and what was odd about it."""
    warnings: tuple[str, ...] = ()
    if kind == "TIFF":
        image.seek(index)
    elif (pictures := getattr(image, "n_frames", 1)) > 1:
        warnings = (f"the {kind} is an animation of {pictures} pictures; only the first is read",)
    wide = _wide_colour(image, data, kind)
    if wide is not None:
        pixels = to_unit(wide)
        orientation = _exif_orientation(image)
    else:
        image.load()
        pixels = _grey(image)
        orientation = 1 if kind == "TIFF" else _exif_orientation(image)  # Pillow turns TIFFs itself
    return (_turned(pixels, orientation) if orientation != 1 else pixels), warnings


def _grey(image: Image) -> NDArray[np.float32]:
    """Return a loaded ``image`` of any mode as (H, W) float32 in [0, 1]."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO and values.dtype.kind == "u":
            values = np.subtract((1 << depth_for(float(values.max()))) - 1, values, dtype=np.int32)  # Pillow inverts 8 bit only
        return to_unit(values)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        grey = to_unit(np.asarray(image.convert("L")))
        return grey if alpha.min() == 255 else grey * to_unit(alpha)
    if image.mode in ("CMYK", "HSV"):
        image = image.convert("RGB")
    if image.mode != "L":
        image = image.convert("L")  # Rec. 601 in fixed point: exact where R = G = B
    return to_unit(np.asarray(image))


def _wide_colour(image: Image, data: bytes, kind: str) -> NDArray[np.uint32] | None:
    """Return the luma of 16-bit colour in PNG, or None for anything else: Pillow keeps the upper 8 bits only, nothing of a 12-bit film."""
    arguments = image.tile[0][3] if image.tile else None  # type: ignore[attr-defined]
    raw_mode = str(arguments[0] if isinstance(arguments, tuple) else arguments)
    if kind != "PNG" or image.mode not in ("RGB", "RGBA", "RGBX", "LA") or ";16" not in raw_mode:
        return None
    import imagecodecs

    values = np.asarray(imagecodecs.png_decode(data))
    if values.ndim != 3 or values.dtype != np.uint16 or values.shape[:2] != image.size[::-1]:
        return None
    grey = values[..., 0].astype(np.uint32) if image.mode == "LA" else luma(values)
    if image.mode in ("RGBA", "LA"):
        grey = grey * values[..., -1].astype(np.uint32) // 65535
    return grey


def _exif_orientation(image: Image) -> int:
    if "exif" not in image.info and "Raw profile type exif" not in image.info:
        return 1
    return int(image.getexif().get(_ORIENTATION, 1) or 1)


def _turned(pixels: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Return ``pixels`` upright: EXIF 2.32 says where row 0 and column 0 of the stored picture belong; unknown values do nothing."""
    turned = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: pixels.T[:, ::-1],
        7: pixels[::-1, ::-1].T,
        8: pixels.T[::-1],
    }.get(orientation, pixels)
    return np.ascontiguousarray(turned)


def _explained(error: Exception, data: bytes, kind: str) -> ReadError:
    """Return what Pillow's ``error`` means for the person who gave the file."""
    from PIL.Image import DecompressionBombError

    if isinstance(error, ReadError):
        return error
    if isinstance(error, MemoryError | DecompressionBombError):
        return ReadError("too_large", f"the {kind} is too large to decode in this machine's memory; reduce it")
    said = str(error) or type(error).__name__
    ending = _ENDINGS.get(kind)
    cut = (ending is not None and ending not in data) or "truncated" in said.lower()
    cut = cut or (kind == "WebP" and len(data) < 8 + int.from_bytes(data[4:8], "little"))
    cut = cut or (kind == "BMP" and len(data) < int.from_bytes(data[2:6], "little"))
    if cut:
        return ReadError("truncated", f"the {kind} ends after {len(data)} bytes, before its image does ({said}); copy or export it again")
    if "unknown pixel mode" in said or "unsupported" in said.lower():
        return ReadError("unsupported", f"a {kind} of this kind is not read ({said}); save it as PNG with 8 or 16 bits")
    return ReadError("corrupt", f"the {kind} cannot be decoded ({said}); export it again")
