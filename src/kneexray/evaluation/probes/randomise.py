"""A bundle's network with its upper layers forgotten, for the sanity check of its class map.

Cascading randomisation: Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018 (arXiv:1810.03292).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from kneexray.errors import BundleError
from kneexray.inference.bundle import NETWORK, Bundle

KINDS = frozenset(getattr(onnx.TensorProto, kind) for kind in ("FLOAT", "FLOAT16", "DOUBLE", "INT8", "UINT8"))
"""How networks keep their weights; shapes and axes are of other kinds."""


def randomised(bundle: Bundle, folder: Path, *, share: float, seed: Sequence[int]) -> Bundle:
    """Write ``bundle``'s network into ``folder`` with ``share`` of the weights behind its class map randomised, those nearest to it first.

    Shares are of the tensors, weights and biases; at least one is randomised. Its values are shuffled: their distribution stays, what they
    know goes. With one ``seed``, a larger share shuffles the same tensors in the same way, and more. What is returned is no bundle that
    :func:`~kneexray.inference.bundle.open_bundle` opens: its card describes the network as it was. Raises
    :class:`~kneexray.errors.BundleError` where no weights are found.
    """
    model = onnx.load(bundle.network)
    generator = np.random.default_rng(seed)
    tensors = _nearest_first(model.graph)
    if not tensors:
        raise BundleError(f"{bundle.network}: holds no weights of a known kind behind its class map. Export the model again.")
    for tensor in tensors[: max(1, round(share * len(tensors)))]:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(generator.permutation(values.ravel()).reshape(values.shape), tensor.name))
    (folder / NETWORK).write_bytes(model.SerializeToString())
    return replace(bundle, folder=folder)


def _nearest_first(graph: Any) -> list[Any]:
    """Return the tensors of weights that the class map depends on, by the longest way from each to it."""
    ways = {"cam": 0}  # of each value that it depends on, in nodes
    for node in reversed(graph.node):  # ONNX lists nodes in topological order
        leading = [ways[name] for name in node.output if name in ways]
        for name in node.input if leading else ():
            ways[name] = max(1 + max(leading), ways.get(name, 0))
    weights = [tensor for tensor in graph.initializer if tensor.name in ways and tensor.data_type in KINDS and math.prod(tensor.dims) > 1]
    return sorted(weights, key=lambda tensor: ways[tensor.name])
