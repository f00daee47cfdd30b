"""Weights stored at half precision: the file is half as large, and computes in float32 what the rounded weights say."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

SMALLEST = 1024
"""Tensors with fewer numbers stay as they are: biases weigh nothing in a file, and more in an answer."""


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``model`` with every large float32 weight stored as float16, and a Cast back to float32 before its use.

    Inference engines fold such a Cast when they load the file: speed and memory are those of the float32 network.
    """
    out = onnx.ModelProto()
    out.CopyFrom(model)
    casts = []
    for tensor in out.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != onnx.TensorProto.FLOAT or values.size < SMALLEST:
            continue
        name, stored = tensor.name, f"{tensor.name}.float16"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT, name=f"{name}.float32"))
    nodes = [*casts, *out.graph.node]
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    return out
