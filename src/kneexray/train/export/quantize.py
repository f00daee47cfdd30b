"""Weights and activations of 8 bits: a network that processors with integer dot products run faster, and what that costs in accuracy.

Static, per channel, as QuantizeLinear and DequantizeLinear nodes around the layers (Wu et al. 2020, arXiv:2004.09602), so that every
engine reads it. Activations are unsigned, weights signed: the pair that AVX-512 VNNI and its like multiply.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from kneexray.evaluation.compare import compare
from kneexray.evaluation.evaluate import EvaluationInput
from kneexray.inference.engines import load_onnxruntime
from kneexray.version import __version__

IMAGES = 256
"""How many training images set the ranges of activations."""
PERCENTILE = 99.99
"""Share in percent of an activation's values that its range holds. On the KL model's training images that kept the answers better than
99.9 %, lowest to highest value, or the range of least squared error: docs/batch.md."""
VALUES = 1024
"""How many values of an activation each image gives to that."""
METHOD = f"static, per channel, {PERCENTILE} % percentile ranges, first and last layers in float32"
_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
_QUANTIZED = frozenset({*_WEIGHTED, "Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "MaxPool", "Mul", "Relu"})


def quantize(network: Path, images: NDArray[np.floating[Any]]) -> None:
    """Give the inner layers of a float32 ``network`` 8 bits, in place; ``images`` (N, 1, H, W) in [0, 1] set the ranges of activations.

    The first layer of each branch, which sees the image, and the last, which gives logits and class maps, stay as they are: they are
    little of the work.
    """
    load_onnxruntime()
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.shape_inference.infer_shapes(onnx.load(network))
    layers = inner_layers(model)
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=_ranges(model, layers, images),
        nodes_to_quantize=layers,
        nodes_to_exclude=[],
        op_types_to_quantize=sorted(_QUANTIZED),
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made: onnx.ModelProto = quantizer.model.model
    del made.metadata_props[:]
    made.producer_name, made.producer_version = "kneexray", __version__
    onnx.checker.check_model(made, full_check=True)
    network.write_bytes(made.SerializeToString())


def _ranges(model: onnx.ModelProto, layers: Collection[str], images: NDArray[np.floating[Any]]) -> Any:
    """Return onnxruntime's table of the :data:`PERCENTILE` range of each activation into and out of ``layers``, from a sample of values."""
    ort = load_onnxruntime()
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import TensorData, TensorsData

    known = {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.output}
    nodes = [node for node in model.graph.node if node.name in layers]
    names = sorted({name for node in nodes for name in (*node.input, *node.output) if name} - known)
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    seen = np.empty((len(names), len(images), VALUES), np.float32)
    for place, image in enumerate(images):
        for values, answer in zip(seen[:, place], session.run(names, {"image": np.asarray(image, np.float32)[None]}), strict=True):
            values[:] = answer.ravel()[random.integers(answer.size, size=VALUES)]
    outside = (100 - PERCENTILE) / 2
    low, high = np.percentile(seen.reshape(len(names), -1), (outside, 100 - outside), axis=1).astype(np.float32)
    ranges = {name: TensorData(lowest=low[i], highest=high[i]) for i, name in enumerate(names)}
    return TensorsData(CalibrationMethod.Percentile, ranges)


def inner_layers(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that lie behind one layer with weights and before another."""
    after: set[str] = set()  # values that a layer with weights had a part in
    behind = set()
    for node in model.graph.node:
        if after & set(node.input):
            behind.add(node.name)
        if node.name in behind or node.op_type in _WEIGHTED:
            after.update(node.output)
    before: set[str] = set()
    inner = []
    for node in reversed(model.graph.node):
        ahead = bool(before & set(node.output))
        if ahead and node.name in behind and node.op_type in _QUANTIZED:
            inner.append(node.name)
        if ahead or node.op_type in _WEIGHTED:
            before.update(node.input)
    return inner[::-1]


def sample(count: int, *, size: int = IMAGES) -> list[int]:
    """Return the places of ``size`` of ``count`` training images, spread evenly over them."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(size, count))})


def facts(exact: EvaluationInput, rounded: EvaluationInput) -> dict[str, Any]:
    """Return what a card says of quantisation: how, and what it changed on the same images.

    ``loss`` maps each metric to ``{"value", "low", "high"}``, 8 bits minus float32 (patient bootstrap); ``agreement`` is the share of
    images with the same answer.
    """
    compared = compare(exact, rounded)
    changed = {name: row["difference"] for name, row in compared["metrics"].items()}
    return {"method": METHOD, "images": IMAGES, "loss": changed, "agreement": compared["agreement"]}
