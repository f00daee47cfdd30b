"""Letters and other signs drawn as they come to the marker reader: on parts of real films, on plates, turned a little, exposed at will."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path

import matplotlib
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from kneexray.roi.markers import HEIGHTS, Letter, patch_of

CAPITAL = 40
"""Height of capitals as they are drawn before they are made small."""
MOST_TURNED = 20.0
"""Degrees by which a letter that is to be read may be turned."""
OTHERS = "ABCDEFGHIJKMNOPQSTUVWXYZ0123456789ГЛПДТ>/<|-()[]{}#+·γ¬"
"""Signs that are no side marker: all other letters, digits, letters of other alphabets, brackets, corners."""
DARK = 0.15
"""How often a sign is darker than its ground though it might be brighter."""
GROUND = 96
"""Side of the part of a film that a letter is drawn on, in pixels."""


def drawn(films: Sequence[NDArray[np.uint8]], letter: Letter | None, rng: Generator) -> NDArray[np.float32]:
    """Return the patch (PATCH, PATCH) of a ``letter``, or of some other sign for None, on a part of one of the ``films``."""
    film = films[int(rng.integers(len(films)))]
    top, left = (int(rng.integers(0, max(1, length - GROUND))) for length in film.shape)
    canvas = Image.fromarray(film[top : top + GROUND, left : left + GROUND]).resize((GROUND, GROUND))
    turn = float(rng.uniform(-MOST_TURNED, MOST_TURNED))
    sign, flip = letter or _sign(rng), letter == "mirrored"
    if letter == "mirrored":
        sign = "RL"[int(rng.integers(2))]
    if letter is None and rng.random() < 0.25:  # a letter turned too far is another sign
        sign, turn = "RL"[int(rng.integers(2))], float(rng.uniform(45, 315))
        flip = sign == "R" and rng.random() < 0.3
    fonts = _fonts()
    mask = _tile(sign, fonts[int(rng.integers(len(fonts)))], int(rng.choice([0, 0, 1, 2, 4])))
    if flip:
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    height = math.exp(rng.uniform(math.log(HEIGHTS[0]), math.log(50)))
    across = height / CAPITAL * math.exp(rng.normal(-0.05, 0.15))
    mask = mask.resize((max(3, round(mask.width * across)), max(3, round(mask.height * height / CAPITAL))), Image.Resampling.BILINEAR)
    mask = mask.rotate(turn, Image.Resampling.BILINEAR, expand=True)
    box = mask.point(lambda v: 255 * (v > 110)).getbbox()
    if box is None:
        return drawn(films, letter, rng)
    return _seen(canvas, mask, box, height, rng)


def _seen(canvas: Image.Image, mask: Image.Image, box: tuple[int, int, int, int], height: float, rng: Generator) -> NDArray[np.float32]:
    """Return the patch of a sign's ``mask`` set into the middle of ``canvas``; ``box`` is where in the mask the sign lies."""
    x0, y0 = (round(GROUND / 2 - (box[i] + box[i + 2]) / 2 + rng.uniform(-2, 2)) for i in (0, 1))
    place = (x0 + box[0], y0 + box[1], x0 + box[2], y0 + box[3])
    under = float(np.median(np.asarray(canvas.crop(place))))
    if rng.random() < 0.5:
        under = _plate(canvas, place, height, under, rng)
    contrast = float(rng.uniform(35, 230))
    bright = under + contrast <= 255 or under < 128
    level = under + contrast if bright else under - contrast
    if rng.random() < DARK and under > contrast:
        bright, level = False, under - contrast
    canvas.paste(Image.new("L", mask.size, int(np.clip(level, 0, 255))), (x0, y0), mask)
    if rng.random() < 0.5:  # what stands beside it: initials, a number, the rest of a word
        word = _tile(str(rng.choice(("07", "58", "T", "MK", "B12", "EFT", "IGHT", "|"))), _fonts()[0], int(rng.integers(3)))
        size = height / CAPITAL * rng.uniform(0.4, 1.0)
        word = word.resize((max(1, round(word.width * size)), max(1, round(word.height * size))))
        inked = word.getbbox() or (0, 0, 1, 1)
        canvas.paste(int(np.clip(level, 0, 255)), (round(place[2] + rng.uniform(0.08, 0.4) * height - inked[0]), y0), word)
    if rng.random() < 0.5:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.03 * height + 0.4)))
    image = np.asarray(canvas, np.float32) / 255
    image = image + rng.normal(0, rng.uniform(0, 0.25) * contrast / 255 * (rng.random() < 0.4), image.shape)
    off = rng.normal(0, 0.025 * height, 4)
    found = tuple(round(float(edge)) for edge in np.add(place, off))
    return patch_of(Image.fromarray(image.astype(np.float32)), found, 1 if bright else -1)


def _plate(canvas: Image.Image, place: tuple[int, int, int, int], height: float, under: float, rng: Generator) -> float:
    """Draw a box or a disc under a sign at ``place``; return its grey."""
    shade, opacity, margin = float(rng.uniform(0, 256)), float(rng.uniform(0.3, 1)), float(rng.uniform(0.12, 0.5)) * height
    box = (place[0] - margin, place[1] - margin, place[2] + margin, place[3] + margin)
    plate = Image.new("L", canvas.size)
    draw, shape = ImageDraw.Draw(plate), rng.random()
    if shape < 0.6:
        draw.rectangle(box, fill=round(255 * opacity))
    elif shape < 0.8:
        draw.ellipse(tuple(np.add(box, (-margin, -margin, margin, margin))), fill=round(255 * opacity))
    else:
        draw.rectangle(box, outline=255, width=max(1, round(height / 12)))
        opacity = 0.0
    canvas.paste(Image.new("L", canvas.size, int(shade)), (0, 0), plate)
    return shade * opacity + under * (1 - opacity)


def _sign(rng: Generator) -> str:
    return OTHERS[int(rng.integers(len(OTHERS)))]


@lru_cache(4000)
def _tile(text: str, font: str, bold: int) -> Image.Image:
    """Return ``text`` as a mask, capitals :data:`CAPITAL` px high and ``bold`` thicker, with a margin."""
    face = _font(font, round(CAPITAL / 0.72))
    tile = Image.new("L", (round(face.getlength(text)) + CAPITAL, 2 * CAPITAL))
    ImageDraw.Draw(tile).text((CAPITAL // 2, round(1.5 * CAPITAL)), text, fill=255, font=face, anchor="ls", stroke_width=bold)
    return tile


@cache
def _fonts() -> tuple[str, ...]:
    """Return the fonts at hand: Pillow's own, which is named by the empty string, this package's, and matplotlib's text fonts."""
    ours = Path(str(resources.files("kneexray"))) / "writers" / "fonts"
    theirs = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = (*sorted(ours.glob("*.ttf")), *sorted(theirs.glob("DejaVu*[!y].ttf")), theirs / "STIXGeneralBol.ttf")
    return ("", *map(str, files))


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
