"""What does an image cost, with us and with what people use today? One table, every contender in a process of its own.

    python benchmarks/engines.py FOLDER_OF_CROPS [--count 48] [--repeat 3] [--threads 2]
        [--keras-python PYTHON] [--int8 BUNDLE] [--dicom FOLDER] [--networks shipped,small-cnn,inception-v3,densenet121]

For the shipped model: our predictor with and without heatmaps, bare onnxruntime, bare OpenVINO; with ``--int8`` the same for a bundle made
by ``kneexray export --quantize int8``. For each network of student projects (random weights): Keras ``predict`` one image at a time where
``--keras-python`` names an interpreter that has TensorFlow, PyTorch eager and compiled, onnxruntime and OpenVINO in float32 and in 8 bits,
and our predictor running that very network. Medians over the repeats, lowest to highest in brackets. Slow contenders get fewer images, and
those that are slow to start (``torch.compile``, Keras) fewer repeats: the second column says how many of each. What is not installed is
left out, and said. Then the share of the bare engine's images per second that our predictor keeps, also of bare onnxruntime running both
networks that it runs: the grading one and that of the joint space. Last, the time to decode a DICOM film alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from PIL import Image

from kneexray.inference.bundle import NETWORK, open_bundle, shipped
from kneexray.read import find_sources, read_file

MEASURES = {
    "cold_s": "start to first answer, s",
    "latency_ms": "one image, ms",
    "one_s": "one at a time, images/s",
    "batch16_s": "16 at a time, images/s",
    "folder_s": "from files, images/s",
    "cpu_ms": "from files, processor time, ms",
    "peak_mib": "peak memory, MiB",
}
PATIENCE = 20.0
"""Seconds after which a contender gets no further repeat."""


@dataclass(frozen=True)
class Row:
    """A contender: what the table calls it, which interpreter runs it, what it is told, and the rows that it shall come near."""

    title: str
    contender: str
    python: str
    spec: dict[str, Any]
    limits: tuple[str, ...] = ()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=48, help="images, in batches of 16")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keras-python", help="an interpreter with TensorFlow and Pillow")
    parser.add_argument("--int8", type=Path, help="a bundle made by 'kneexray export --quantize int8'")
    parser.add_argument("--dicom", type=Path, help="a folder of DICOM films")
    parser.add_argument("--networks", default="shipped,small-cnn,inception-v3,densenet121")
    options = parser.parse_args()
    installed = [name for name in ("onnxruntime", "openvino", "torch", "timm") if find_spec(name)]
    print(describe(*installed, "numpy", "pillow"))
    print(f"{options.count} images, {options.threads} threads, {options.repeat} processes a contender, fewer where said\n")
    began = time.monotonic()
    medians: dict[str, dict[str, float]] = {}
    compared: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        files = _copy(options.folder, work / "films", options.count)
        print(f"| {' | '.join(('network and contender', 'images x processes', *MEASURES.values()))} |\n|{'---|' * (len(MEASURES) + 2)}")
        for row in _rows(options, work, files):
            found = _measure(row, options.repeat)
            if isinstance(found, str):
                print(f"| {row.title} | {found} |", flush=True)
                continue
            cells = (_cell([one[measure] for one in found]) for measure in MEASURES)
            print(f"| {row.title} | {min(one['images'] for one in found)} x {len(found)} | {' | '.join(cells)} |", flush=True)
            medians[row.title] = {measure: statistics.median(one[measure] for one in found) for measure in MEASURES}
            compared += [(row.title, limit) for limit in row.limits if limit in medians]
    _compare(medians, compared)
    if options.dicom:
        _decode(options.dicom, options.repeat)
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes in all")


def _copy(source: Path, target: Path, count: int) -> Path:
    """Write ``count`` films of ``source`` as grey PNG, which every contender can read."""
    target.mkdir()
    for number, film in enumerate(islice(find_sources([source]), count)):
        with Image.open(film.name) as image:
            image.convert("L").save(target / f"{number:05d}.png")
    return target


def _rows(options: argparse.Namespace, work: Path, films: Path) -> Iterator[Row]:
    wanted = options.networks.split(",")
    bundles = {"shipped model": shipped("kl")} if "shipped" in wanted else {}
    if options.int8:
        bundles["8-bit bundle"] = options.int8
    for title, bundle in bundles.items():
        images = _arrays(films, work, open_bundle(bundle).geometry.size)
        for heatmap in (True, False):
            yield from _engines(title, bundle / NETWORK, images, films, options.threads, heatmap=heatmap)
    for network in (name for name in wanted if name != "shipped"):
        from student_networks import SIZES, write_bundle

        size = SIZES[network]
        images = _arrays(films, work, size)
        exact = write_bundle(network, size, work / network)
        rounded = _rounded(exact, images, work / f"{network}-int8")
        spec = {"network": network, "size": size, "images": str(images), "folder": str(films), "threads": options.threads}
        if options.keras_python:
            yield Row(f"{network} @ {size}: Keras predict", "keras", options.keras_python, spec)
        yield Row(f"{network} @ {size}: PyTorch eager", "torch_eager", sys.executable, spec)
        yield Row(f"{network} @ {size}: torch.compile", "torch_compile", sys.executable, spec)
        yield from _engines(f"{network} @ {size}", exact / NETWORK, images, films, options.threads, heatmap=False)
        yield from _engines(f"{network} @ {size}, 8 bits", rounded / NETWORK, images, films, options.threads, heatmap=False)


def _engines(title: str, onnx: Path, images: Path, films: Path, threads: int, *, heatmap: bool) -> Iterator[Row]:
    """Yield bare onnxruntime, bare OpenVINO and our predictor on either, for one ONNX file."""
    size = int(np.load(images, mmap_mode="r").shape[1])
    spec = {"onnx": str(onnx), "size": size, "images": str(images), "folder": str(films), "threads": threads}
    spec["outputs"] = ["logits", "cam"] if heatmap else ["logits"]
    shown = " with heatmap" if heatmap else ""
    for engine, provider in (("onnxruntime", "cpu"), ("openvino", "openvino")):
        if find_spec(engine) is None:
            print(f"{engine} is not installed: left out", file=sys.stderr)
            continue
        limits = [f"{title}: bare {engine}{shown}"]
        yield Row(limits[0], engine, sys.executable, spec)
        if engine == "onnxruntime":
            limits.append(f"{title}: bare onnxruntime on both networks{shown}")
            yield Row(limits[1], "both_networks", sys.executable, spec)
        yield Row(f"{title}: kneexray on {engine}{shown}", "kneexray", sys.executable, {**spec, "provider": provider}, tuple(limits))


def _arrays(films: Path, work: Path, size: int) -> Path:
    """Return the films as one array (N, size, size) uint8 on the disk."""
    path = work / f"images-{size}.npy"
    if not path.exists():
        images = []
        for file in sorted(films.iterdir()):
            with Image.open(file) as image:
                images.append(np.asarray(image.resize((size, size))))
        np.save(path, np.stack(images))
    return path


def _rounded(bundle: Path, images: Path, folder: Path) -> Path:
    """Write the same bundle in 8 bits."""
    from student_networks import write_card

    from kneexray.train.export.quantize import quantize

    shutil.copytree(bundle, folder)
    quantize(folder / NETWORK, np.load(images)[:32, None].astype(np.float32) / 255)
    write_card(folder, f"{bundle.name}-int8", open_bundle(bundle).geometry.size)
    return folder


def _measure(row: Row, repeat: int) -> list[dict[str, float]] | str:
    """Return what each process of the row found, or why there is nothing."""
    found: list[dict[str, float]] = []
    began = time.monotonic()
    while not found or (len(found) < repeat and time.monotonic() - began < PATIENCE):
        told = json.dumps({**row.spec, "contender": row.contender, "began": time.time()})
        command = [row.python, str(Path(__file__).with_name("contenders.py")), told]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            return f"failed: {answer.stderr.strip().splitlines()[-1]}"
        found.append(json.loads(answer.stdout.splitlines()[-1]))
    return found


def _compare(medians: dict[str, dict[str, float]], compared: list[tuple[str, str]]) -> None:
    """Print how much of the images per second of each limit the rows keep."""
    measures = ("one_s", "batch16_s", "folder_s")
    print(f"\n| contender | {' | '.join(('as a share of', *(MEASURES[measure].split(',')[0] for measure in measures)))} |\n|{'---|' * 5}")
    for title, limit in compared:
        shares = (f"{medians[title][measure] / medians[limit][measure]:.0%}" for measure in measures)
        print(f"| {title} | {limit.partition(': ')[2]} | {' | '.join(shares)} |")


def _cell(values: list[float]) -> str:
    return f"{_short(statistics.median(values))} ({_short(min(values))} to {_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _decode(folder: Path, repeat: int) -> None:
    """Print how long it takes to read each DICOM film of ``folder``, once read before."""
    print("\n| DICOM film | pixels | decode, ms |\n|---|---|---|")
    for source in find_sources([folder]):
        seconds = []
        for _ in range(repeat + 1):
            began = time.perf_counter()
            study = read_file(source.name)
            seconds.append(1000 * (time.perf_counter() - began))
        for film in study.radiographs:
            print(f"| {Path(source.name).name} | {film.pixels.shape[1]} x {film.pixels.shape[0]} | {_cell(seconds[1:])} |")


if __name__ == "__main__":
    main()
