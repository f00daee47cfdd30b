"""The films that the joint localiser learns from and is measured on, and which of them are held back.

Films that belong together share a group and never span the split: identical files, and films with the same T-score (a patient's left and
right knees came as two files with one T-score; that two patients share one by chance only makes groups larger). A group is held back by
the hash of its name, so that the split is the same on every machine and stays when films are added.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneexray.datasets.groups import Groups
from kneexray.geometry import JOINT_LINE
from kneexray.read import find_sources, read_file
from kneexray.roi.localiser import Kind
from kneexray.types import Box, Side

FILM_SIDE = 640
"""Longest side of a film as it is kept for training, in pixels: a knee of a fifth of it still fills a close-up."""
HELD_BACK = 0.3
NEGATIVES_HELD_BACK = 0.4
BOXES = Path(__file__).with_name("boxes.csv")
"""Joints of knees with implants and of lateral views in ``knee-implants`` and ``mixed-knee-films``: shares of the film's width and height.

Drawn by eye on a grid, coarser than the boxes of the Wani films; they serve to tell kinds apart, not to measure a locator.
"""


@dataclass(frozen=True, slots=True)
class Marking:
    """A joint marked by a person: its box in pixels, what it is, and the patient's side, where that is known."""

    box: Box
    kind: Kind = "ap"
    side: Side | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A film (H, W) uint8, at most :data:`FILM_SIDE` px, with all its joints in its pixels."""

    name: str
    pixels: NDArray[np.uint8]
    joints: tuple[Marking, ...] = ()


@dataclass(frozen=True, slots=True)
class Marked:
    """A file with its joints, in its pixels or (``shares``) in shares of its width; ``held_back``: kept for measuring."""

    path: Path
    joints: tuple[Marking, ...]
    held_back: bool
    shares: bool = False


def held_back(group: str, share: float) -> bool:
    """Say whether the group called ``group`` is among the ``share`` held back."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:4]) < share * 2**32


def wani(root: Path) -> list[Marked]:
    """Return the films of Wani & Arora that have boxes, split by group."""
    with (root / "boxes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    out = []
    for name, group in wani_groups(root).items():
        mine = [row for row in rows if row["file"] == name]
        if mine:
            out.append(Marked(root / name, tuple(map(_marking, mine)), held_back(group, HELD_BACK)))
    return out


def wani_groups(root: Path) -> dict[str, str]:
    """Return the group of each film of Wani & Arora, with boxes or without."""
    with (root / "labels.csv").open(newline="", encoding="utf-8") as file:
        scores = {row["file"]: row["t_score"] for row in csv.DictReader(file)}
    names = sorted(scores)
    groups, first = Groups(len(names)), dict[str, int]()
    for i, name in enumerate(names):
        keys = [hashlib.sha256((root / name).read_bytes()).hexdigest()]
        keys += [f"T {scores[name]}"] if scores[name] else []
        for key in keys:
            groups.join(first.setdefault(key, i), i)
    return {name: f"wani {names[groups.find(i)]}" for i, name in enumerate(names)}


def _marking(row: dict[str, str]) -> Marking:
    box = (float(row["x0"]), float(row["y0"]), float(row["x1"]), float(row["y1"]))
    return Marking(box, "implant" if row["implant"] == "yes" else "ap", _side(row["side"]))


def _side(text: str) -> Side | None:
    return "L" if text == "L" else "R" if text == "R" else None


def others(root: Path, *, swap: bool = False) -> list[Marked]:
    """Return the knees with implants and the lateral views in ``knee-implants`` and ``mixed-knee-films`` below ``root``.

    With ``swap`` those are held back that otherwise are not: together a cross-validation of two folds, in which each is measured on once.
    """
    with BOXES.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    out = []
    for name in dict.fromkeys(row["file"] for row in rows):
        mine = [row for row in rows if row["file"] == name]
        with Image.open(root / name) as image:
            ratio = image.height / image.width
        joints = [Marking(_box(float(r["centre_x"]), float(r["joint_y"]) * ratio, float(r["side"])), cast("Kind", r["kind"])) for r in mine]
        out.append(Marked(root / name, tuple(joints), (mine[0]["split"] == "test") != swap, shares=True))
    return out


def _box(x: float, joint_y: float, side: float) -> Box:
    """Return the box of a joint line at ``joint_y``, as :mod:`kneexray.geometry` has it."""
    return (x - side / 2, joint_y - JOINT_LINE * side, x + side / 2, joint_y + (1 - JOINT_LINE) * side)


def negatives(folders: Iterable[Path]) -> list[Marked]:
    """Return the images of ``folders`` that show no knee, identical ones together."""
    out = []
    for source in find_sources(folders):
        path = Path(source.name)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        out.append(Marked(path, (), held_back(digest, NEGATIVES_HELD_BACK)))
    return out


def load(marked: Sequence[Marked]) -> list[Film]:
    """Return the films of files, made small."""
    return [_film(entry) for entry in marked]


def _film(entry: Marked) -> Film:
    pixels = read_file(entry.path).radiographs[0].pixels
    height, width = pixels.shape
    scale = min(1.0, FILM_SIDE / max(height, width))
    image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    factor = scale * (width if entry.shares else 1)
    joints = tuple(replace(joint, box=tuple(edge * factor for edge in joint.box)) for joint in entry.joints)
    return Film(entry.path.name, np.asarray(image), joints)


def crops(root: Path, *, most: int) -> list[Film]:
    """Return ``most`` crops of one AP knee each, evenly drawn from the files below ``root``, each with the whole image as its box.

    The public crops are named by patient and side (``9003175L.png``).
    """
    paths = [Path(source.name) for source in find_sources([root])]
    films = load([Marked(path, (), held_back=False) for path in paths[:: max(1, len(paths) // most)][:most]])
    return [
        replace(
            film,
            joints=(Marking((0.0, 0.0, float(film.pixels.shape[1]), float(film.pixels.shape[0])), "ap", _side(Path(film.name).stem[-1:])),),
        )
        for film in films
    ]
