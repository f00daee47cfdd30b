"""Which real AP knees does the gate refuse, which other images does it let through, and are its reasons right?

    python benchmarks/gate.py ../shared/data

Real images first: crops and held-back films of AP knees (what is refused is an error), then held-back images of no knee, of implants and
of other views (what is graded is an error). Then reasons, on held-back films spoilt on purpose.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from shares import told

from kneexray.geometry import resample
from kneexray.makers.localiser import data
from kneexray.read import find_sources, read_file
from kneexray.roi import INVERTED, find_knees
from kneexray.roi.localiser import iou
from kneexray.roi.quality import NOISE_WARNING
from kneexray.types import Box

Spoil = Callable[[NDArray[np.float32], Box], NDArray[np.float32]]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="The folder of chen2018, gornale, wani, knee-implants, mixed-knee-films and not-knees.")
    parser.add_argument("--crops", type=int, default=10_000, help="How many crops at most.")
    options = parser.parse_args()
    films = [entry for entry in data.wani(options.data / "wani") if entry.held_back]
    crops(options.data / "chen2018" / "val", options.crops)
    crops(options.data / "gornale" / "MedicalExpert-I", options.crops)
    knees_on(films, "held-back Wani films")
    others = [entry for entry in data.others(options.data) if entry.held_back]
    without = [entry for entry in others if not any(joint.kind == "ap" for joint in entry.joints)]
    kinds = {f"no knee: {f.name}": [e for e in data.negatives([f]) if e.held_back] for f in sorted((options.data / "not-knees").iterdir())}
    kinds["implants"] = [entry for entry in without if entry.joints[0].kind == "implant"]
    kinds["lateral views"] = [entry for entry in without if entry.joints[0].kind == "lateral"]
    graded = sum(refused_of(entries, name) for name, entries in kinds.items())
    total = sum(map(len, kinds.values()))
    print(f"all of these: {told(total - graded, total)} refused")
    as_crops([*kinds["implants"], *kinds["lateral views"]])
    for reason, spoil in SPOILT.items():
        reasons_of(films, reason, spoil)


def crops(folder: Path, most: int) -> None:
    """Print how many images of AP knees have no knee graded, all refusals on them, and how many were turned back from inverted."""
    reasons: Counter[str] = Counter()
    inverted = noisy = refused = count = 0
    for source in islice(find_sources([folder]), most):
        found = find_knees(source.read().radiographs[0])
        count += 1
        refused += not found.knees
        reasons.update(rejection.reason for rejection in found.rejections)
        inverted += any(INVERTED in knee.warnings for knee in found.knees)
        noisy += any(NOISE_WARNING in knee.warnings for knee in found.knees)
    print(
        f"{folder}: {told(refused, count)} images refused, refusals {_list(reasons)}, {inverted} turned back from inverted, {noisy} noisy"
    )


def knees_on(films: Sequence[data.Marked], name: str) -> None:
    """Print how many drawn AP knees are not graded."""
    lost: Counter[str] = Counter()
    count = noisy = 0
    for entry in films:
        found = find_knees(read_file(entry.path).radiographs[0])
        noisy += sum(NOISE_WARNING in knee.warnings for knee in found.knees)
        for joint in entry.joints:
            if joint.kind == "ap":
                count += 1
                if not any(iou(joint.box, knee.box) >= 0.5 for knee in found.knees):
                    lost[", ".join(rejection.reason for rejection in found.rejections) or "not found"] += 1
    print(f"{name}: {told(lost.total(), count)} AP knees not graded {_list(lost)}, {noisy} noisy")


def refused_of(entries: Sequence[data.Marked], name: str) -> int:
    """Print how many images are refused, for which reasons, and return how many are graded."""
    reasons: Counter[str] = Counter()
    graded = []
    for entry in entries:
        found = find_knees(read_file(entry.path).radiographs[0])
        reasons.update({rejection.reason for rejection in found.rejections})
        graded += [entry.path.name] if found.knees else []
    refused = told(len(entries) - len(graded), len(entries))
    print(f"{name}: {refused} refused {_list(reasons)}; graded: {', '.join(graded) or 'none'}")
    return len(graded)


def as_crops(entries: Sequence[data.Marked]) -> None:
    """Print how many joints of ``entries`` are refused when the film is cut to their boxes, as crops are that are taken whole."""
    graded, count = [], 0
    for entry in entries:
        film = read_file(entry.path).radiographs[0]
        unit = film.pixels.shape[1] if entry.shares else 1
        for joint in entry.joints:
            if joint.kind != "ap":
                x0, y0, x1, y1 = (edge * unit for edge in joint.box)
                count += 1
                crop = replace(film, pixels=resample(film.pixels, (x0, y0, x1, y1), size=(299, 299)))
                graded += [entry.path.name] if find_knees(crop).knees else []
    print(f"implants and lateral views, cut to the knee: {told(count - len(graded), count)} refused; graded: {', '.join(graded) or 'none'}")


def reasons_of(films: Sequence[data.Marked], reason: str, spoil: Spoil) -> None:
    """Print what is said of one knee a film after ``spoil``."""
    said: Counter[str] = Counter()
    for entry in films:
        if entry.joints[0].kind != "ap":
            continue
        film = read_file(entry.path).radiographs[0]
        found = find_knees(replace(film, pixels=np.ascontiguousarray(spoil(film.pixels, entry.joints[0].box))))
        said.update([r.reason for r in found.rejections] or [_answer(found.knees[0].warnings)])
    print(f"spoilt: {reason}: {_list(said)}")


def _answer(warnings: Sequence[str]) -> str:
    return "turned back" if INVERTED in warnings else "warned of noise" if NOISE_WARNING in warnings else "graded"


def _one(pixels: NDArray[np.float32], box: Box, times: float = 2.0) -> tuple[NDArray[np.float32], float]:
    """Return a square of ``times`` the box about it, 512 px wide, and the box's side in it."""
    x, y, half = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, times * (box[2] - box[0]) / 2
    return resample(pixels, (x - half, y - half, x + half, y + half), size=(512, 512)), 512 / times


def _turned(degrees: float) -> Spoil:
    def spoil(pixels: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
        image = Image.fromarray(_one(pixels, box, times=2.6)[0]).rotate(-degrees, Image.Resampling.BILINEAR)
        return np.asarray(image)[56:-56, 56:-56]

    return spoil


def _cut_at(share: float) -> Spoil:
    """Cut the film at ``share`` of the box's height: below it there is nothing."""

    def spoil(pixels: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
        one, side = _one(pixels, box)
        return one[: round(256 + (share - 0.5) * side)]

    return spoil


def _noisy(strength: float) -> Spoil:
    def spoil(pixels: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
        one = _one(pixels, box)[0]
        grain = np.random.default_rng(0).standard_normal(one.shape, dtype=np.float32)
        return np.clip(one + np.float32(strength) * grain, 0, 1)

    return spoil


SPOILT: dict[str, Spoil] = {
    "nothing (one knee cut out)": lambda pixels, box: _one(pixels, box)[0],
    "inverted": lambda pixels, box: 1 - _one(pixels, box)[0],
    "turned by 15 degrees": _turned(15),
    "turned by 35 degrees": _turned(35),
    "turned by 90 degrees": lambda pixels, box: np.rot90(_one(pixels, box)[0]),
    "upside down": lambda pixels, box: np.rot90(_one(pixels, box)[0], 2),
    "cut off at the joint line": _cut_at(0.59),
    "cut off just below the joint line": _cut_at(0.66),
    "too small (60 px a knee)": lambda pixels, box: resample(_one(pixels, box)[0], (0, 0, 512, 512), size=(120, 120)),
    "white (four times the exposure)": lambda pixels, box: np.minimum(1, 4 * _one(pixels, box)[0]),
    "noise of 2 % of the grey range": _noisy(0.02),
    "noise of 5 % of the grey range": _noisy(0.05),
    "noise of 10 % of the grey range": _noisy(0.1),
    "dark (a twentieth)": lambda pixels, box: np.round(_one(pixels, box)[0] * 0.05 * 255) / 255,
}


def _list(counts: Counter[str]) -> str:
    return "(" + ", ".join(f"{name} {count}" for name, count in counts.most_common()) + ")"


if __name__ == "__main__":
    main()
