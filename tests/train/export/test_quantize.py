"""Networks of 8 bits."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper

from kneexray.evaluation.inputs import EvaluationInput
from kneexray.inference.bundle import open_bundle, shipped
from kneexray.inference.engines import open_engine
from kneexray.inference.preprocess import batch
from kneexray.read import read_file
from kneexray.roi import whole_knee
from kneexray.train.export.model_card import changes
from kneexray.train.export.quantize import IMAGES, facts, inner_layers, quantize, sample

SIDE = 24


def write_network(path: Path) -> Path:
    """Write a network with a residual branch: standardise, convolve three times, pool, one linear layer."""
    random = np.random.default_rng(0)
    shapes = {"first": (8, 1, 3, 3), "second": (8, 8, 3, 3), "third": (8, 8, 3, 3), "head": (5, 8)}
    tensors = []
    for name, shape in shapes.items():
        weight = random.normal(size=shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        bias = random.normal(size=shape[0]).astype(np.float32) / 10
        tensors += [numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight"), numpy_helper.from_array(bias, f"{name}.bias")]
    tensors += [numpy_helper.from_array(np.array([2, 3]), "axes"), numpy_helper.from_array(np.float32(0.5), "half")]

    def conv(name: str, given: str) -> list[onnx.NodeProto]:
        inputs = [given, f"{name}.weight", f"{name}.bias"]
        return [
            helper.make_node("Conv", inputs, [f"{name}.out"], name=name, pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"{name}.out"], [f"{name}.relu"], name=f"{name}.relu"),
        ]

    nodes = [
        helper.make_node("Add", ["image", "half"], ["shifted"], name="shift"),
        *conv("first", "shifted"),
        *conv("second", "first.relu"),
        *conv("third", "second.relu"),
        helper.make_node("Add", ["first.relu", "third.relu"], ["sum"], name="sum"),
        helper.make_node("ReduceMean", ["sum", "axes"], ["feature"], name="pool", keepdims=0),
        helper.make_node("Gemm", ["feature", "head.weight", "head.bias"], ["logits"], name="head", transB=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])
    graph = helper.make_graph(nodes, "net", [image], [logits], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_the_layers_between_the_first_and_the_last_are_rounded_and_the_answers_stay(tmp_path: Path):
    exact, rounded = write_network(tmp_path / "exact.onnx"), write_network(tmp_path / "rounded.onnx")
    images = np.random.default_rng(0).random((40, 1, SIDE, SIDE), dtype=np.float32)
    model = onnx.load(exact)
    assert inner_layers(model) == ["first.relu", "second", "second.relu", "third", "third.relu", "sum"]
    quantize(rounded, images[:20])
    made = onnx.load(rounded)
    kept = {tensor.name for tensor in made.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    assert {"first.weight", "head.weight"} <= kept
    assert not {"second.weight", "third.weight"} & kept
    scales = {t.name: numpy_helper.to_array(t).shape for t in made.graph.initializer if "weight_scale" in t.name}
    assert set(scales.values()) == {(8,)}, "one scale a channel"
    expected = open_engine(exact, threads=1).run(["logits"], {"image": images[20:]})[0]
    spread = np.ptp(expected)
    for provider in ("cpu", *(["openvino"] if find_spec("openvino") else [])):
        found = open_engine(rounded, threads=1, provider=provider).run(["logits"], {"image": images[20:]})[0]
        assert 0 < np.abs(found - expected).max() < 0.1 * spread
    again = write_network(tmp_path / "again.onnx")
    quantize(again, images[:20])
    assert again.read_bytes() == rounded.read_bytes()


def in_float32(network: Path, path: Path) -> Path:
    """Write ``network``, whose weights are stored as float16, with float32 weights and no Cast."""
    model = onnx.load(network)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in stored]
    for node in casts:
        tensor = stored[node.input[0]]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), node.output[0]))
        model.graph.node.remove(node)
    assert casts
    onnx.save(model, path)
    return path


@pytest.mark.slow
def test_the_shipped_network_keeps_its_answers_and_its_heatmaps(shared_data: Path, tmp_path: Path):
    bundle = open_bundle(shipped("kl"))
    images = {}
    for split in ("train", "val"):
        crops = sorted((shared_data / "chen2018" / split).glob("*/*"))
        chosen = [read_file(crops[place]).radiographs[0] for place in sample(len(crops), size=12)]
        images[split] = batch([whole_knee(film) for film in chosen], bundle.geometry)
    exact, rounded = (in_float32(bundle.network, tmp_path / name) for name in ("exact.onnx", "rounded.onnx"))
    quantize(rounded, images["train"])
    assert rounded.stat().st_size < 0.35 * exact.stat().st_size  # first and last layers stay as they are
    (logits, maps), (logits_8, maps_8) = (
        open_engine(network, threads=0).run(["logits", "cam"], {"image": images["val"]}) for network in (exact, rounded)
    )
    assert np.sqrt(np.mean((logits_8 - logits) ** 2)) < 0.05 * logits.std()
    for grade, seen, seen_8 in zip(logits.argmax(axis=1), maps, maps_8, strict=True):
        assert np.corrcoef(seen[grade].ravel(), seen_8[grade].ravel())[0, 1] > 0.97


def test_the_sample_is_spread_evenly_and_holds_no_image_twice():
    assert sample(10) == list(range(10))
    chosen = sample(10_000)
    assert (len(chosen), chosen[0], chosen[-1]) == (IMAGES, 0, 9999)


def test_the_loss_is_told_with_its_interval():
    random = np.random.default_rng(0)
    target = random.integers(5, size=60)
    right = np.eye(5)[target] * 0.6 + 0.08
    wrong = right.copy()
    wrong[::10] = np.roll(wrong[::10], 1, axis=1)

    def answers(probabilities: np.ndarray, name: str) -> EvaluationInput:
        files = [f"{number}.png" for number in range(60)]
        owners = [str(number // 2) for number in range(60)]
        none = [None] * 60
        return EvaluationInput("kl", name, "patient", files, target, probabilities, owners, none, none, none)

    told = facts(answers(right, "float32"), answers(wrong, "int8"))
    accuracy = told["loss"]["accuracy"]
    assert accuracy["value"] == pytest.approx(-0.1)
    assert accuracy["low"] < -0.1 < accuracy["high"] < 0
    assert told["agreement"] == pytest.approx(0.9)
    assert "accuracy -0.100 (-0." in changes(told)
    assert "90.0% of the answers are the same" in changes(told)
    gain = {"loss": {"accuracy": {"value": 0.01, "low": -0.005, "high": 0.025}}, "agreement": 0.99}
    assert changes(gain) == "accuracy +0.010 (-0.005 to +0.025); 99.0% of the answers are the same"
