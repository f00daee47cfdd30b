"""What networks run on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from kneexray import Predictor
from kneexray.errors import BundleError, ConfigError
from kneexray.inference.bundle import GOLDEN, open_bundle, shipped
from kneexray.inference.engines import PROVIDERS, load_onnxruntime, open_engine
from kneexray.inference.session import Session


def test_auto_is_the_processor_where_there_is_no_gpu():
    ort = load_onnxruntime()

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("onnxruntime has CUDA here")
    assert Predictor().device == "cpu"


@pytest.mark.parametrize("provider", sorted(set(PROVIDERS) - {"cpu", "openvino"}))
def test_what_is_not_here_says_what_it_needs(provider: str):
    ort = load_onnxruntime()

    if PROVIDERS[provider].execution_provider in ort.get_available_providers():
        pytest.skip(f"onnxruntime has {provider} here")
    with pytest.raises(ConfigError, match=f"--provider {provider}: .* needs the hardware, its driver and '{PROVIDERS[provider].package}'"):
        _ = Predictor(provider=provider).device


def test_the_engine_prepares_no_reports_of_its_use(tmp_path: Path):
    program = "from kneexray import Predictor; Predictor().load()"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert [str(path) for path in tmp_path.rglob("*")] == []


def test_an_unknown_provider_lists_the_choices():
    with pytest.raises(ConfigError, match="Did you mean openvino"):
        open_engine(shipped("kl") / "model.onnx", threads=1, provider="openvin")


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_gives_the_golden_answers_in_float32_to_many_threads():
    bundle = open_bundle(shipped("kl"))
    session = Session(bundle, threads=1, provider="openvino")
    assert session.device == "openvino"
    with np.load(bundle.folder / GOLDEN) as golden:
        mine = bundle.card.columns("kl")
        image, logits, cam = golden["image"][:2].astype(np.float32) / np.float32(255), golden["logits"][:2, mine], golden["cam"][:2, mine]
    answers: list[tuple[np.ndarray, np.ndarray | None]] = []
    threads = [threading.Thread(target=lambda: answers.append(session.run(image))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 3
    for found in answers:
        np.testing.assert_allclose(found[0], logits, atol=1e-3)
        np.testing.assert_allclose(found[1], cam, atol=1e-3)


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_refuses_what_is_no_network(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"OpenVINO .* cannot load it"):
        open_engine(tmp_path / "model.onnx", threads=1, provider="openvino")
