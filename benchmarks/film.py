"""How long does a whole clinical film take, from DICOM to JSON, HTML and SR, and how much memory?

    python benchmarks/film.py [--repeat 5] [--profile]

Draws two knees on a film of 3000 x 2500 px, 12 of 16 bits, as DICOM, and prints the time of `kneexray predict` on it as a whole process
(cold: start, imports and loading the models included), the time of the same work again in a process that has done it before (warm), and
the peak memory of that process. `--profile` lists instead where the processor time of the warm work goes.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from machine import describe
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

FORMATS = ("json", "html", "dicom-sr")
ROWS, COLUMNS, SIDE = 2500, 3000, 1100


def write_film(path: Path) -> None:
    """Write a bilateral AP film, patient left on the right, with a little noise on a dark ground."""
    from kneexray.synthetic import draw_knee

    rng = np.random.default_rng(0)
    pixels = rng.normal(0.06, 0.01, (ROWS, COLUMNS))
    top = (ROWS - SIDE) // 2
    for left, knee in ((250, draw_knee(1, size=SIDE, seed=1)), (COLUMNS - 250 - SIDE, draw_knee(3, size=SIDE, seed=2)[:, ::-1])):
        pixels[top : top + SIDE, left : left + SIDE] += knee * 0.9
    values = np.rint(pixels.clip(0, 1) * 4095).astype("<u2")
    film = Dataset()
    film.SOPClassUID, film.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.826.0.1.3680043.8.498.1.1.1"
    film.StudyInstanceUID, film.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.1.1"
    film.PatientName, film.PatientID, film.Modality, film.ViewPosition = "Benchmark", "1", "DX", "AP"
    film.Rows, film.Columns, film.SamplesPerPixel, film.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.ImagerPixelSpacing = [0.1, 0.1]
    film.PixelData = values.tobytes()
    film["PixelData"].VR = "OW"
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, film, enforce_file_format=True)


def seconds(action: Callable[[], object], repeat: int) -> list[float]:
    """Return how long ``action`` takes, ``repeat`` times."""
    figures = []
    for _ in range(repeat):
        began = time.perf_counter()
        action()
        figures.append(time.perf_counter() - began)
    return figures


def warm(film: Path, folder: Path, *, repeat: int, profile: bool) -> None:
    """Grade the film once, then ``repeat`` times more; print the times of those, and the peak memory."""
    from kneexray.predict import Predictor
    from kneexray.read import read_file
    from kneexray.writers import FolderWriter

    predictor = Predictor()

    def grade() -> None:
        with FolderWriter(folder, formats=FORMATS) as writer:
            result = predictor.predict_study(read_file(film))
            assert len({prediction.knee.side for prediction in result.predictions}) == 2, result.rejections
            writer.add(result)

    grade()
    if profile:
        with cProfile.Profile(time.process_time) as profiler:
            grade()
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)
        return
    show("warm", seconds(grade, repeat))
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(f"peak memory   {int(status.partition('VmHWM:')[2].split()[0]) // 1024:6} MiB")


def show(label: str, figures: list[float]) -> None:
    """Print the median, the lowest and the highest."""
    print(f"{label:12}{statistics.median(figures):8.2f} s ({min(figures):.2f} to {max(figures):.2f})", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--warm", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.warm:
        warm(options.warm, options.warm.parent / "warm", repeat=options.repeat, profile=options.profile)
        return
    print(describe("onnxruntime", "numpy", "pillow", "pydicom"))
    with tempfile.TemporaryDirectory() as name:
        film = Path(name) / "film.dcm"
        write_film(film)
        command = [
            sys.executable,
            "-m",
            "kneexray",
            "predict",
            str(film),
            "--out",
            str(film.parent / "cold"),
            "--format",
            ",".join(FORMATS),
        ]
        if not options.profile:
            show("cold", seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), options.repeat))
        # A process of its own, so that drawing the film is not in its memory.
        arguments = ["--warm", str(film), "--repeat", str(options.repeat), *(["--profile"] if options.profile else [])]
        subprocess.run([sys.executable, __file__, *arguments], check=True)


if __name__ == "__main__":
    main()
