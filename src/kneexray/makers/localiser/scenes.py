"""Random views of films for the localiser to learn from: turned, scaled, cut, pasted, marked, inverted, with the targets it should give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kneexray.makers.localiser.data import Film, Marking
from kneexray.roi.localiser import CLOSE_UP, FULL_ANGLE, KINDS, SIZE, STRIDE, UNIT
from kneexray.types import Box, Side

CELLS = SIZE // STRIDE
REACH = 1.6
"""Within how many cells of a joint's middle size and place are learnt."""
OTHER: MappingProxyType[Side, Side] = MappingProxyType({"L": "R", "R": "L"})
SIGN: MappingProxyType[Side | None, float] = MappingProxyType({"L": -1.0, "R": 1.0, None: 0.0})
SEEN = 0.55
"""Smallest share of a joint's box that must lie within a view for the joint to be looked for there."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A view (SIZE, SIZE) in [0, 1] of a film turned clockwise by ``tilt`` degrees, and the joints in it, in its pixels.

    ``unsure`` are boxes of joints too much cut off to be either wanted or not.
    """

    pixels: NDArray[np.float32]
    tilt: float
    joints: tuple[Marking, ...]
    unsure: tuple[Box, ...]


def scene(film: Film, rng: Generator) -> Scene:
    """Return a random view of ``film``: about one joint in its first half, of all or a part of the film otherwise."""
    height, width = film.pixels.shape
    tilt = float(rng.normal(0, 7)) if rng.random() < 0.8 else float(rng.uniform(-45, 45))
    if film.joints and rng.random() < 0.5:
        box = film.joints[int(rng.integers(len(film.joints)))].box
        side = (box[2] - box[0]) * CLOSE_UP * math.exp(rng.uniform(-0.35, 0.35))
        jitter = rng.uniform(-0.13, 0.13, 2) * side
        x, y = (box[0] + box[2]) / 2 + jitter[0], (box[1] + box[3]) / 2 + jitter[1]
    elif rng.random() < 0.6:
        film = _cut(film, rng)
        height, width = film.pixels.shape
        side = max(height, width) * math.exp(rng.uniform(-0.05, 0.25))
        x, y = width / 2, height / 2
        tilt *= 0.6
    else:
        side = max(height, width) * math.exp(rng.uniform(-0.9, 0.3))
        x, y = width * rng.uniform(0.25, 0.75), height * rng.uniform(0.25, 0.75)
    return _seen(film, (x, y), side, tilt=tilt, mirrored=bool(rng.random() < 0.5))


def _cut(film: Film, rng: Generator) -> Film:
    """Return a random part of ``film`` as a film of its own, as if collimated; often the whole of it, often about one of its joints."""
    height, width = film.pixels.shape
    if rng.random() < 0.4:
        return film
    if film.joints and rng.random() < 0.7:
        box = film.joints[int(rng.integers(len(film.joints)))].box
        side = box[2] - box[0]
        margins = rng.uniform(-0.12, 1.0, 4) * side
        if rng.random() < 0.3:  # wide and low, as some collections have their knees
            margins[1], margins[3] = rng.uniform(-0.32, 0.0, 2) * side
        x0, y0, x1, y1 = box[0] - margins[0], box[1] - margins[1], box[2] + margins[2], box[3] + margins[3]
    else:
        x0, y0 = rng.uniform(0, 0.3, 2) * (width, height)
        x1, y1 = rng.uniform(0.7, 1, 2) * (width, height)
    left, top = max(0, round(x0)), max(0, round(y0))
    right, bottom = max(left + 8, min(width, round(x1))), max(top + 8, min(height, round(y1)))
    joints = tuple(replace(j, box=(j.box[0] - left, j.box[1] - top, j.box[2] - left, j.box[3] - top)) for j in film.joints)
    return Film(film.name, film.pixels[top:bottom, left:right], joints)


def _seen(film: Film, centre: tuple[float, float], side: float, *, tilt: float, mirrored: bool) -> Scene:
    """Return the square view of ``side`` film pixels about ``centre``, the film turned clockwise by ``tilt`` degrees."""
    image = Image.fromarray(film.pixels)
    reduction = max(1, int(side / SIZE))
    if reduction > 1:
        image = image.reduce(reduction)
    scale = SIZE / side  # view pixels a film pixel
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    flip = -1.0 if mirrored else 1.0
    # from the view to the film, then to the reduced film
    a, b = flip * cos / scale, flip * sin / scale
    d, e = -sin / scale, cos / scale
    c = centre[0] - (a + b) * SIZE / 2
    f = centre[1] - (d + e) * SIZE / 2
    matrix = tuple(value / reduction for value in (a, b, c, d, e, f))
    seen = image.transform((SIZE, SIZE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    pixels = (np.asarray(seen, np.float32) / 255).astype(np.float32)
    joints, unsure = [], []
    height, width = film.pixels.shape
    for joint in film.joints:
        box = joint.box
        dx, dy = ((box[0] + box[2]) / 2 - centre[0]) * flip, (box[1] + box[3]) / 2 - centre[1]
        x, y = SIZE / 2 + (cos * dx - sin * dy) * scale, SIZE / 2 + (sin * dx + cos * dy) * scale
        half = (box[2] - box[0]) * scale / 2
        here = (x - half, y - half, x + half, y + half)
        share = min(_share_within(here, SIZE, SIZE), _share_within(box, width, height))
        if share >= SEEN and 4 <= x < SIZE - 4 and 4 <= y < SIZE - 4 and half > 8:
            joints.append(replace(joint, box=here, side=OTHER[joint.side] if mirrored and joint.side else joint.side))
        elif share > 0.08:
            unsure.append(here)
    return Scene(pixels, tilt, tuple(joints), tuple(unsure))


def _share_within(box: Box, width: float, height: float) -> float:
    across = max(0.0, min(box[2], width) - max(box[0], 0.0)) / (box[2] - box[0])
    down = max(0.0, min(box[3], height) - max(box[1], 0.0)) / (box[3] - box[1])
    return across * down


def pasted(crops: Sequence[Film], rng: Generator) -> Film:
    """Return a drawn film with one or two crops of AP knees, their edges soft and their shafts continued up and down."""
    two = rng.random() < 0.5
    side = int(rng.uniform(110, 260))
    width, height = int(side * (rng.uniform(2.1, 3.2) if two else rng.uniform(1.05, 2.4))), int(side * rng.uniform(1.0, 2.8))
    canvas = np.zeros((height, width), np.float32)
    top = int(rng.uniform(0, height - side + 1))
    middles = (0.27, 0.73) if two else (0.5,)
    joints = []
    for middle in middles:
        crop = crops[int(rng.integers(len(crops)))]
        y0 = int(np.clip(top + rng.normal(0, 0.05) * side, 0, height - side))
        x0 = int(np.clip(width * middle - side / 2 + rng.normal(0, 0.04) * side, 0, width - side))
        knee = np.asarray(Image.fromarray(crop.pixels).resize((side, side), Image.Resampling.BILINEAR), np.float32)
        column = np.pad(knee, ((y0, height - side - y0), (0, 0)), mode="edge")
        ramp = np.minimum(1, np.minimum(np.arange(side), np.arange(side)[::-1]) / (0.08 * side))
        strip = canvas[:, x0 : x0 + side]
        np.maximum(strip, column * ramp, out=strip)
        joints.append(replace(crop.joints[0], box=(float(x0), float(y0), float(x0 + side), float(y0 + side))))
    return Film("drawn", canvas.astype(np.uint8), tuple(joints))


def exposed(pixels: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """Return a view (H, W) under another exposure, sometimes marked, collimated, noisy or inverted."""
    height = len(pixels)
    image = pixels ** math.exp(rng.uniform(-0.7, 0.7))
    image = np.clip((image - 0.5) * math.exp(rng.uniform(-0.3, 0.35)) + 0.5 + rng.uniform(-0.15, 0.15), 0, 1)
    if rng.random() < 0.3:
        _mark(image, rng)
    if rng.random() < 0.15:
        rows = int(rng.uniform(0.02, 0.2) * height)
        image[:rows] = rng.choice([0.0, 1.0])
    if rng.random() < 0.15:
        rows = int(rng.uniform(0.02, 0.2) * height)
        image[height - rows :] = rng.choice([0.0, 1.0])
    if rng.random() < 0.3:
        image = image + rng.normal(0, rng.uniform(0, 0.04), image.shape)
    if rng.random() < 0.12:
        image = 1 - image
    shown: NDArray[np.float32] = np.clip(image, 0, 1).astype(np.float32)
    return shown


def _mark(image: NDArray[np.float32], rng: Generator) -> None:
    """Put a letter or a calibration ball near the edge of ``image``."""
    canvas = Image.fromarray((image * 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    height, width = image.shape
    x, y = rng.choice([rng.uniform(0.02, 0.2), rng.uniform(0.8, 0.95)]) * width, rng.uniform(0.05, 0.95) * height
    if rng.random() < 0.5:
        radius = rng.uniform(2, 6)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=int(rng.uniform(200, 256)))
    else:
        draw.text((x, y), str(rng.choice(["R", "L", "RT", "UPRIGHT", "12345"])), fill=int(rng.uniform(180, 256)))
    image[:] = np.asarray(canvas, np.float32) / 255


def targets(view: Scene) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return the heat map (kinds, h, w), the cells' weights in it (h, w), and what to tell of joints (6, h, w).

    Told are the way from the cell's middle to the box's in cells, right and down, the log size, the tilt, the side (1 right, -1 left,
    0 unknown), and in the last plane 1 where there is something to tell.
    """
    heat = np.zeros((len(KINDS), CELLS, CELLS), np.float32)
    weight = np.ones((CELLS, CELLS), np.float32)
    told = np.zeros((6, CELLS, CELLS), np.float32)
    rows, columns = np.mgrid[:CELLS, :CELLS] + 0.5
    for x0, y0, x1, y1 in view.unsure:
        inside = (columns * STRIDE > x0) & (columns * STRIDE < x1) & (rows * STRIDE > y0) & (rows * STRIDE < y1)
        weight[inside] = 0
    for joint in view.joints:
        x0, y0, x1, y1 = joint.box
        right, down = (x0 + x1) / 2 / STRIDE - columns, (y0 + y1) / 2 / STRIDE - rows
        distance = right**2 + down**2
        sigma = max(0.7, 0.06 * (x1 - x0) / STRIDE)
        plane = heat[KINDS.index(joint.kind)]
        np.maximum(plane, np.exp(-distance / (2 * sigma**2)), out=plane)
        plane[np.unravel_index(distance.argmin(), distance.shape)] = 1
        weight[distance < (2 * sigma) ** 2] = 1
        near = distance < REACH**2
        told[0, near], told[1, near] = right[near], down[near]
        told[2:, near] = np.array([math.log((x1 - x0) / UNIT), view.tilt / FULL_ANGLE, SIGN[joint.side], 1], np.float32)[:, None]
    return heat, weight, told
