"""Does the localiser find the joints of films that it has not seen, and nothing on others, and how fast?

    python benchmarks/localiser.py ../shared/data

Prints, on the held-back films of Wani & Arora, how the boxes found overlap those drawn by hand, and on held-back images without an AP
knee how many got a box; then the time for one film of 3000 x 2500 pixels, and how far the cartilage band (roi/cartilage.py) lies from
joint spaces that people drew.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from machine import describe
from shares import told

from kneexray.geometry import resample
from kneexray.inference.cartilage import cartilage_band
from kneexray.makers.localiser import data
from kneexray.makers.localiser.train import measure
from kneexray.read import read_file
from kneexray.roi.localiser import NETWORK, find_joints


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="The folder of wani, knee-implants, mixed-knee-films and not-knees.")
    parser.add_argument("--network", type=Path, default=NETWORK)
    parser.add_argument(
        "--swap", action="store_true", help="Measure on the implants and laterals not held back: of a network made with --swap."
    )
    parser.add_argument("--repeat", type=int, default=20)
    options = parser.parse_args()
    print(describe("onnxruntime", "numpy", "pillow"))
    wani = data.wani(options.data / "wani")
    everything = [*wani, *data.others(options.data, swap=options.swap), *data.negatives([options.data / "not-knees"])]
    held_back = [entry for entry in everything if entry.held_back]
    found = measure(held_back, network=options.network)
    print(f"{found.films} held-back films, {len(found.ious)} knees")
    print(
        f"  median IoU            {np.median(found.ious):.3f} (lowest {found.ious.min():.2f}, 5 % below {np.percentile(found.ious, 5):.2f})"
    )
    for least in (0.5, 0.8):
        print(f"  IoU >= {least}            {told(int((found.ious >= least).sum()), len(found.ious))}")
    print(f"  boxes too many        {found.extra}")
    print(f"  side by the fibula    right for {found.sides[0]} of {found.sides[1]} knees of known side")
    print(
        f"{found.without} held-back images without a native AP knee: {len(found.wrongly)} with a box: {', '.join(found.wrongly) or 'none'}"
    )
    film = read_file(next(entry.path for entry in held_back if len(entry.joints) == 2)).radiographs[0].pixels
    large = resample(film, (0, 0, film.shape[1], film.shape[0]), size=(2500, 3000))
    times = []
    for _ in range(options.repeat):
        began = time.perf_counter()
        joints = find_joints(large, network=options.network)
        times.append(time.perf_counter() - began)
    print(
        f"3000 x 2500 px, {len(joints)} joints: {statistics.median(times) * 1e3:.0f} ms ({min(times) * 1e3:.0f} to {max(times) * 1e3:.0f})"
    )
    errors = np.abs(cartilage_errors(options.data / "joint-space-masks"))
    print(
        f"cartilage band, {len(errors)} crops: off by {np.median(errors):.1%} of the height (95 % within {np.percentile(errors, 95):.1%})"
    )


def cartilage_errors(folder: Path) -> np.ndarray:
    """Return how far the band's middle lies below the drawn joint space's, as shares of the crops' heights."""
    errors = []
    for path in sorted((folder / "Train_X").iterdir()):
        pixels = read_file(path).radiographs[0].pixels
        mask = read_file(folder / "Train_Y" / path.name).radiographs[0].pixels
        height, width = pixels.shape
        _, top, _, bottom = cartilage_band(pixels, (0, 0, width, height))
        errors.append(((top + bottom) / 2 - np.median(np.nonzero(mask > 0.5)[0])) / height)
    return np.array(errors)


if __name__ == "__main__":
    main()
