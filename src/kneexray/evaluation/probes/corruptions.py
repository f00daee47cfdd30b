"""What a radiograph may suffer on its way to a model, and what a model must not live on: changes of the film's pixels.

Each is a function of pixels (H, W) float32 in [0, 1], a strength, and a random generator, to pixels of the same kind. Lengths are
shares of the longer side, that of a crop's box.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneexray.geometry import JOINT_LINE, resample

Pixels = NDArray[np.float32]

"""The height of the joint line in a crop's box: see :class:`kneexray.types.Knee`."""

_SURROUNDINGS = 0.03  # thickness of the strips that a masked joint is filled in from


@dataclass(frozen=True, slots=True)
class Corruption:
    """A change at several strengths, ascending; at the strength ``identity`` it changes nothing. Without ``unit`` it is done or not."""

    title: str
    unit: str
    strengths: tuple[float, ...]
    identity: float
    apply: Callable[[Pixels, float, np.random.Generator], Pixels]


def mask_joint(pixels: Pixels, height: float, generator: np.random.Generator) -> Pixels:
    """Replace the band of ``height`` about the joint line by a smooth passage between the bone above and the bone below.

    What fills the band is computed from outside it alone, and shows no line that could pass for a joint.
    """
    rows, columns = pixels.shape
    side = max(rows, columns)
    middle = rows / 2 + (JOINT_LINE - 0.5) * side
    top, bottom = max(1, round(middle - height * side / 2)), min(rows - 1, round(middle + height * side / 2))
    if top >= bottom:
        return pixels
    strip = max(1, round(_SURROUNDINGS * side))
    above, below = (
        blurred(edge.mean(axis=0, keepdims=True), strip) for edge in (pixels[max(0, top - strip) : top], pixels[bottom:][:strip])
    )
    passage = np.linspace(0, 1, bottom - top + 2, dtype=np.float32)[1:-1, None]
    masked = pixels.copy()
    masked[top:bottom] = (1 - passage) * above + passage * below
    return masked


def mask_border(pixels: Pixels, width: float, generator: np.random.Generator) -> Pixels:
    """Replace the frame of ``width``, where markers, collimator edges and burnt-in text lie, by repeating what borders on it."""
    frame = round(width * max(pixels.shape))
    if not frame:
        return pixels
    return np.pad(pixels[frame:-frame, frame:-frame], frame, mode="edge")


def mirror(pixels: Pixels, times: float, generator: np.random.Generator) -> Pixels:
    """Flip left and right, as a film read from the back or a knee of the wrong side."""
    return np.ascontiguousarray(pixels[:, ::-1]) if times else pixels


def invert(pixels: Pixels, times: float, generator: np.random.Generator) -> Pixels:
    """Make bone dark, as MONOCHROME1 read wrongly."""
    return 1 - pixels if times else pixels


def brighten(pixels: Pixels, amount: float, generator: np.random.Generator) -> Pixels:
    """Add ``amount`` of the grey range; what leaves the range is lost."""
    return _within(pixels + np.float32(amount))


def contrast(pixels: Pixels, factor: float, generator: np.random.Generator) -> Pixels:
    """Spread the greys by ``factor`` about their mean; what leaves the range is lost."""
    mean = pixels.mean()
    return _within(mean + np.float32(factor) * (pixels - mean))


def gamma(pixels: Pixels, exponent: float, generator: np.random.Generator) -> Pixels:
    """Raise the greys to a power: above 1 darkens, below 1 brightens the middle."""
    return pixels ** np.float32(exponent)


def blur(pixels: Pixels, deviation: float, generator: np.random.Generator) -> Pixels:
    """Blur with a Gaussian of standard deviation ``deviation``."""
    return blurred(pixels, deviation * max(pixels.shape))


def noise(pixels: Pixels, deviation: float, generator: np.random.Generator) -> Pixels:
    """Add white Gaussian noise of standard deviation ``deviation``, a share of the grey range."""
    return _within(pixels + np.float32(deviation) * generator.standard_normal(pixels.shape, dtype=np.float32))


def jpeg(pixels: Pixels, quality: float, generator: np.random.Generator) -> Pixels:
    """Compress as 8-bit JPEG of a ``quality`` below 100, and decode again."""
    if quality >= 100:
        return pixels
    file = io.BytesIO()
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(file, "JPEG", quality=round(quality))
    return np.asarray(Image.open(file), dtype=np.float32) / np.float32(255)


def rotate(pixels: Pixels, degrees: float, generator: np.random.Generator) -> Pixels:
    """Turn anticlockwise about the centre; beyond the film its edge is repeated."""
    if not degrees:
        return pixels
    rows, columns = pixels.shape
    margin = max(rows, columns) // 2
    turned = Image.fromarray(np.pad(pixels, margin, mode="edge")).rotate(degrees, Image.Resampling.BILINEAR)
    return np.asarray(turned, dtype=np.float32)[margin : margin + rows, margin : margin + columns].copy()


def shift_across(pixels: Pixels, share: float, generator: np.random.Generator) -> Pixels:
    """Move the knee to the right."""
    return _seen(pixels, right=-share)


def shift_down(pixels: Pixels, share: float, generator: np.random.Generator) -> Pixels:
    """Move the knee down."""
    return _seen(pixels, down=-share)


def zoom(pixels: Pixels, factor: float, generator: np.random.Generator) -> Pixels:
    """Enlarge the knee by ``factor``: a crop cut too tight, or below 1 too wide."""
    return _seen(pixels, share=1 / factor)


def coarsen(pixels: Pixels, share: float, generator: np.random.Generator) -> Pixels:
    """Keep ``share`` of the pixels a side, and stretch them to the old size."""
    if share >= 1:
        return pixels
    rows, columns = pixels.shape
    small = resample(pixels, (0, 0, columns, rows), size=(max(1, round(rows * share)), max(1, round(columns * share))))
    return resample(small, (0, 0, small.shape[1], small.shape[0]), size=(rows, columns))


def blurred(pixels: Pixels, deviation: float) -> Pixels:
    """Return ``pixels`` blurred by a Gaussian of ``deviation`` pixels, cut off at three of them; beyond the film its edge is repeated."""
    reach = round(3 * deviation)
    if not reach:
        return pixels
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(pixels, [(reach, reach) if place == axis else (0, 0) for place in (0, 1)], mode="edge")
        pixels = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="valid")
    return pixels


def _within(pixels: Pixels) -> Pixels:
    return np.asarray(pixels.clip(0, 1), dtype=np.float32)


def _seen(pixels: Pixels, *, right: float = 0.0, down: float = 0.0, share: float = 1.0) -> Pixels:
    """Return the film as seen through its own frame, moved by shares of the longer side and ``share`` times as wide."""
    rows, columns = pixels.shape
    x, y = columns / 2 + right * max(rows, columns), rows / 2 + down * max(rows, columns)
    return resample(
        pixels, (x - share * columns / 2, y - share * rows / 2, x + share * columns / 2, y + share * rows / 2), size=(rows, columns)
    )


CORRUPTIONS: MappingProxyType[str, Corruption] = MappingProxyType(
    {
        "joint_masked": Corruption("Joint masked", "height of the band", (0.1, 0.2, 0.3, 0.4, 0.5), 0, mask_joint),
        "border_masked": Corruption("Border and marker masked", "width of the frame", (0.03, 0.06, 0.09, 0.12), 0, mask_border),
        "mirrored": Corruption("Mirrored", "", (1,), 0, mirror),
        "inverted": Corruption("Inverted", "", (1,), 0, invert),
        "brightness": Corruption("Brightness", "share of the range added", (-0.4, -0.2, 0.2, 0.4), 0, brighten),
        "contrast": Corruption("Contrast", "factor", (0.25, 0.5, 1.5, 2), 1, contrast),
        "gamma": Corruption("Gamma", "exponent", (0.4, 0.7, 1.5, 2.5), 1, gamma),
        "blur": Corruption("Blur", "SD, share of the side", (0.0025, 0.005, 0.01, 0.02), 0, blur),
        "noise": Corruption("Noise", "SD, share of the range", (0.02, 0.05, 0.1, 0.2), 0, noise),
        "jpeg": Corruption("JPEG", "quality", (10, 30, 50, 75), 100, jpeg),
        "rotation": Corruption("Rotation", "degrees", (-20, -10, -5, 5, 10, 20), 0, rotate),
        "shift_across": Corruption("Shift to the right", "share of the side", (-0.1, -0.05, 0.05, 0.1), 0, shift_across),
        "shift_down": Corruption("Shift down", "share of the side", (-0.1, -0.05, 0.05, 0.1), 0, shift_down),
        "zoom": Corruption("Zoom", "factor", (0.8, 0.9, 1.1, 1.25), 1, zoom),
        "resolution": Corruption("Resolution", "share of the pixels a side", (0.125, 0.25, 0.33, 0.5), 1, coarsen),
    }
)
"""Every change that ``kneexray evaluate --stress`` makes, and how strongly."""
