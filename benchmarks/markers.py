"""Which side markers are read, rightly and wrongly, what is taken for one where there is none, and how long does it take?

    python benchmarks/markers.py ../shared/data [--least 0.98]

Prints, for each folder of held-back films, how many letters that a person saw are read, then whose knees the held-back films of Wani &
Arora are said to show against what their annotator says, and the time for one film of 3000 x 2500 pixels.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections import Counter
from pathlib import Path

from machine import describe
from shares import told

from kneexray.geometry import resample
from kneexray.makers.side_marker import data
from kneexray.makers.side_marker.train import measure
from kneexray.read import find_sources, read_file
from kneexray.roi import find_knees
from kneexray.roi.localiser import iou
from kneexray.roi.markers import CERTAIN, find_markers
from kneexray.roi.sides import BY_MARKER


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="The folder of wani, mixed-knee-films, knee-implants and not-knees.")
    parser.add_argument("--least", type=float, default=CERTAIN, help="Least probability of a letter that is believed.")
    parser.add_argument("--repeat", type=int, default=20)
    options = parser.parse_args()
    print(describe("onnxruntime", "numpy", "pillow"))
    entries = [entry for entry in data.films(options.data) if entry.held_back]
    for folder in data.FOLDERS:
        found = measure([entry for entry in entries if entry.folder == folder], least=options.least)
        print(
            f"{folder}: {found.films} films, {told(found.read, found.legible)} letters read, "
            f"{len(found.wrong)} wrongly {found.wrong}, {len(found.false)} where no letter was marked {found.false}"
        )
    spines = list(find_sources([options.data / "not-knees" / "spine-dxa"]))
    labelled = sum(bool(find_markers(source.read().radiographs[0].pixels, least=options.least)) for source in spines)
    print(f"spines, labelled L1 to L4: a marker on {labelled} of {len(spines)}")
    sides(options.data / "wani", [entry.path for entry in entries if entry.folder == "wani"])
    film = read_file(next(entry.path for entry in entries if len(entry.marks) == 2)).radiographs[0].pixels
    large = resample(film, (0, 0, film.shape[1], film.shape[0]), size=(2500, 3000))
    times = []
    for _ in range(options.repeat):
        began = time.perf_counter()
        markers = find_markers(large)
        times.append(time.perf_counter() - began)
    print(
        f"3000 x 2500 px, {len(markers)} markers: {statistics.median(times) * 1e3:.0f} ms "
        f"({min(times) * 1e3:.0f} to {max(times) * 1e3:.0f})"
    )


def sides(root: Path, films: list[Path]) -> None:
    """Print how the sides of the knees on ``films`` agree with their annotator's, by what told them."""
    with (root / "boxes.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["side"] in ("L", "R")]
    said: Counter[str] = Counter()
    for path in films:
        knees = find_knees(read_file(path).radiographs[0]).knees
        for row in rows:
            if row["file"] != path.relative_to(root).as_posix():
                continue
            box = (float(row["x0"]), float(row["y0"]), float(row["x1"]), float(row["y1"]))
            knee = max(knees, key=lambda knee: iou(knee.box, box), default=None)
            if knee is None or iou(knee.box, box) < 0.5:
                said["not graded"] += 1
            else:
                source = "by marker" if BY_MARKER in knee.warnings else "otherwise"
                said[f"{source}: {'unknown' if knee.side is None else 'right' if knee.side == row['side'] else 'WRONG'}"] += 1
    print("sides of knees on held-back Wani films:", ", ".join(f"{name} {count}" for name, count in sorted(said.items())))


if __name__ == "__main__":
    main()
