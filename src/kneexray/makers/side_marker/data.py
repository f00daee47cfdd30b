"""The films that the reader of side markers learns from and is measured on, and which of them are held back.

Every film was looked at; ``boxes.csv`` holds the letters on them. Films of Wani & Arora are split as for the joint localiser.
Hands and forearms are named by number, a patient's views one after the other: tens of numbers stay together. Chests and implants are
split by the hash of the file, and ``mixed-knee-films`` are held back altogether.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from kneexray.makers.localiser.data import HELD_BACK, held_back, wani_groups
from kneexray.read import find_sources
from kneexray.roi.markers import Letter
from kneexray.types import Box

BOXES = Path(__file__).with_name("boxes.csv")
"""The letters on the films: boxes in pixels, about the letter or its plate, as found by the first step and named by eye.

``?`` is a mark that is to teach nothing and count for nothing: turned by more than 30 degrees, cut, or blurred.
"""
FOLDERS = ("wani", "mixed-knee-films", "knee-implants", "not-knees/bone-fracture", "not-knees/chest-nih")


@dataclass(frozen=True, slots=True)
class Mark:
    """A letter on a film as a person named it, and its box in pixels."""

    letter: Letter | Literal["?"]
    box: Box


@dataclass(frozen=True, slots=True)
class Marked:
    """A file of one of the :data:`FOLDERS` with all its marks; ``held_back``: kept for measuring."""

    path: Path
    folder: str
    marks: tuple[Mark, ...]
    held_back: bool


def films(root: Path) -> list[Marked]:
    """Return the films of :data:`FOLDERS` below ``root``."""
    marks: dict[str, list[Mark]] = {}
    with BOXES.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            box = (float(row["x0"]), float(row["y0"]), float(row["x1"]), float(row["y1"]))
            marks.setdefault(row["file"], []).append(Mark(cast("Letter", row["letter"]), box))
    groups = wani_groups(root / "wani")
    out = []
    for folder in FOLDERS:
        for source in find_sources([root / folder]):
            path = Path(source.name)
            if path.suffix != ".csv":
                name = path.relative_to(root).as_posix()
                out.append(Marked(path, folder, tuple(marks.get(name, ())), _is_held_back(folder, path, groups, root)))
    return out


def _is_held_back(folder: str, path: Path, groups: dict[str, str], root: Path) -> bool:
    if folder == "mixed-knee-films":
        return True
    if folder == "wani":
        return held_back(groups[path.relative_to(root / folder).as_posix()], HELD_BACK)
    if folder.endswith("bone-fracture"):
        return held_back(f"hand {int(path.stem) // 10}", HELD_BACK)
    return held_back(hashlib.sha256(path.read_bytes()).hexdigest(), HELD_BACK)
