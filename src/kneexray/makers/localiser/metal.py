"""Drawn metal for the localiser to learn what an implant is: there are far fewer real films of each kind than kinds.

Places are shares of the joint's box, whose joint line lies at 0.59 of the height (:class:`kneexray.types.Knee`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from kneexray.geometry import JOINT_LINE
from kneexray.makers.localiser.data import Film
from kneexray.types import Box

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws ``bright`` metal in a knee's ``box``, every point a little off."""

    draw: ImageDraw.ImageDraw
    box: Box
    bright: int
    rng: Generator

    def area(self, *points: Point) -> None:
        """Fill a polygon."""
        self.draw.polygon([self._at(point) for point in points], fill=self.bright)

    def stroke(self, *points: Point, width: float) -> None:
        """Draw a line of ``width``, at least a pixel, with round bends."""
        self.draw.line([self._at(point) for point in points], self.bright, max(1, round(width * self._side)), joint="curve")

    def oval(self, middle: Point, *, across: float, down: float, turned: float = 0.0) -> None:
        """Fill an ellipse of these half axes, turned clockwise by ``turned`` degrees, its outline slightly uneven."""
        cos, sin = math.cos(math.radians(turned)), math.sin(math.radians(turned))
        circle = ((across * math.cos(t), down * math.sin(t)) for t in np.linspace(0, 2 * math.pi, 16, endpoint=False))
        self.area(*[(middle[0] + cos * x - sin * y, middle[1] + sin * x + cos * y) for x, y in circle])

    @property
    def _side(self) -> float:
        return self.box[2] - self.box[0]

    def _at(self, point: Point) -> Point:
        x, y = self.rng.normal(point, 0.006)
        return (self.box[0] + x * self._side, self.box[1] + y * self._side)


def total(pen: Pen) -> None:
    """Femoral and tibial part over both compartments, with a stem; sometimes one of the two alone."""
    _condylar(pen, left=0.08, right=0.92, notched=True)


def unicompartmental(pen: Pen) -> None:
    """The same over one compartment."""
    rng = pen.rng
    left = 0.08 if rng.random() < 0.5 else 0.54
    _condylar(pen, left=left, right=left + 0.38, notched=False)


def _condylar(pen: Pen, *, left: float, right: float, notched: bool) -> None:
    rng = pen.rng
    joint = JOINT_LINE + rng.normal(0, 0.015)
    top = joint - rng.uniform(0.18, 0.36)
    notch = (left + right) / 2
    femoral = [(left, top + 0.06), (left + 0.06, top), (notch, top + 0.05), (right - 0.06, top), (right, top + 0.06)]
    femoral += [(right, joint - 0.05), (right - 0.08, joint - 0.01)]
    femoral += [(notch + 0.06, joint - 0.02), (notch, joint - 0.09), (notch - 0.06, joint - 0.02)] if notched else []
    femoral += [(left + 0.08, joint - 0.01), (left, joint - 0.05)]
    parts = rng.random()
    if parts < 0.9:
        pen.area(*femoral)
    if parts > 0.1:
        low = joint + rng.uniform(0.03, 0.07)
        pen.area((left, joint + 0.02), (right, joint + 0.02), (right, low), (left, low))
        wide = rng.uniform(0.03, 0.1)
        pen.area((notch - wide, low), (notch + wide, low), (notch + wide / 2, low + rng.uniform(0.06, 0.35)), (notch, low + 0.3))


def small_unicompartmental(pen: Pen) -> None:
    """A narrow femoral runner with a peg, a tibial plate with a keel, or both, over one condyle."""
    rng = pen.rng
    middle, joint = rng.choice([-1, 1]) * rng.uniform(0.17, 0.27) + 0.5, JOINT_LINE + rng.normal(0, 0.015)
    parts, half = rng.random(), rng.uniform(0.05, 0.1)
    if parts < 0.75:
        pen.oval((middle, joint - rng.uniform(0.09, 0.14)), across=half, down=rng.uniform(0.08, 0.16), turned=rng.normal(0, 10))
    if parts > 0.35:
        low = joint + rng.uniform(0.02, 0.05)
        pen.area((middle - half, joint + 0.01), (middle + half, joint + 0.01), (middle + half, low), (middle - half, low))
        for x in np.linspace(-0.5, 0.5, int(rng.integers(1, 3))) * half:
            pen.stroke((middle + x, low), (middle + x, low + rng.uniform(0.02, 0.08)), width=rng.uniform(0.015, 0.04))


def patellofemoral(pen: Pen) -> None:
    """A shield before the trochlea, between the condyles and above the joint line, and nothing at the tibia."""
    rng = pen.rng
    x, y = 0.5 + rng.normal(0, 0.05), JOINT_LINE - rng.uniform(0.12, 0.27)
    half, high = rng.uniform(0.09, 0.2), rng.uniform(0.08, 0.17)
    lean = rng.normal(0, 0.05)
    pen.area(
        (x - half + lean, y - high * rng.uniform(0.6, 1)),
        (x + lean, y - high),
        (x + half + lean, y - high * rng.uniform(0.6, 1)),
        (x + half * rng.uniform(0.7, 1.1), y),
        (x + half * rng.uniform(0.2, 0.6), y + high),
        (x - half * rng.uniform(0.2, 0.6), y + high),
        (x - half * rng.uniform(0.7, 1.1), y),
    )


def spacer(pen: Pen) -> None:
    """A lens or plate between the bones of one compartment."""
    rng = pen.rng
    middle = (0.5 + rng.choice([-1, 1]) * rng.uniform(0.16, 0.28), JOINT_LINE + rng.normal(0.01, 0.02))
    pen.oval(middle, across=rng.uniform(0.09, 0.18), down=rng.uniform(0.015, 0.045), turned=rng.normal(0, 12))


def screws(pen: Pen) -> None:
    """One to four across a condyle or the plateau, or through a ligament's tunnel."""
    rng = pen.rng
    y, down = rng.choice([rng.uniform(0.3, 0.52), rng.uniform(0.65, 0.95)]), rng.normal(0, 0.15)
    x, length = rng.uniform(0.12, 0.4), rng.uniform(0.15, 0.6)
    width = rng.uniform(0.015, 0.04)
    for i in range(int(rng.integers(1, 5))):
        y += i * rng.uniform(0.05, 0.1)
        pen.stroke((x, y), (x + length, y + down * length), width=width)
        pen.stroke((x, y - width), (x, y + width), width=width)


def plate(pen: Pen) -> None:
    """Along the side of a shaft, its screws across the bone."""
    rng = pen.rng
    below, x = rng.random() < 0.6, rng.choice([rng.uniform(0.12, 0.24), rng.uniform(0.76, 0.88)])
    near, far = (rng.uniform(0.64, 0.72), 1.1) if below else (rng.uniform(0.4, 0.52), -0.1)
    towards = 0.5 + (0.5 - x) * rng.uniform(-0.3, 0.3)
    pen.stroke((x, near), (x + (0.5 - x) * 0.35, (near + far) / 2), (x + (0.5 - x) * 0.5, far), width=rng.uniform(0.03, 0.06))
    for y in np.linspace(near, far, int(rng.integers(3, 8))):
        pen.stroke((x, y), (0.5 + (0.5 - x) * rng.uniform(0.2, 0.9) if y == near else towards, y), width=rng.uniform(0.012, 0.03))


def nail(pen: Pen) -> None:
    """Within a shaft, ending near the joint, with bolts."""
    rng = pen.rng
    below, x = rng.random() < 0.5, 0.5 + rng.normal(0, 0.04)
    near, far = (rng.uniform(0.65, 0.85), 1.2) if below else (rng.uniform(0.2, 0.5), -0.2)
    pen.stroke((x, near), (x + rng.normal(0, 0.05), far), width=rng.uniform(0.05, 0.1))
    for _ in range(int(rng.integers(0, 4))):
        y = near + (0.06 if below else -0.06) * rng.uniform(1, 4)
        pen.stroke((x - rng.uniform(0.08, 0.25), y), (x + rng.uniform(0.08, 0.25), y), width=rng.uniform(0.015, 0.035))


def staples(pen: Pen) -> None:
    """Bent wires hammered into the bone beside the joint."""
    rng = pen.rng
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(0.2, 0.7), rng.choice([rng.uniform(0.35, 0.52), rng.uniform(0.66, 0.95)])
        along, deep, width = rng.uniform(0.05, 0.12), rng.uniform(0.05, 0.16), rng.uniform(0.012, 0.025)
        inwards = deep if x < 0.5 else -deep
        pen.stroke((x + inwards, y), (x, y), (x, y + along), (x + inwards, y + along), width=width)


KINDS_OF_METAL: MappingProxyType[Callable[[Pen], None], float] = MappingProxyType(
    {
        total: 0.2,
        unicompartmental: 0.16,
        small_unicompartmental: 0.16,
        patellofemoral: 0.14,
        spacer: 0.12,
        screws: 0.06,
        plate: 0.06,
        nail: 0.05,
        staples: 0.05,
    }
)
"""What is drawn, and how often."""


def with_metal(film: Film, rng: Generator) -> Film:
    """Return ``film`` with drawn metal in one of its AP joints, which makes that joint an implant; the film is dimmed until metal shows."""
    number = int(rng.integers(len(film.joints)))
    box = film.joints[number].box
    bright = int(rng.uniform(205, 256))
    left, top, right, bottom = (max(0, round(edge)) for edge in box)
    bone = float(np.percentile(film.pixels[top:bottom, left:right], 98))
    dimmed = min(1.0, bright * rng.uniform(0.6, 0.92) / max(bone, 1.0))
    image = Image.fromarray((film.pixels * dimmed).astype(np.uint8))
    draw = rng.choice(np.array(list(KINDS_OF_METAL), dtype=object), p=list(KINDS_OF_METAL.values()))
    draw(Pen(ImageDraw.Draw(image), box, bright, rng))
    joints = tuple(replace(joint, kind="implant") if i == number else joint for i, joint in enumerate(film.joints))
    return Film(film.name, np.asarray(image), joints)
