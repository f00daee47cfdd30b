"""Films become images of one knee each, what training reads: by boxes that people drew, or by the localiser that prediction uses."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from kneexray import tables
from kneexray.datasets.example import Example
from kneexray.datasets.manifest import Manifest
from kneexray.datasets.prepare import IMAGES, LeftOut
from kneexray.datasets.split import with_groups
from kneexray.errors import DataError
from kneexray.files import write_whole
from kneexray.geometry import resample
from kneexray.read import read_file
from kneexray.roi import find_knees
from kneexray.types import Box, Radiograph

Boxes = Mapping[str, Sequence[tuple[Box, str]]]
"""Film -> the boxes of its knees, pixels of the film, each with its side: L, R or empty."""


@dataclass(frozen=True, slots=True)
class Cropped:
    """One image a knee, and what was left out. ``located`` counts the films without a box, whose knees the localiser found."""

    manifest: Manifest
    left_out: tuple[LeftOut, ...]
    located: int


def read_boxes(path: Path) -> dict[str, list[tuple[Box, str]]]:
    """Return the boxes of a CSV or Parquet table with the columns ``file, x0, y0, x1, y1`` and, where known, ``side``.

    Raises :class:`DataError` naming the row of what is no box.
    """
    found: dict[str, list[tuple[Box, str]]] = {}
    for number, row in enumerate(tables.read_table(path), start=2):
        try:
            x0, y0, x1, y1 = (float(row[name]) for name in ("x0", "y0", "x1", "y1"))
            name = row["file"]
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}, row {number}: is no box ({error}). A table of boxes has the columns file, x0, y0, x1, y1.") from None
        if not (x0 < x1 and y0 < y1):
            raise DataError(f"{path}, row {number}: the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) holds nothing.")
        found.setdefault(name, []).append(((x0, y0, x1, y1), row.get("side", "") if row.get("side") in ("L", "R") else ""))
    return found


def crop(manifest: Manifest, out: Path, *, boxes: Boxes, source: str = "", progress: Callable[[int], None] = lambda done: None) -> Cropped:
    """Write each knee of each film as an image of its own below ``out``, at the film's resolution; return the manifest of these.

    A film is named in ``boxes`` as its path ends. Where it has no box the localiser looks for its knees; a film without any is left
    out. ``source`` names the data set of films that do not tell. Knees of one film stay together: of an unknown patient, they get one
    ``cluster:`` id. Raises :class:`DataError` where no knee is found.
    """
    grouped = with_groups(manifest)
    examples: list[Example] = []
    left_out: list[LeftOut] = []
    located = 0
    with ThreadPoolExecutor() as pool:
        work = pool.map(lambda e: _knees(manifest.path_of(e), _boxes_of(e, boxes)), grouped.examples)
        for done, (example, found) in enumerate(zip(grouped.examples, work, strict=True), start=1):
            if isinstance(found, str):
                left_out.append(LeftOut(example.path, found))
            else:
                located += _boxes_of(example, boxes) is None
                examples.extend(_written(replace(example, source=example.source or source), found, out))
            progress(done)
    if not examples:
        raise DataError(f"{manifest.root}: no film shows a knee: {'; '.join(f'{item.name} ({item.reason})' for item in left_out[:3])}.")
    return Cropped(replace(grouped, examples=tuple(examples), root=out), tuple(left_out), located)


def _boxes_of(example: Example, boxes: Boxes) -> Sequence[tuple[Box, str]] | None:
    parts = PurePosixPath(example.path).parts
    names = ("/".join(parts[i:]) for i in range(len(parts)))
    return next((boxes[name] for name in names if name in boxes), None)


def _knees(path: Path, known: Sequence[tuple[Box, str]] | None) -> list[tuple[Radiograph, Box, str]] | str:
    """Return the knees of a film as (film, box, side), or why there is none."""
    study = read_file(path)
    if not study.radiographs:
        return study.rejections[0].detail
    if known is not None:
        return [(study.radiographs[0], box, side) for box, side in known]
    found = [find_knees(radiograph) for radiograph in study.radiographs]
    knees: list[tuple[Radiograph, Box, str]] = [(knee.radiograph, knee.box, knee.side or "") for one in found for knee in one.knees]
    return knees or next(r.detail for one in found for r in one.rejections)


def _written(example: Example, knees: Sequence[tuple[Radiograph, Box, str]], out: Path) -> list[Example]:
    """Write the knees of one film and return their rows. In 8 bits: files of more do not say which number is white."""
    rows = []
    for number, (radiograph, box, side) in enumerate(knees, start=1):
        side_px = round(max(box[2] - box[0], box[3] - box[1]))
        pixels = resample(radiograph.pixels, box, size=(side_px, side_px))
        data = io.BytesIO()
        Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8)).save(data, "PNG")
        sha256 = hashlib.sha256(data.getvalue()).hexdigest()
        film = example.sha256 or hashlib.sha256(example.path.encode()).hexdigest()
        path = f"{IMAGES}/{example.label}/{PurePosixPath(example.path).stem}-{film[:8]}-{number}.png"
        write_whole(out / path, data.getvalue())
        rows.append(replace(example, path=path, side=side or (example.side if len(knees) == 1 else ""), sha256=sha256))
    return rows
