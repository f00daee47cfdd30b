"""Drawing on a PDF page: text that fits, in an embedded font, and pictures. Lengths are points (1/72 inch), y grows downwards."""

from __future__ import annotations

import io
from bisect import bisect
from collections.abc import Callable
from functools import cache, partial
from typing import IO
from unicodedata import normalize

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from kneexray.render.film import font_file

WIDTH, HEIGHT = float(A4[0]), float(A4[1])
MARGIN = 42.0
RIGHT = WIDTH - MARGIN

INK, QUIET, LINE, GROOVE, NOTE, NOTE_LINE = (  # those of report.css
    HexColor(colour) for colour in ("#1b1f23", "#59636e", "#d5dade", "#e8ebee", "#fff5dc", "#b98900")
)
GRADES = tuple(HexColor(colour) for colour in ("#c3d5e8", "#92b3d6", "#5f8dc0", "#33689f", "#123f70"))

_FONTS = ("Roboto", "Roboto-Bold")
LEADING = 1.32
"""From line to line, in heights of the font."""


class Pen:
    """Draws on the current page of ``canvas``, which is written to ``file``."""

    def __init__(self, file: IO[bytes]) -> None:
        _register()
        self.canvas = Canvas(file, pagesize=A4, initialFontName=_FONTS[0], lang="en")

    def text(self, x: float, y: float, text: str, *, size: float = 9, bold: bool = False, colour: Color = INK, right: bool = False) -> None:
        """Write one line with its baseline at ``y``, from ``x`` or, with ``right``, up to ``x``."""
        self.canvas.setFillColor(colour)
        self.canvas.setFont(_FONTS[bold], size)
        draw = self.canvas.drawRightString if right else self.canvas.drawString
        draw(x, HEIGHT - y, legible(text))

    def paragraph(self, x: float, y: float, text: str, *, width: float, size: float = 9, bold: bool = False, colour: Color = INK) -> float:
        """Write a text over as many lines as it takes, the first baseline a line below ``y``; return the y of its lower end."""
        for line in wrapped(text, width=width, size=size, bold=bold):
            y += size * LEADING
            self.text(x, y - size * 0.3, line, size=size, bold=bold, colour=colour)
        return y

    def box(self, x: float, y: float, width: float, height: float, colour: Color) -> None:
        """Fill a box that hangs from (x, y)."""
        self.canvas.setFillColor(colour)
        self.canvas.rect(x, HEIGHT - y - height, width, height, stroke=0, fill=1)

    def rule(self, y: float, *, x: float = MARGIN, right: float = RIGHT, colour: Color = LINE) -> None:
        """Draw a thin line across the page."""
        self.box(x, y, right - x, 0.6, colour)

    def picture(self, x: float, y: float, jpeg: bytes, *, side: float) -> None:
        """Draw a picture in the middle of a black square that hangs from (x, y)."""
        self.box(x, y, side, side, HexColor("#000000"))
        image = ImageReader(io.BytesIO(jpeg))
        width, height = image.getSize()
        scale = side / max(width, height)
        left, below = x + (side - width * scale) / 2, HEIGHT - y - (side + height * scale) / 2
        self.canvas.drawImage(image, left, below, width * scale, height * scale)


def legible(text: str) -> str:
    """Return a text in characters that the font has; any other is written as its code, ``\\u819d``, so that none is lost unseen."""
    return "".join(
        char if char.isprintable() and ord(char) in _glyphs() else char.encode("unicode_escape").decode()
        for char in normalize("NFC", text).replace("\u00a0", " ")
    )


def width_of(text: str, *, size: float, bold: bool = False) -> float:
    """Return how long a line is."""
    return _length(legible(text), size=size, bold=bold)


def fitted(text: str, *, width: float, size: float) -> str:
    """Return a text that fits into one line: its middle gives way, since file names differ at their ends."""
    shown = legible(text)
    if _length(shown, size=size) <= width:
        return shown

    def shortened(kept: int) -> str:
        return f"{shown[:kept]}…{shown[len(shown) - kept :]}"

    return shortened(_most(len(shown) // 2, lambda kept: _length(shortened(kept), size=size) <= width))


def wrapped(text: str, *, width: float, size: float, bold: bool = False) -> list[str]:
    """Return the lines of a text, broken between words, and within words that are wider than a line."""

    def fits(line: str, end: int | None = None) -> bool:
        return _length(line[:end], size=size, bold=bold) <= width

    lines: list[str] = []
    line = ""
    for word in legible(text).split(" "):
        longer = f"{line} {word}" if line else word
        if fits(longer):
            line = longer
            continue
        if line:
            lines.append(line)
        line = word
        while not fits(line) and len(line) > 1:
            end = max(_most(min(len(line), int(width)), partial(fits, line)), 1)  # no line holds more letters than points
            lines.append(line[:end])
            line = line[end:]
    return [*lines, line] if line else lines


def _length(shown: str, *, size: float, bold: bool = False) -> float:
    _register()
    return float(pdfmetrics.stringWidth(shown, _FONTS[bold], size))


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """Return the greatest number up to ``limit`` that fits, where every smaller one does too; 0 always does."""
    return bisect(range(1, limit + 1), False, key=lambda number: not fits(number))


@cache
def _register() -> None:
    for name in _FONTS:
        with font_file(bold="Bold" in name).open("rb") as file:
            pdfmetrics.registerFont(TTFont(name, file))


@cache
def _glyphs() -> frozenset[int]:
    _register()
    return frozenset(pdfmetrics.getFont(_FONTS[0]).face.charToGlyph)
