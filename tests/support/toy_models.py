"""Networks simple enough to know what they rest on, as bundles, and films to show them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from kneexray.datasets.manifest import Example
from kneexray.evaluation.answers import Labelled
from kneexray.inference.bundle import CARD, NETWORK, InputCard, read_card, sha256_of, shipped
from kneexray.synthetic import draw_knee

SIDE, CELLS = 32, 8
JOINT, TOP = slice(16, 24), slice(0, 8)
"""Rows of 32 whose stripes have the contrast of the grade: on every toy film both, for a toy model one."""
STRIPES = np.repeat([1, -1, 1, -1], 2).astype(np.float32)
_SEEN = 0.375  # of the greys, between stripes of grade 5, after resampling to 32 px


def write_bundle(folder: Path, *, rows: slice, cam: NDArray[np.float32] | None = None) -> Path:
    """Write a KL model that reads the grade off the stripes in ``rows``; its class map is those rows unless given (8, 8)."""
    weight = np.zeros((1, 1, SIDE, SIDE), np.float32)
    weight[0, 0, rows] = STRIPES[:, None]
    shown = np.abs(weight) if cam is None else np.kron(cam, np.ones((SIDE // CELLS, SIDE // CELLS), np.float32))[None, None]
    values = {
        "weight": weight / np.abs(weight).sum(),
        "shown": shown.astype(np.float32),
        "none": np.zeros((), np.float32),
        "scale": np.full((), 5 / _SEEN, np.float32),
        "middles": np.arange(5, dtype=np.float32) + np.float32(0.5),
        "sharpness": np.full((), -4, np.float32),
        "axes": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Mul", ["image", "weight"], ["read"]),
        helper.make_node("ReduceSum", ["read", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["grade"]),
        helper.make_node("Sub", ["grade", "middles"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["square"]),
        helper.make_node("Mul", ["square", "sharpness"], ["logits"]),
        helper.make_node("Mul", ["image", "none"], ["blank"]),
        helper.make_node("Add", ["blank", "shown"], ["map"]),
        helper.make_node("AveragePool", ["map"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Concat", ["small"] * 5, ["cam"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5]),
            helper.make_tensor_value_info("cam", TensorProto.FLOAT, ["n", 5, CELLS, CELLS]),
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    folder.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / NETWORK)
    facts = {"sha256": sha256_of(folder / NETWORK), "input": InputCard(size=SIDE, zoom=1, shift_y=0), "model_id": "toy"}
    alone = {"also": (), "lengths": (), "format_version": 1}
    (folder / CARD).write_text(read_card(shipped("kl")).model_copy(update=facts | alone).model_dump_json())
    return folder


def write_films(folder: Path, *, patients: int = 4) -> list[Labelled]:
    """Write a film for each grade and patient with the grade's stripes in both places."""
    items = []
    for patient in range(patients):
        for grade in range(5):
            pixels = draw_knee(2, seed=patient, size=4 * SIDE)
            for rows in (JOINT, TOP):
                pixels[4 * rows.start : 4 * rows.stop] = 0.5 + STRIPES.repeat(4)[:, None] * (grade + 0.5) / 10
            path = folder / f"{patient}-{grade}.png"
            Image.fromarray((pixels * 255).round().astype(np.uint8)).save(path)
            items.append(Labelled(path, Example(path.name, str(grade), "kl", patient_id=str(patient), side="R")))
    return items
