"""One contender of ``benchmarks/engines.py``, in a process of its own: how fast does it answer, and what does it take?

    python benchmarks/contenders.py '{"contender": "onnxruntime", ...}'

Prints one line of JSON. Needs nothing but its own engine, NumPy and Pillow, so that it runs in another virtual environment too.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

Answer = Callable[[np.ndarray], object]
"""Grades grey images (N, S, S) uint8."""
Files = Callable[[list[Path]], object]
"""Grades image files, one after the other."""
BATCH = 16
LONG = 1.0
"""Seconds that a measure takes about: a contender that would need longer for all images gets fewer of them, and no fewer than a batch."""


def keras(spec: dict[str, Any]) -> tuple[Answer, Files]:
    """``model.predict`` one image at a time: how student projects do it. At batch 16 all at once."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(spec["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(1)
    size, layers, classes = spec["size"], tf.keras.layers, 5
    shape = (size, size, 3)
    if spec["network"] == "small-cnn":
        model = tf.keras.Sequential([layers.Input(shape)])
        for width in (32, 64, 128):
            model.add(layers.Conv2D(width, 3, padding="same", activation="relu"))
            model.add(layers.MaxPooling2D())
        for layer in (layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dense(classes)):
            model.add(layer)
    else:
        made = {"inception-v3": tf.keras.applications.InceptionV3, "densenet121": tf.keras.applications.DenseNet121}[spec["network"]]
        model = made(weights=None, input_shape=shape, classes=classes)

    def answer(images: np.ndarray) -> object:
        return model.predict(np.repeat(images[..., None], 3, axis=3).astype(np.float32) / 255, verbose=0)

    return answer, _files(answer, size)


def torch_eager(spec: dict[str, Any], *, compiled: bool = False) -> tuple[Answer, Files]:
    """PyTorch as it stands."""
    import torch
    from student_networks import network

    torch.set_num_threads(spec["threads"])
    net = network(spec["network"], spec["size"])
    run = torch.compile(net, dynamic=False) if compiled else net

    def answer(images: np.ndarray) -> object:
        with torch.inference_mode():
            return run(torch.from_numpy(images[:, None].astype(np.float32) / 255)).numpy()

    return answer, _files(answer, spec["size"])


def torch_compile(spec: dict[str, Any]) -> tuple[Answer, Files]:
    """PyTorch, compiled; the compilation counts as cold start."""
    return torch_eager(spec, compiled=True)


def onnxruntime(spec: dict[str, Any]) -> tuple[Answer, Files]:
    """ONNX Runtime and nothing around it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = spec["threads"]
    session = ort.InferenceSession(spec["onnx"], options, providers=["CPUExecutionProvider"])

    def answer(images: np.ndarray) -> object:
        return session.run(spec["outputs"], {"image": images[:, None].astype(np.float32) / 255})

    return answer, _files(answer, spec["size"])


def both_networks(spec: dict[str, Any]) -> tuple[Answer, Files]:
    """The two networks that our predictor runs on a crop, the grading one and that of the joint space, and nothing around them."""
    from kneexray.measure.joint_space import HEIGHT, NETWORK, WIDTH

    grade, _ = onnxruntime(spec)
    measure, _ = onnxruntime({**spec, "onnx": str(NETWORK), "outputs": None, "threads": 1})  # waiting threads of two networks would spin
    views = np.random.default_rng(0).integers(0, 256, (BATCH, HEIGHT, WIDTH), np.uint8)

    def answer(images: np.ndarray) -> object:
        return grade(images), measure(views[: len(images)])

    return answer, _files(answer, spec["size"])


def openvino(spec: dict[str, Any]) -> tuple[Answer, Files]:
    """OpenVINO and nothing around it, in float32."""
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": spec["threads"], "NUM_STREAMS": 1}
    request = ov.Core().compile_model(spec["onnx"], "CPU", settings).create_infer_request()

    def answer(images: np.ndarray) -> object:
        return request.infer({"image": images[:, None].astype(np.float32) / 255}, share_inputs=True)

    return answer, _files(answer, spec["size"])


def kneexray(spec: dict[str, Any]) -> tuple[Answer, Files]:
    """Our predictor: gate, preprocessing, network, calibration, prediction sets; from a folder also reading, on as many threads."""
    from kneexray import Predictor
    from kneexray.roi.gate import MINIMUM_PIXELS
    from kneexray.types import FilmResult, Radiograph, Study

    def predictor(threads: int) -> Predictor:
        heatmaps = "cam" in spec["outputs"]
        options = {"models": [Path(spec["onnx"]).parent], "roi_mode": "whole", "heatmaps": heatmaps, "provider": spec["provider"]}
        return Predictor(threads=threads, **options)

    alone, many = predictor(spec["threads"]), predictor(1)

    def answer(images: np.ndarray) -> object:
        finer = -(-MINIMUM_PIXELS // images.shape[1])  # a film as small as some networks' input would be refused
        films = (Radiograph(film.astype(np.float32) / 255, "x") for film in images.repeat(finer, axis=1).repeat(finer, axis=2))
        return graded(alone.predict_studies([Study("x", (film,)) for film in films]))

    def graded(results: Iterable[FilmResult]) -> list[FilmResult]:
        """Return ``results``; a film without a grade would be counted as a very fast one."""
        kept = list(results)
        if refused := [result for result in kept if not result.predictions]:
            raise SystemExit(f"{len(refused)} of {len(kept)} films were not graded: {refused[0].rejections[0].detail}")
        return kept

    return answer, lambda files: graded(many.predict(files, jobs=spec["threads"]))


CONTENDERS = {made.__name__: made for made in (keras, torch_eager, torch_compile, onnxruntime, both_networks, openvino, kneexray)}


def _files(answer: Answer, size: int) -> Files:
    from PIL import Image

    def grade(files: list[Path]) -> None:
        for file in files:
            with Image.open(file) as image:
                answer(np.asarray(image.convert("L").resize((size, size)))[None])

    return grade


def main() -> None:
    """Measure the contender that the command line describes."""
    spec = json.loads(sys.argv[1])
    answer, grade_files = CONTENDERS[spec["contender"]](spec)
    images, files = np.load(spec["images"]), sorted(Path(spec["folder"]).iterdir())
    answer(images[:1])
    cold = time.time() - spec["began"]
    count = BATCH * max(1, min(len(images), int(LONG / _seconds(lambda: answer(images[:1])))) // BATCH)
    each = [_seconds(lambda place=place: answer(images[place : place + 1])) for place in range(count)]
    answer(images[:BATCH])
    batches = _seconds(lambda: [answer(images[place : place + BATCH]) for place in range(0, count, BATCH)])
    grade_files(files[:1])
    used = time.process_time()
    from_files = _seconds(lambda: grade_files(files[:count]))
    used = time.process_time() - used
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    found = {"cold_s": cold, "latency_ms": 1000 * statistics.median(each), "one_s": count / sum(each), "batch16_s": count / batches}
    print(json.dumps({**found, "folder_s": count / from_files, "cpu_ms": 1000 * used / count, "peak_mib": peak, "images": count}))


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
