"""How well is the joint space found and measured, does its width fall with the Kellgren-Lawrence grade, and how long does it take?

    python benchmarks/joint_space.py ../shared/data

Prints, on held-back knees with masks drawn by hand, the Dice coefficient and the mean absolute error of each compartment's width; on the
Chen 2018 validation crops the rank correlation (Spearman) of the widths with the grade; intervals are of 1,000 resamples of the patients.
Then the time for one knee.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from machine import describe
from scipy.stats import spearmanr

from kneexray.datasets.catalogue.chen2018 import CARD
from kneexray.evaluation.metrics import interval
from kneexray.geometry import CONDYLES
from kneexray.makers.joint_space.train import compare, load
from kneexray.measure.joint_space import NETWORK, measure
from kneexray.read import find_sources
from kneexray.roi import whole_knee
from kneexray.types import Knee

BOX_MM = 107.5
"""About the side of a knee's box: those of films of known spacing have 105 to 110 mm."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="The folder of joint-space-masks and chen2018.")
    parser.add_argument("--network", type=Path, default=NETWORK)
    parser.add_argument("--crops", type=int, default=10_000, help="How many validation crops at most.")
    parser.add_argument("--repeat", type=int, default=50)
    options = parser.parse_args()
    print(describe("onnxruntime", "numpy", "pillow"))
    held_back = [masked for masked in load(options.data / "joint-space-masks") if masked.held_back]
    scores = compare(held_back, network=options.network).to_dict()
    print(f"{scores['knees']} held-back knees of {scores['patients']} patients, {scores['not_measured']} not measured")
    for name, found in scores.items():
        if isinstance(found, dict):
            mm = "" if name == "dice" else f" condyles' widths, some {found['value'] * CONDYLES * BOX_MM:.2f} mm"
            print(f"  {name:30} {found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f}){mm}")
    knees = with_grades(options.data / "chen2018" / "val", network=options.network, most=options.crops)
    print(f"{len(knees)} validation crops, {sum(not knee.measurements for knee, _, _ in knees)} not measured")
    measured = [({m.name: m.value for m in knee.measurements}, grade, patient) for knee, grade, patient in knees if knee.measurements]
    patients = np.array([patient for _, _, patient in measured])
    grades = np.array([grade for _, grade, _ in measured])
    medial, lateral = (np.array([widths[name] for widths, _, _ in measured]) for name in ("jsw_medial", "jsw_lateral"))
    for name, widths in {"medial": medial, "lateral": lateral, "narrower of the two": np.minimum(medial, lateral)}.items():
        rho, low, high = correlation(widths, grades, patients)
        by_grade = ", ".join(f"KL {grade} {np.median(widths[grades == grade]):.4f}" for grade in np.unique(grades))
        print(f"  {name}: rho {rho:.3f} ({low:.3f} to {high:.3f}); medians {by_grade}")
    bare = [whole_knee(knee.radiograph) for knee, _, _ in knees[:1]]
    times = []
    for _ in range(options.repeat):
        began = time.perf_counter()
        measure(bare, network=options.network)
        times.append(time.perf_counter() - began)
    print(f"one knee: {statistics.median(times) * 1e3:.1f} ms ({min(times) * 1e3:.1f} to {max(times) * 1e3:.1f})")


def with_grades(folder: Path, *, network: Path, most: int) -> list[tuple[Knee, int, str]]:
    """Return the crops in ``folder``/GRADE, measured, with their grades and patients."""
    out = []
    for source in list(find_sources(folder))[:: max(1, 826 // most)]:
        path = Path(source.name)
        who = CARD.identify(path.stem)
        if who:
            (knee,) = measure([whole_knee(source.read().radiographs[0], side=who.side)], network=network)
            out.append((knee, int(path.parent.name), who.patient_id))
    return out


def correlation(widths: np.ndarray, grades: np.ndarray, patients: np.ndarray) -> tuple[float, float, float]:
    """Return Spearman's rank correlation of ``widths`` and ``grades`` (N,) and its interval over resamples of the ``patients``."""
    rng = np.random.default_rng(0)
    names, owner = np.unique(patients, return_inverse=True)
    rows = [np.flatnonzero(owner == number) for number in range(len(names))]
    drawn = []
    for _ in range(1000):
        some = np.concatenate([rows[number] for number in rng.integers(len(rows), size=len(rows))])
        drawn.append(spearmanr(widths[some], grades[some]).statistic)
    low, high = interval(drawn) or (float("nan"), float("nan"))
    return float(spearmanr(widths, grades).statistic), low, high


if __name__ == "__main__":
    main()
