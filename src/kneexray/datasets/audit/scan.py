"""What an audit remembers of one image: its hashes, its shape, and the points by which a copy of it is known again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneexray.datasets.audit.items import Item
from kneexray.errors import MissingExtraError, ReadError
from kneexray.read import read_bytes
from kneexray.read.sniff import SNIFF_BYTES, sniff

SIDE = 288
"""Images are compared at the size of a square of this many pixels: what a copy loses below that is not missed."""
POINTS = 160
"""The strongest points of an image that are kept."""
_WINDOW = 33
_CONTRAST = 40.0
_NOISE = 2.0
_CONSTANT = 0.02
_MODEL_SIDE = 32
_NEGATIVE = 0.35


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Distinctive points of an image (SIFT; Lowe, Int J Comput Vis 2004;60:91): ``frame`` (N, 4) is x, y, size in pixels of the view and
    angle in degrees.

    ``descriptor`` is (N, 128) uint8. ``shape`` is the (H, W) of the view they lie in.
    """

    frame: NDArray[np.float32]
    descriptor: NDArray[np.uint8]
    shape: tuple[int, int]


NO_POINTS = Points(np.zeros((0, 4), np.float32), np.zeros((0, 128), np.uint8), (1, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One image as an audit sees it. ``problem`` says why it could not be read; the rest is then empty.

    ``spread`` is the distance between its 1st and 99th percentile, in [0, 1]; ``inverted`` says that it looks like a negative (bone dark).
    """

    sha256: str = ""
    pixel_sha256: str = ""
    height: int = 0
    width: int = 0
    kind: str = ""
    n_bytes: int = 0
    spread: float = 0.0
    inverted: bool = False
    points: Points = field(default=NO_POINTS)
    problem: str = ""

    @property
    def constant(self) -> bool:
        """Whether the image holds (almost) one value only."""
        return not self.problem and self.spread < _CONSTANT


def scan(item: Item) -> Scan:
    """Return what the image of ``item`` is like; never raises for bad content."""
    try:
        data = item.source.load()
    except ReadError as error:
        return Scan(problem=error.detail)
    sha256, kind = hashlib.sha256(data).hexdigest(), sniff(data[:SNIFF_BYTES]) or "unknown"
    study = read_bytes(data, source=item.file, limits=item.source.limits)
    if len(study.radiographs) != 1:
        problem = study.rejections[0].detail if study.rejections else f"holds {len(study.radiographs)} images, one is needed"
        return Scan(sha256=sha256, kind=kind, n_bytes=len(data), problem=problem)
    pixels = study.radiographs[0].pixels
    low, high = np.percentile(pixels[::2, ::2], (1, 99))
    return Scan(
        sha256=sha256,
        pixel_sha256=_pixel_hash(pixels),
        height=pixels.shape[0],
        width=pixels.shape[1],
        kind=kind,
        n_bytes=len(data),
        spread=float(high - low),
        inverted=looks_inverted(pixels),
        points=find_points(pixels) if high - low >= _CONSTANT else NO_POINTS,
    )


def resized(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``pixels`` (H, W) in [0, 1] at the size that images are compared at, (h, w) in [0, 255]."""
    cv2 = opencv()
    height, width = pixels.shape
    scale = SIDE / np.sqrt(height * width)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    image = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return np.asarray(image * np.float32(255), dtype=np.float32)


def view(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a resized image with one local brightness and contrast everywhere, (h, w) uint8: what no change of exposure alters."""
    cv2 = opencv()
    detail = image - cv2.blur(image, (_WINDOW, _WINDOW))
    deviation = np.sqrt(np.maximum(cv2.blur(detail * detail, (_WINDOW, _WINDOW)), 0)) + _NOISE
    return np.asarray(np.clip(128 + _CONTRAST * detail / deviation, 0, 255).astype(np.uint8))


def find_points(pixels: NDArray[np.float32]) -> Points:
    """Return the strongest points of an image (H, W) in [0, 1]."""
    image = view(resized(pixels))
    found, descriptor = opencv().SIFT_create(nfeatures=POINTS, contrastThreshold=0.01, edgeThreshold=10).detectAndCompute(image, None)
    if descriptor is None:
        return Points(NO_POINTS.frame, NO_POINTS.descriptor, image.shape)
    frame = np.array([(*p.pt, p.size, p.angle) for p in found], np.float32)
    return Points(frame[:POINTS], descriptor[:POINTS].astype(np.uint8), image.shape)


def looks_inverted(pixels: NDArray[np.float32]) -> bool:
    """Say whether an image (H, W) looks like the negative of a knee: it resembles the mean knee with its sign turned.

    Of 150 negatives each, 98 % of single-knee crops and 75 % of films with two knees are told; no positive film was taken for one.
    """
    small = opencv().resize(np.ascontiguousarray(pixels), (_MODEL_SIDE, _MODEL_SIDE), interpolation=opencv().INTER_AREA)
    spread = float(small.std())
    return spread > 0 and float(((small - small.mean()) * _mean_knee()).mean()) / spread < -_NEGATIVE


@cache
def _mean_knee() -> NDArray[np.float32]:
    """Return the mean of the drawn knees of all grades and their mirror images, standardised: (32, 32)."""
    from kneexray.synthetic import draw_knee

    knees = np.mean([draw_knee(grade, size=_MODEL_SIDE) for grade in range(5)], axis=0)
    knees = knees + knees[:, ::-1]
    return np.asarray((knees - knees.mean()) / knees.std(), dtype=np.float32)


def _pixel_hash(pixels: NDArray[np.float32]) -> str:
    """Return a hash of what is seen, whatever file format holds it: shape, and values at 16 bits."""
    values = np.rint(pixels * 65535).astype("<u2")
    return hashlib.sha256(f"{pixels.shape}".encode() + values.tobytes()).hexdigest()


def opencv() -> Any:
    """Return OpenCV; raises :class:`~kneexray.errors.MissingExtraError` where it is not installed."""
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("finding near-duplicates", "data") from None
    return cv2
