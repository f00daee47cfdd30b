"""A trained run, exported in 8 bits."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support.runs import IGNORED, run

from kneexray.cli.app import run as command
from kneexray.inference.bundle import open_bundle
from kneexray.train.export.model_card import PAGE, changes

pytestmark = [pytest.mark.slow, *IGNORED]


def test_the_card_and_the_command_say_what_it_cost(knees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(knees, tmp_path / "run")
    assert command(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle"), "--quantize", "int8"]) == 0
    said = capsys.readouterr().out
    card = open_bundle(tmp_path / "bundle").card
    assert card.quantization is not None
    assert card.quantization["loss"]["accuracy"].keys() == {"value", "low", "high"}
    assert f"8 bits against float32 on the same images: {changes(card.quantization)}" in said
    assert "Computes in 8 bits" in (tmp_path / "bundle" / PAGE).read_text()
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(tmp_path / "bundle" / "model.onnx").graph.node)
    assert command(["export", str(tmp_path / "run"), "--out", str(tmp_path / "other"), "--quantize", "int4"]) == 2
