"""A whole film as a picture: in the contrast of the reports, with the box of each knee, and with heat."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kneexray.render.heatmap import OPACITY, crop_for_display, overlay, to_film
from kneexray.types import Box, Knee, Prediction, Radiograph

BOX = "#35c9f2"
"""The colour of a knee's box: none that bone or heat has."""


def film_picture(radiograph: Radiograph, *, size: int) -> NDArray[np.uint8]:
    """Return the film in grey, its longer side ``size`` pixels."""
    height, width = radiograph.pixels.shape
    return crop_for_display(Knee(radiograph, (0, 0, width, height)), size=size)


def heated(film: NDArray[np.uint8], predictions: Sequence[Prediction], *, scale: float, alpha: float = OPACITY) -> NDArray[np.uint8]:
    """Return the film (H, W), which is ``scale`` times the radiograph, with the heatmaps of ``predictions`` over it: (H, W, 3) RGB."""
    heat = np.zeros(film.shape, np.float32)
    for prediction in predictions:
        if prediction.heatmap is not None:
            box = scaled(prediction.knee, scale=scale)
            np.maximum(heat, to_film(prediction.heatmap, box=box, shape=(film.shape[0], film.shape[1])), out=heat)
    return overlay(film, heat, alpha=alpha)


def draw_boxes(image: Image.Image, knees: Sequence[Knee], *, scale: float, stroke: int) -> None:
    """Draw the box of each knee, ``stroke`` pixels wide, on an RGB picture of their film, ``scale`` times its size."""
    pen = ImageDraw.Draw(image)
    for knee in knees:
        x0, y0, x1, y1 = scaled(knee, scale=scale)
        edges = (max(x0, 0), max(y0, 0), min(x1, image.width) - 1, min(y1, image.height) - 1)
        pen.rectangle([round(edge) for edge in edges], outline=BOX, width=stroke)


def joint_lines(knee: Knee, *, size: float) -> list[NDArray[np.float64]]:
    """Return the margins of a knee's joint space, and the lines that widths were taken on, on a picture of its box ``size`` pixels wide.

    Each is (n, 2), x and y; no lines where none was found.
    """
    if knee.joint_space is None:
        return []
    margins = knee.joint_space
    lines = [margins[:, [0, 1]], margins[:, [0, 2]]]
    lines += [np.array(length.line).reshape(2, 2) for length in knee.measurements if length.line is not None]
    x0, y0, x1, _ = knee.box
    return [(np.asarray(points, np.float64) - (x0, y0)) * (size / (x1 - x0)) for points in lines]


def draw_joint(image: Image.Image, knee: Knee, *, at: tuple[float, float] = (0, 0), size: int, stroke: int = 1) -> None:
    """Draw the joint space on an RGB picture, on which the knee's box starts ``at`` a place and is ``size`` pixels wide."""
    pen = ImageDraw.Draw(image)
    for points in joint_lines(knee, size=size):
        pen.line([(x + at[0], y + at[1]) for x, y in points.tolist()], fill=BOX, width=stroke)


def scaled(knee: Knee, *, scale: float) -> Box:
    """Return the box of a knee on a picture that is ``scale`` times the film."""
    x0, y0, x1, y1 = knee.box
    return x0 * scale, y0 * scale, x1 * scale, y1 * scale


def fills_film(knee: Knee) -> bool:
    """Say whether the box of a knee holds its whole film."""
    height, width = knee.radiograph.pixels.shape
    x0, y0, x1, y1 = knee.box
    return x0 <= 0 and y0 <= 0 and x1 >= width and y1 >= height


def font_file(*, bold: bool = False) -> Traversable:
    """Return the font of the reports, TrueType."""
    return files("kneexray.writers") / "fonts" / f"Roboto-{'Bold' if bold else 'Regular'}.ttf"
