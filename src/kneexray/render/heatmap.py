"""From a class activation map to a picture: scale it, place it on the film, lay it over the bone. numpy and Pillow only.

A heatmap covers the knee's box as the knee lies on the film: whoever mirrored the knee for the model has mirrored the map back.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kneexray.types import Box, Knee

OPACITY = 0.7
"""How much of the bone the hottest spot hides, unless told otherwise."""

# matplotlib's "inferno" (N. Smith and S. van der Walt, CC0) from 0.2 to 1 in even steps; linear interpolation between them stays
# within 6/255 of it. It is perceptually uniform and keeps its order under colour-vision deficiency. Its blackest fifth is left
# out: a black veil over bone would look like a finding.
_INFERNO = "420a68 5d126e 781c6d 932667 ae305c c73e4c dd513a ed6925 f8850f fca50a fac62d f2e661 fcffa4"
_LEVELS = 16  # of heat in an indexed overlay: more would leave too few colours for the bone beneath


@functools.cache
def colours() -> NDArray[np.uint8]:
    """Return the colour of each heat 0..255 as (256, 3) RGB, read-only."""
    anchors = np.array([tuple(bytes.fromhex(colour)) for colour in _INFERNO.split()])  # (n, 3)
    at = np.linspace(0, 255, len(anchors))
    table = np.stack([np.interp(np.arange(256), at, channel) for channel in anchors.T], axis=1).round().astype(np.uint8)
    table.setflags(write=False)
    return table


def opacities(*, alpha: float = OPACITY) -> NDArray[np.float64]:
    """Return the opacity of each heat 0..255 as (256,) in [0, alpha]: it rises faster than the heat, so cold regions show the bone."""
    return alpha * np.linspace(0.0, 1.0, 256) ** 1.5


def heat_levels(heatmap: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return heat in [0, 1] as 0..255, the index into :func:`colours` and :func:`opacities`."""
    return (np.clip(heatmap, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def heatmap_from_cam(cam: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a class activation map (h, w) as heat in [0, 1]: negative evidence is dropped, the peak becomes 1, all-zero stays zero.

    That is Grad-CAM's map (Selvaraju et al., ICCV 2017, equation 2) on a common scale. Raises ValueError for a map that is not finite.
    """
    positive: NDArray[np.float32] = np.maximum(np.asarray(cam, dtype=np.float32), np.float32(0))
    peak = float(positive.max(initial=0))
    if not math.isfinite(peak):
        raise ValueError(f"the class activation map holds {peak}: the model's weights or its input are not finite")
    return positive / np.float32(peak) if peak > 0 else positive


def finding_map(cam: NDArray[np.floating], probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return where a finding is seen, as heat (h, w) in [0, 1], from class maps (K, h, w) and the classes' probabilities (K,).

    Class 0 is that there is none. The map is the mean of those of the other classes, weighted by their probabilities; its peak is the
    probability that there is a finding, so that a normal knee has no hot spot. Raises ValueError for maps that are not finite.
    """
    finding = float(probabilities[1:].sum())
    weights = (probabilities[1:] / finding if finding > 0 else np.zeros(len(probabilities) - 1)).astype(np.float32)
    return heatmap_from_cam(np.tensordot(weights, cam[1:], axes=1)) * np.float32(min(finding, 1.0))


def crop_for_display(knee: Knee, *, size: int) -> NDArray[np.uint8]:
    """Return the knee's box as it lies on the film, (size, size) for a square box; of any other box the longer side is ``size``.

    Parts of the box outside the film are black. Contrast runs from the 0.5th to the 99.5th percentile of what is on the film,
    so that a washed-out film is legible.
    """
    film = knee.radiograph.pixels  # (H, W)
    x0, y0, x1, y1 = knee.box
    scale = size / max(x1 - x0, y1 - y0)
    canvas = np.zeros((max(1, round((y1 - y0) * scale)), max(1, round((x1 - x0) * scale))), np.uint8)
    left, top, right, bottom = max(x0, 0.0), max(y0, 0.0), min(x1, film.shape[1]), min(y1, film.shape[0])
    columns = slice(round((left - x0) * scale), round((right - x0) * scale))
    rows = slice(round((top - y0) * scale), round((bottom - y0) * scale))
    if columns.start >= columns.stop or rows.start >= rows.stop:
        return canvas
    i, j = int(top), int(left)
    seen = _resized(
        film[i : math.ceil(bottom), j : math.ceil(right)],
        shape=(rows.stop - rows.start, columns.stop - columns.start),
        box=(left - j, top - i, right - j, bottom - i),
    )
    low, high = np.percentile(seen[::4, ::4], (0.5, 99.5))
    gain = 255.0 / max(float(high - low), 1e-3)
    canvas[rows, columns] = np.clip((seen - np.float32(low)) * np.float32(gain), 0, 255)
    return canvas


def to_film(heatmap: NDArray[np.float32], *, box: Box, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the heatmap (h, w) of ``box``, in film pixels, on a film of ``shape`` (H, W): bilinear inside the box, zero outside it."""
    film = np.zeros(shape, np.float32)
    height, width = heatmap.shape
    x0, y0, x1, y1 = box
    columns = slice(max(round(x0), 0), min(round(x1), shape[1]))  # the pixels whose centre lies in the box
    rows = slice(max(round(y0), 0), min(round(y1), shape[0]))
    if columns.start >= columns.stop or rows.start >= rows.stop:
        return film
    across, down = width / (x1 - x0), height / (y1 - y0)
    box = (
        max((columns.start - x0) * across, 0.0),
        max((rows.start - y0) * down, 0.0),
        min((columns.stop - x0) * across, width),
        min((rows.stop - y0) * down, height),
    )
    film[rows, columns] = _resized(heatmap, shape=(rows.stop - rows.start, columns.stop - columns.start), box=box)
    return film


def on_box(heatmap: NDArray[np.float32], *, window: Box, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the heatmap (h, w) of what a model saw over the whole of a knee's box, as (H, W): zero where the model saw nothing.

    ``window`` is the seen part in shares of the box: :meth:`kneexray.inference.preprocess.Geometry.window` of (0, 0, 1, 1).
    """
    x0, y0, x1, y1 = window
    return to_film(heatmap, box=(x0 * shape[1], y0 * shape[0], x1 * shape[1], y1 * shape[0]), shape=shape)


def overlay(crop: NDArray[np.uint8], heatmap: NDArray[np.float32], *, alpha: float = OPACITY) -> NDArray[np.uint8]:
    """Return the grey ``crop`` (H, W) under the coloured ``heatmap`` (h, w), as (H, W, 3) RGB; ``alpha`` is the peak's opacity."""
    heat = heat_levels(_resized(heatmap, shape=crop.shape))  # (H, W)
    opacity = opacities(alpha=alpha)[heat][..., None]
    blend: NDArray[np.float64] = crop[..., None] * (1 - opacity) + colours()[heat] * opacity
    return blend.round().astype(np.uint8)


def panel(crop: NDArray[np.uint8], heatmap: NDArray[np.float32], *, lines: Sequence[str]) -> Image.Image:
    """Return the grey ``crop`` (H, W), the same under the ``heatmap`` (h, w), the scale of its colours, and ``lines`` of text below."""
    height, width = crop.shape
    gap, bar = height // 24, height // 28
    font = ImageFont.load_default(size=height // 26)
    spacing = height // 18
    scale = gap + bar + round(font.getlength("none")) + gap
    page = Image.new("RGB", (2 * width + gap + scale, height + gap + spacing * len(lines) + gap // 2), "white")
    page.paste(Image.fromarray(crop), (0, 0))
    page.paste(Image.fromarray(overlay(crop, heatmap)), (width + gap, 0))
    left = 2 * width + 2 * gap
    ramp = np.linspace(1, 0, height, dtype=np.float32)[:, None].repeat(bar, axis=1)
    grey = np.full((height, bar), int(np.median(crop)), np.uint8)
    page.paste(Image.fromarray(overlay(grey, ramp)), (left, 0))
    pen = ImageDraw.Draw(page)
    pen.text((left + bar + gap // 3, 0), "most", fill="black", font=font, anchor="la")
    pen.text((left + bar + gap // 3, height), "none", fill="black", font=font, anchor="ld")
    for place, line in enumerate(lines):
        pen.text((gap // 2, height + gap + spacing * place), line, fill="black", font=font, anchor="la")
    return page


def indexed_overlay(
    crop: NDArray[np.uint8], heatmap: NDArray[np.float32], *, alpha: float = OPACITY
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return :func:`overlay` in at most 256 colours: the index of each pixel (H, W), and the colours (n, 3) RGB.

    An indexed PNG takes a third of the time and half the space of an RGB one. The heat is cut into levels; each level gets a
    share of the colours, by how much bone shows through it, spread evenly over the greys that occur in it.
    """
    small = Image.fromarray(heat_levels(heatmap))
    level = np.asarray(small.resize((crop.shape[1], crop.shape[0]), Image.Resampling.BILINEAR)).astype(np.uint16) * _LEVELS
    key = (level & 0xFF00) | crop  # (H, W): the level in the upper byte, the grey in the lower

    pixels = np.bincount(key[::2, ::2].ravel(), minlength=_LEVELS * 256).reshape(_LEVELS, 256)
    below = pixels.cumsum(axis=1)
    total = below[:, -1:]  # (levels, 1)
    seen = total[:, 0] > 0
    darkest = np.where(seen, (below <= total // 500).sum(axis=1), 128)  # all but a few outliers
    brightest = np.where(seen, (below < total - total // 500).sum(axis=1), 128)
    greys = np.maximum(brightest - darkest + 1, 1)

    heat = np.linspace(0, 255, _LEVELS).astype(int)  # that each level is shown with: none in the lowest, all in the highest
    opacity = opacities(alpha=alpha)[heat]
    weight = (1 - opacity) * greys * np.maximum(total[:, 0], 1) ** 0.2
    share = np.minimum(greys, 1 + (weight * ((256 - _LEVELS) / weight.sum())).astype(int))
    first = share.cumsum() - share

    rank = (np.arange(256) - darkest[:, None]) * share[:, None] // greys[:, None]
    index = first[:, None] + rank.clip(0, share[:, None] - 1)  # (levels, 256)
    of = np.repeat(np.arange(_LEVELS), share)  # the level of each colour
    grey = darkest[of] + (np.arange(len(of)) - first[of] + 0.5) * greys[of] / share[of] - 0.5
    blend = grey[:, None] * (1 - opacity[of, None]) + colours()[heat[of]] * opacity[of, None]
    return index.astype(np.uint8).ravel().take(key), blend.round().clip(0, 255).astype(np.uint8)


def _resized(
    image: NDArray[np.float32], *, shape: tuple[int, ...], box: tuple[float, float, float, float] | None = None
) -> NDArray[np.float32]:
    """Return the ``box`` (x0, y0, x1, y1) of an image (h, w), or all of it, at another ``shape`` (H, W)."""
    source = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    return np.asarray(source.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box))
