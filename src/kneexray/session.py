"""Runs a bundle's network. The only place that imports an inference engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneexray.bundle import Bundle
from kneexray.errors import BundleError


class Session:
    """A loaded network. Threads may share it.

    ``threads`` is how many cores one call of :meth:`run` uses (0: all). To use every core on many images, call
    :meth:`run` from as many Python threads on a session of one thread each: that scales better than one call on all.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        self.bundle = bundle
        self.threads = threads
        self._engine: Any = None

    def load(self) -> Session:
        """Load the network now rather than at the first image. Raises :class:`BundleError` where the engine refuses it."""
        if self._engine is None:
            self._engine = open_engine(self.bundle.network, threads=self.threads)
        return self

    def run(self, images: NDArray[np.float32], *, cam: bool = True) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return logits (N, K) and class maps (N, K, h, w), None where ``cam`` is false or the model has none, of images (N, 1, H, W)."""
        self.load()
        cam = cam and self.bundle.card.class_map
        outputs = self._engine.run(["logits", "cam"] if cam else ["logits"], {"image": images})
        return outputs[0], outputs[1] if cam else None


def open_engine(network: Path, *, threads: int) -> Any:
    """Return onnxruntime's session of an ONNX file. Raises :class:`BundleError` where the engine refuses it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no public base
        raise BundleError(f"{network}: onnxruntime {ort.__version__} cannot load it ({error}). Upgrade onnxruntime.") from error
