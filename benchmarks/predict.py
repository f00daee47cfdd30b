"""How much of the bare network's speed does ``predict`` keep, does memory grow, and what does one image cost?

    python benchmarks/predict.py FOLDER_OF_CROPS [--count 500] [--repeat 3]

Prints images per second of: onnxruntime in a bare loop over ready tensors, all cores on one batch of 1 to 16 after the other, then each
core on an image of its own, as ``predict`` does; and of ``predict`` from files to CSV, JSON, HTML and heatmaps, with its share of the best
of these loops. Then peak memory over 1, 2 and 4 passes of the same files, and the time of one-image commands as whole processes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from machine import describe

from kneexray.cli.predict import grade_into
from kneexray.inference.bundle import open_bundle, shipped
from kneexray.inference.preprocess import batch
from kneexray.inference.session import Session
from kneexray.predict import Predictor
from kneexray.read import find_sources
from kneexray.roi import whole_knee


def rate(action: Callable[[], int], repeat: int) -> tuple[float, float, float]:
    """Return median, lowest and highest images per second of ``action``, which returns how many it did."""
    figures = []
    for _ in range(repeat):
        began = time.perf_counter()
        done = action()
        figures.append(done / (time.perf_counter() - began))
    return statistics.median(figures), min(figures), max(figures)


def bare(images: np.ndarray, *, size: int, cam: bool) -> Callable[[], int]:
    """Return a loop of one session on all cores over ready batches."""
    session = Session(open_bundle(shipped("kl")), threads=0).load()
    session.run(images[:size], cam=cam)

    def loop() -> int:
        for start in range(0, len(images) - size + 1, size):
            session.run(images[start : start + size], cam=cam)
        return len(images) // size * size

    return loop


def side_by_side(images: np.ndarray) -> Callable[[], int]:
    """Return the same for as many calls at once as there are cores, one image and one core each: how ``predict`` calls it."""
    session = Session(open_bundle(shipped("kl")), threads=1).load()
    cores = os.cpu_count() or 1

    def loop() -> int:
        with ThreadPoolExecutor(cores) as pool:
            return len(list(pool.map(lambda place: session.run(images[place : place + 1]), range(len(images)))))

    return loop


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory-passes", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    paths = [source.name for source in islice(find_sources([options.folder]), options.count)]
    if options.memory_passes:
        with tempfile.TemporaryDirectory() as folder:
            grade_into(
                list(islice(cycle(_copies(paths, Path(folder), options.memory_passes)), options.memory_passes * len(paths))),
                Path(folder) / "out",
            )
        print("peak", _peak_mebibytes())
        return
    print(describe("onnxruntime", "numpy", "pillow"))
    bundle = open_bundle(shipped("kl"))
    print(
        f"{bundle.card.model_id}, {bundle.card.input.size} px, {len(paths)} images, "
        f"{options.repeat} runs each: median (lowest to highest) images/s"
    )
    studies = [source.read() for source in islice(find_sources([options.folder]), options.count)]
    images = batch([whole_knee(study.radiographs[0]) for study in studies], bundle.geometry)
    best = 0.0
    for size in (1, 4, 16):
        figures = rate(bare(images, size=size, cam=True), options.repeat)
        best = max(best, figures[0])
        print(f"bare onnxruntime, batch {size:2}       {figures[0]:7.1f} ({figures[1]:.1f} to {figures[2]:.1f})")
    figures = rate(side_by_side(images), options.repeat)
    best = max(best, figures[0])
    print(f"bare onnxruntime, a core each  {figures[0]:7.1f} ({figures[1]:.1f} to {figures[2]:.1f})")
    for label, formats, heatmaps in (
        ("csv,json,html + heatmaps", ("csv", "json", "html"), True),
        ("csv,json, no heatmaps", ("csv", "json"), False),
    ):

        def run(formats: tuple[str, ...] = formats, heatmaps: bool = heatmaps) -> int:
            with tempfile.TemporaryDirectory() as folder:
                grade_into(paths, Path(folder), formats=formats, heatmaps=heatmaps)
            return len(paths)

        figures = rate(run, options.repeat)
        print(f"predict, {label:26}{figures[0]:7.1f} ({figures[1]:.1f} to {figures[2]:.1f})  {figures[0] / best:.0%} of the best bare loop")
    Predictor()
    for passes in (1, 2, 4):
        answer = subprocess.run(
            [sys.executable, __file__, options.folder, "--count", str(options.count), "--memory-passes", str(passes)],
            capture_output=True,
            text=True,
            check=True,
        )
        print(f"peak memory over {passes * len(paths)} files: {answer.stdout.split()[-1]} MiB")
    whole_process(
        "import kneexray.predict, onnxruntime",
        [sys.executable, "-c", "import kneexray.cli.app, kneexray.predict, kneexray.writers.html, onnxruntime"],
        options.repeat,
    )
    load = "import kneexray.cli.app, kneexray.predict as p, kneexray.writers.html; [g.session.load() for g in p.Predictor().graders]"
    whole_process("... and load the model", [sys.executable, "-c", load], options.repeat)
    with tempfile.TemporaryDirectory() as folder:
        whole_process(
            "kneexray predict, one image", [sys.executable, "-m", "kneexray", "predict", paths[0], "--out", folder], options.repeat
        )
    whole_process("kneexray info", [sys.executable, "-m", "kneexray", "info"], options.repeat)


def whole_process(label: str, command: list[str], repeat: int) -> None:
    """Print the wall time of a command as a process, after one warm-up."""
    figures = []
    for _ in range(repeat + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        figures.append(time.perf_counter() - began)
    print(f"{label:32}{statistics.median(figures[1:]):6.2f} s ({min(figures[1:]):.2f} to {max(figures[1:]):.2f})")


def _peak_mebibytes() -> int:
    """Return the peak resident memory of this process; ``ru_maxrss`` would be that of the parent where it was larger."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def _copies(paths: list[str], folder: Path, passes: int) -> list[str]:
    """Return the paths ``passes`` times under different names: the same file given twice is graded once."""
    out = []
    for number in range(passes):
        for path in paths:
            copy = folder / f"pass{number}" / Path(path).name
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(Path(path).read_bytes())
            out.append(str(copy))
    return out


if __name__ == "__main__":
    main()
