"""Which engine, threads, batches and session settings cost the least? Processor time of the shipped networks, the contenders in turns.

    python benchmarks/settings.py [--repeat 9] [--networks joint-space,localiser,kl | FILE.onnx,...]

Median milliseconds an image, the least in brackets: processor time of all threads, which other programs on the machine disturb little.
Then the same of loading each network as it is, and as onnxruntime saves it once optimised.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from kneexray.inference.engines import load_onnxruntime, open_engine
from kneexray.measure.joint_space import FOLDER

ort = load_onnxruntime()
SPINNING = "session.intra_op.allow_spinning"
EXTENDED, PLAIN = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, ort.GraphOptimizationLevel.ORT_DISABLE_ALL


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--networks", default="joint-space,localiser,kl")
    options = parser.parse_args()
    print(describe("onnxruntime", *(["openvino"] if find_spec("openvino") else []), "numpy"))
    for name in options.networks.split(","):
        network = Path(name) if name.endswith(".onnx") else FOLDER.with_name(name) / "model.onnx"
        print(f"\n| {name} | ms an image |\n|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "extended.onnx"
            _session(network, level=EXTENDED, save=saved)
            _print(_in_turns(_calls(network, saved), options.repeat))
            print(f"\n| loading {name} | ms |\n|---|---|")
            _print(_in_turns(_loads(network, saved), options.repeat))


def _session(network: Path, *, threads: int = 1, level: Any = None, save: Path | None = None, arena: bool = True, spin: bool = True) -> Any:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    settings.enable_cpu_mem_arena = arena
    settings.add_session_config_entry(SPINNING, str(int(spin)))
    if level is not None:
        settings.graph_optimization_level = level
    if save is not None:
        settings.optimized_model_filepath = str(save)
    return ort.InferenceSession(str(network), settings, providers=["CPUExecutionProvider"])


def _calls(network: Path, saved: Path) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return how many images each contender takes at a call, and the call."""
    alone = _session(network)
    shape = alone.get_inputs()[0].shape[1:]
    images = np.random.default_rng(0).random((16, *shape), np.float32)

    def run(session: Any, size: int = 1) -> tuple[int, Callable[[], object]]:
        return size, lambda: session.run(None, {"image": images[:size]})

    def bound() -> object:
        binding = alone.io_binding()
        binding.bind_cpu_input("image", images[:1])
        for output in alone.get_outputs():
            binding.bind_output(output.name)
        alone.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()

    calls = {
        "onnxruntime, one thread, one image": run(alone),
        "the same, IO binding": (1, bound),
        "the same, without memory arena": run(_session(network, arena=False)),
        "the same, optimised ahead, not laid out for the processor": run(_session(saved, level=PLAIN)),
        "4 images a call": run(alone, 4),
        "16 images a call": run(alone, 16),
        "two threads, not spinning": run(_session(network, threads=2, spin=False)),
    }
    if find_spec("openvino"):
        openvino = open_engine(network, threads=1, provider="openvino")
        calls["OpenVINO, float32, one thread, one image"] = (1, lambda: openvino.run(None, {"image": images[:1]}))
    return calls


def _loads(network: Path, saved: Path) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return ways of loading the network."""
    before, after = (f"{file.stat().st_size / 1e6:.1f} MB" for file in (network, saved))
    loads = {
        f"as it is, {before}": (1, lambda: _session(network)),
        f"optimised ahead, {after}, laid out for the processor": (1, lambda: _session(saved)),
        "optimised ahead, not laid out": (1, lambda: _session(saved, level=PLAIN)),
    }
    if find_spec("openvino"):
        loads["OpenVINO"] = (1, lambda: open_engine(network, threads=1, provider="openvino"))
    return loads


def _in_turns(calls: dict[str, tuple[int, Callable[[], object]]], repeat: int) -> dict[str, list[float]]:
    """Return the milliseconds an image of each call, ``repeat`` rounds after one that is not counted."""
    spent: dict[str, list[float]] = {title: [] for title in calls}
    for _ in range(repeat + 1):
        for title, (size, call) in calls.items():
            began = time.process_time()
            call()
            spent[title].append(1000 * (time.process_time() - began) / size)
    return {title: values[1:] for title, values in spent.items()}


def _print(spent: dict[str, list[float]]) -> None:
    for title, values in spent.items():
        print(f"| {title} | {statistics.median(values):.2f} ({min(values):.2f}) |")


if __name__ == "__main__":
    main()
