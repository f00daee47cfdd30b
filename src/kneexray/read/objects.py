"""Films that come as Python objects: paths, bytes, files, Pillow images, numpy arrays, pydicom data sets."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneexray.read.limits import DEFAULT_LIMITS
from kneexray.read.reader import read_bytes
from kneexray.read.source import Source
from kneexray.read.sources import find_sources
from kneexray.types import Radiograph, Rejection, Study

_KINDS = "a path, bytes, a binary file, a Pillow image, a numpy array, a pydicom data set, or an iterable of these"


@dataclass(frozen=True, slots=True)
class Given:
    """A film that is there already, under a ``name`` of its own."""

    name: str
    study: Study

    def read(self) -> Study:
        """Return the study."""
        return self.study


def sources_of(films: Any) -> Iterator[Source | Given]:
    """Return what ``films`` stand for, one by one. Raises TypeError, before the first, for one of a kind that is not read."""
    listed = [films] if _is_one(films) else list(films) if isinstance(films, Iterable) else None
    wrong = films if listed is None else next((film for film in listed if not _is_one(film)), None)
    if listed is None or wrong is not None:
        raise TypeError(f"a film is {_KINDS}, not {type(wrong).__name__}")
    for film in listed:
        if isinstance(film, np.ndarray):
            check_array(film)
    return _sources(listed)


def _sources(films: list[Any]) -> Iterator[Source | Given]:
    paths: list[str | Path] = []
    for number, film in enumerate(films):
        if isinstance(film, str | Path):
            paths.append(film)
            continue
        yield from find_sources(paths) if paths else ()
        paths = []
        yield _given(film, f"{type(film).__name__.lower()}-{number}")
    yield from find_sources(paths) if paths else ()


def _is_one(film: Any) -> bool:
    return (
        isinstance(film, str | Path | bytes | bytearray | memoryview | np.ndarray | Image.Image)
        or hasattr(film, "read")
        or _is_dataset(film)
    )


def _is_dataset(film: Any) -> bool:
    return (hasattr(film, "save_as") and hasattr(film, "SOPClassUID")) or type(film).__name__ in ("Dataset", "FileDataset")


def _given(film: Any, name: str) -> Given:
    if isinstance(film, np.ndarray):
        return Given(name, _study(array_pixels(film), name))
    if isinstance(film, Image.Image):
        sink = io.BytesIO()
        plain = film if film.mode in ("1", "L", "I;16", "RGB", "RGBA", "P", "LA") else film.convert("F")
        if plain.mode == "F":
            return Given(name, _study(array_pixels(np.asarray(plain)), name))
        plain.save(sink, "PNG")
        return Given(name, read_bytes(sink.getvalue(), source=name, limits=DEFAULT_LIMITS))
    if _is_dataset(film):
        sink = io.BytesIO()
        film.save_as(sink, enforce_file_format=True)
        return Given(name, read_bytes(sink.getvalue(), source=name, limits=DEFAULT_LIMITS))
    if hasattr(film, "read"):
        data = film.read()
        if not isinstance(data, bytes):
            raise TypeError(f"{name}: the file is open for text; open it with mode 'rb'")
        return Given(str(getattr(film, "name", name)), read_bytes(data, source=str(getattr(film, "name", name)), limits=DEFAULT_LIMITS))
    return Given(name, read_bytes(bytes(film), source=name, limits=DEFAULT_LIMITS))


def check_array(array: NDArray[Any]) -> None:
    """Raise TypeError for an array that is no image of greys or colours."""
    if array.dtype.kind not in "uif" or array.dtype == bool:
        raise TypeError(f"an array of {array.dtype} is no image; give uint8, uint16 or floats")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))) or 0 in array.shape:
        raise TypeError(f"an array of shape {array.shape} is no image; give (H, W) or (H, W, 3)")


def array_pixels(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return an array as pixels (H, W) in [0, 1], bright bone as it is.

    Unsigned integers are scaled by their type's range, or by the bits that they use where these are 10, 12 or 14 of 16; floats in [0, 1]
    are taken as they are; other floats, and signed integers, are stretched from their least to their greatest value.
    """
    given = array.astype(np.float64)
    if given.ndim == 3:
        given = given[..., 0] if given.shape[2] == 1 else given[..., :3] @ np.array([0.299, 0.587, 0.114])
    finite = np.isfinite(given)
    given = np.where(finite, given, given[finite].min() if finite.any() else 0.0)
    if array.dtype == np.uint8:
        return (given / 255).astype(np.float32)
    low, high = float(given.min()), float(given.max())
    if array.dtype.kind == "u":
        bits = max(8, int(high).bit_length())
        full = next((full for full in (8, 10, 12, 14, 16) if bits <= full), array.dtype.itemsize * 8)
        return (given / ((1 << full) - 1)).astype(np.float32)
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return given.astype(np.float32)
    return ((given - low) / (high - low or 1.0)).astype(np.float32)


def _study(pixels: NDArray[np.float32], name: str) -> Study:
    if pixels.size > DEFAULT_LIMITS.max_pixels:
        return Study(name, rejections=(Rejection(name, "too_large", f"the array has {pixels.size} pixels; reduce it"),))
    return Study(name, (Radiograph(pixels, name),))
