"""What a network can run on: onnxruntime's execution providers and OpenVINO, behind one way to call them.

Nothing else imports an inference engine. All of them compute in float32 what the file says (CoreML and TensorRT may round on their own).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, cast

from kneexray.cores import available_cores
from kneexray.errors import BundleError, ConfigError, choices

if TYPE_CHECKING:  # the command line reads the table where numpy is not needed
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Provider:
    """Something to run networks on: onnxruntime's name for it ("" for an engine of its own), and the package that brings it."""

    title: str
    execution_provider: str
    package: str


PROVIDERS: MappingProxyType[str, Provider] = MappingProxyType(
    {
        "cpu": Provider("any processor", "CPUExecutionProvider", "onnxruntime"),
        "cuda": Provider("an NVIDIA GPU", "CUDAExecutionProvider", "onnxruntime-gpu"),
        "tensorrt": Provider("an NVIDIA GPU, by an engine built for it", "TensorrtExecutionProvider", "onnxruntime-gpu"),
        "openvino": Provider("an Intel or AMD processor, by OpenVINO", "", "openvino"),
        "coreml": Provider("an Apple processor", "CoreMLExecutionProvider", "onnxruntime"),
        "directml": Provider("a GPU under Windows", "DmlExecutionProvider", "onnxruntime-directml"),
    }
)
AUTO = ("cuda", "cpu")
"""What ``auto`` tries, in this order: only what gives the same answers everywhere and needs no long preparation.

OpenVINO is not among them: it takes longer to load and, in float32, no less of the processor (docs/performance.md).
"""


class Engine(Protocol):
    """A loaded network. Threads may share it."""

    @property
    def device(self) -> str:
        """The row of :data:`PROVIDERS` that it runs on."""

    def run(self, names: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return the outputs ``names`` (None: all)."""


def open_engine(network: Path, *, threads: int, provider: str = "cpu") -> Engine:
    """Return an ONNX file, loaded to run on ``provider`` (a row of :data:`PROVIDERS`, or ``auto``) with ``threads`` cores a call (0: all).

    Raises :class:`ConfigError` for a provider that is unknown or not here, :class:`BundleError` where the engine refuses the file.
    """
    if provider not in ("auto", *PROVIDERS):
        raise ConfigError(choices("--provider", provider, ("auto", *PROVIDERS)))
    if provider == "openvino":
        return _OpenVino(network, threads=threads)
    for name in AUTO if provider == "auto" else (provider,):
        if _offered(name):
            engine = _OnnxRuntime(network, threads=threads, provider=name)
            if engine.device == name:  # onnxruntime falls back on the processor where a driver or library is missing
                return engine
    row = PROVIDERS[provider]
    raise ConfigError(f"--provider {provider}: {row.title} cannot be used here. It needs the hardware, its driver and '{row.package}'.")


def load_onnxruntime() -> Any:
    """Return the package onnxruntime, its usage reports switched off: nothing leaves a machine unasked.

    Builds since 1.31 prepare them on import, in the user's cache folder; only this variable, set before, prevents it.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _offered(name: str) -> bool:
    return PROVIDERS[name].execution_provider in load_onnxruntime().get_available_providers()


class _OnnxRuntime:
    def __init__(self, network: Path, *, threads: int, provider: str) -> None:
        ort = load_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        wanted = [PROVIDERS[name].execution_provider for name in dict.fromkeys((provider, "cpu"))]
        try:
            self._session = ort.InferenceSession(str(network), options, providers=wanted)
        except Exception as error:  # onnxruntime's own exceptions share no public base
            raise BundleError(f"{network}: onnxruntime {ort.__version__} cannot load it ({error}). Upgrade onnxruntime.") from error
        used = self._session.get_providers()[0]
        self.device = next(name for name, row in PROVIDERS.items() if row.execution_provider == used)

    def run(self, names: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        return cast("list[NDArray[np.float32]]", self._session.run(names, inputs))


class _OpenVino:
    """OpenVINO's processor plugin. One thread a call means as many calls at once as there are cores."""

    device = "openvino"

    def __init__(self, network: Path, *, threads: int) -> None:
        try:
            import openvino
        except ImportError:
            raise ConfigError("--provider openvino: OpenVINO is not installed. Install it: pip install openvino.") from None
        cores = available_cores()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # its own choice would be bfloat16 where the processor has it
            "INFERENCE_NUM_THREADS": cores,
            "NUM_STREAMS": cores // threads if threads else 1,
            "ENABLE_CPU_PINNING": False,  # or the processes of a batch would all sit on the first cores
        }
        try:
            self._model = openvino.Core().compile_model(str(network), "CPU", settings)
        except RuntimeError as error:
            raise BundleError(f"{network}: OpenVINO {openvino.__version__} cannot load it ({error}). Upgrade OpenVINO.") from error
        self._local = threading.local()

    def run(self, names: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        if not hasattr(self._local, "request"):  # threads may share the model, not a request
            self._local.request = self._model.create_infer_request()
        answers = self._local.request.infer(dict(inputs), share_inputs=True)
        outputs = names or [output.any_name for output in self._model.outputs]
        return [answers[name].copy() for name in outputs]
