"""Side markers on a film: the letters R and L, of lead or printed, and where they are.

What is brighter or darker than its surroundings and of a letter's size is cut out, and a small network (made by
:mod:`kneexray.makers.side_marker.train`) says which letter it is, if any. A letter inside a word does not count, nor does one of which
the network is not certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from kneexray.inference.session import open_engine
from kneexray.roi.blobs import Blobs, blobs
from kneexray.types import Box

Letter = Literal["R", "L", "mirrored"]
LETTERS: tuple[Letter, ...] = get_args(Letter)
"""What the network tells apart, after "no letter"; ``mirrored`` is an R or L seen from behind."""
NETWORK = Path(str(resources.files("kneexray"))) / "models" / "side-marker" / "model.onnx"
PATCH = 24
"""Side of what the network sees, in pixels."""
CERTAIN = 0.98
"""Least probability of a letter that is believed (docs/localiser.md says what it costs and what it spares)."""
LEAST_SPREAD = 0.25
"""Least range of grey values of a letter and its ground: fainter ones are the texture of bone. On knee films to learn from it was 0.33."""
SIDE = 1100
"""Longest side of the film as letters are looked for, about, in pixels: it is made smaller by a whole number."""
WINDOW = 24
"""Half the side of the square that a pixel is compared with, in pixels."""
CONTRASTS = (0.08, 0.25)
"""By how much a letter's pixels differ from the mean around them; the second parts what the first runs together."""
HEIGHTS, RATIOS, FILLED = (9, 80), (0.3, 1.35), (0.12, 0.88)
"""Of a letter, or of its plate: the height in pixels, the width over the height, and the share of its box that it fills."""
MARGIN = 0.25
"""How much the network sees around it, as a share of the longer side."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A letter on a film, its box (x0, y0, x1, y1) in pixels of the film, and how probable it is."""

    letter: Letter
    box: Box
    score: float

    @property
    def x(self) -> float:
        """The middle's place across the film, in pixels."""
        return (self.box[0] + self.box[2]) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A thing of a letter's size: its ``box`` in film pixels, and what the network sees of it, ``patch`` (PATCH, PATCH).

    ``part`` is its box where it was found, on the smaller film, and ``parts`` are all that were found with it.
    """

    box: tuple[int, int, int, int]
    patch: NDArray[np.float32]
    part: tuple[int, int, int, int]
    parts: Blobs


def find_markers(pixels: NDArray[np.float32], *, least: float = CERTAIN, network: Path = NETWORK) -> list[Marker]:
    """Return the letters of probability ``least`` and more on a film (H, W) in [0, 1], from its left to its right."""
    times = max(1, round(max(pixels.shape) / SIDE))
    found = _read(pixels, times, least, network)
    return found if found or times == 1 else _read(pixels, 1, least, network)  # small plates are lost on the smaller film


def _read(pixels: NDArray[np.float32], times: int, least: float, network: Path) -> list[Marker]:
    """Return the letters on a film made smaller ``times``."""
    found = candidates(pixels, times=times)
    if not found:
        return []
    patches = np.stack([candidate.patch for candidate in found])[:, None]
    scores = _engine(network).run(None, {"image": patches})[0][:, 1:]  # (N, letters)
    markers = []
    for i in np.flatnonzero(scores.max(axis=1) >= least).tolist():
        x0, y0, x1, y1 = found[i].box
        low, high = np.percentile(pixels[y0:y1, x0:x1], (5, 95)).tolist()
        if high - low >= LEAST_SPREAD and not _in_word(found[i].part, found[i].parts):
            markers.append(Marker(LETTERS[int(scores[i].argmax())], found[i].box, float(scores[i].max())))
    return sorted(_distinct(markers), key=lambda marker: marker.x)


def candidates(pixels: NDArray[np.float32], *, times: int | None = None) -> list[Candidate]:
    """Return what is brighter or darker than its surroundings on a film (H, W) in [0, 1], of a letter's size and not cut by the edge.

    The film is made smaller ``times``, by default until its longer side is about :data:`SIDE`.
    """
    times = times or max(1, round(max(pixels.shape) / SIDE))
    grey = np.ascontiguousarray(_thinned(pixels, times))
    image = Image.fromarray(grey)
    around = Image.fromarray((grey * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(WINDOW))
    difference = grey - np.asarray(around, np.float32) / 255
    height, width = grey.shape
    found: dict[tuple[int, ...], Candidate] = {}
    for sign in (1, -1):
        for contrast in CONTRASTS:
            parts = blobs(sign * difference > contrast)
            for x0, y0, x1, y1 in parts.boxes[_letter_like(parts)].tolist():
                if (sign, x0, y0, x1, y1) not in found and x0 > 0 and y0 > 0 and x1 < width and y1 < height:
                    box = (x0 * times, y0 * times, x1 * times, y1 * times)
                    patch = patch_of(image, (x0, y0, x1, y1), sign)
                    found[sign, x0, y0, x1, y1] = Candidate(box, patch, (x0, y0, x1, y1), parts)
    return list(found.values())


def _thinned(pixels: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """Return a film made smaller ``times`` by the mean of two pixels of each square: that of all would take longer than the rest."""
    if times == 1:
        return pixels
    height, width = (length // times * times for length in pixels.shape)
    middle = times // 2
    thinned: NDArray[np.float32] = (pixels[:height:times, :width:times] + pixels[middle:height:times, middle:width:times]) / np.float32(2)
    return thinned


def patch_of(image: Image.Image, box: Sequence[int], sign: int) -> NDArray[np.float32]:
    """Return what the network sees of the ``box`` on an image of mode F: (PATCH, PATCH), bright letter (``sign`` 1) or dark one (-1)."""
    x0, y0, x1, y1 = box
    half = max(y1 - y0, x1 - x0) * (0.5 + MARGIN)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    part = image.crop((round(x - half), round(y - half), round(x + half), round(y + half)))
    patch = sign * np.asarray(part.resize((PATCH, PATCH), Image.Resampling.BILINEAR), np.float32)
    patch -= np.median(patch)
    scaled: NDArray[np.float32] = patch / (np.abs(patch).max() + 1e-3)
    return scaled


def _letter_like(parts: Blobs) -> NDArray[np.bool_]:
    """Say for each part whether it may be a letter or its plate."""
    wide, high = parts.boxes[:, 2] - parts.boxes[:, 0], parts.boxes[:, 3] - parts.boxes[:, 1]
    ratio, filled = wide / high, parts.areas / (wide * high)
    fits = np.ones(len(high), np.bool_)
    for value, (low, top) in ((high, HEIGHTS), (ratio, RATIOS), (filled, FILLED)):
        fits &= (value >= low) & (value <= top)
    return fits


def _in_word(box: tuple[int, int, int, int], parts: Blobs) -> bool:
    """Say whether letters as high as this one stand beside it: any at its left, or more than one (``RT``) at its right.

    Something wider than a letter counts as several that touch.
    """
    x0, y0, x1, y1 = box
    high = y1 - y0
    level = parts.boxes[(np.abs(parts.boxes[:, 1] - y0) < 0.25 * high) & (np.abs(parts.boxes[:, 3] - y1) < 0.25 * high)]
    left = (level[:, 2] <= x0 + 0.1 * high) & (level[:, 2] > x0 - 0.7 * high)
    right = (level[:, 0] >= x1 - 0.1 * high) & (level[:, 0] < x1 + 1.5 * high)
    return bool(left.any() or right.sum() > 1 or (right & (level[:, 2] - level[:, 0] > RATIOS[1] * high)).any())


def _distinct(markers: list[Marker]) -> list[Marker]:
    """Return ``markers`` without those that lie on a surer one."""
    kept: list[Marker] = []
    for marker in sorted(markers, key=lambda marker: -marker.score):
        if not any(lie_together(marker.box, other.box) for other in kept):
            kept.append(marker)
    return kept


def lie_together(a: Sequence[float], b: Sequence[float]) -> bool:
    """Say whether two boxes have nearly the same middle."""
    apart = abs(a[0] + a[2] - b[0] - b[2]) / 2 + abs(a[1] + a[3] - b[1] - b[3]) / 2
    return apart < 0.6 * max(a[3] - a[1], b[3] - b[1])


@cache
def _engine(network: Path) -> Any:
    return open_engine(network, threads=1)
