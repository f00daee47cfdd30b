"""The commands that make and judge models, as a person would run them: train, export, evaluate, predict with the new model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneexray.synthetic import draw_knee

pytest.importorskip("lightning", reason="the train extra is not installed")
pytestmark = pytest.mark.slow

RECIPE = """
[model]
backbone = "mobilenetv2_050"
weights = ["none"]
[input]
size = 64
[optim]
epochs = 1
batch_size = 8
"""


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kneexray", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for split, patients in (("train", range(4)), ("val", range(10, 12))):
        for grade, name in enumerate(("0Normal", "1Doubtful", "2Mild", "3Moderate", "4Severe")):
            (root / split / name).mkdir(parents=True)
            for patient in patients:
                pixels = (draw_knee(grade, seed=patient, size=120) * 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"9{grade}{patient:05d}R.png")
    return root


@pytest.fixture(scope="module")
def run(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    recipe = folder / "tiny.toml"
    recipe.write_text(
        '[model]\nbackbone = "mobilenetv2_050"\nweights = ["none"]\n[input]\nsize = 64\n[optim]\nepochs = 1\nbatch_size = 8\n'
    )
    answer = command("train", recipe, "--data", knees, "--out", folder / "run", "--set", "optim.lr=1e-3")
    assert answer.returncode == 0, answer.stderr
    assert "split by patient" in answer.stdout
    return folder / "run"


def test_a_run_becomes_a_bundle_that_predicts(knees: Path, run: Path, tmp_path: Path):
    answer = command("export", run, "--out", tmp_path / "bundle")
    assert answer.returncode == 0, answer.stderr
    answer = command("predict", knees / "val", "--model", tmp_path / "bundle", "--out", tmp_path / "out")
    assert answer.returncode == 0, answer.stderr
    data = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert data["model_ids"] == [json.loads((tmp_path / "bundle" / "card.json").read_text())["model_id"]]


def test_evaluate_judges_a_run_a_bundle_and_a_predictions_file_alike(knees: Path, run: Path, tmp_path: Path):
    assert command("export", run, "--out", tmp_path / "bundle").returncode == 0
    figures = []
    for model, extra in ((run, ["--data", knees]), (tmp_path / "bundle", ["--data", knees]), (tmp_path / "e1" / "predictions.parquet", [])):
        out = tmp_path / f"e{len(figures)}"
        answer = command("evaluate", model, *extra, "--split", "val", "--out", out)
        assert answer.returncode == 0, answer.stderr
        figures.append(json.loads((out / "metrics.json").read_text()))
        assert (out / "report.html").stat().st_size > 10_000
    assert figures[0]["n"] == 10
    assert figures[0]["split_quality"] == "patient"
    for name in ("accuracy", "balanced_accuracy", "qwk", "mae", "macro_f1", "macro_auc", "ece", "brier", "nll"):
        assert {"value", "low", "high"} == figures[0][name].keys()
        assert figures[0][name]["value"] == pytest.approx(figures[1][name]["value"])
        assert figures[1][name] == figures[2][name]


def test_wrong_use_is_a_sentence_and_exit_code_2_and_failure_is_1(knees: Path, run: Path, tmp_path: Path):
    recipe = tmp_path / "r.toml"
    recipe.write_text("[optim]\nepochz = 3\n")
    for arguments, code, said in (
        (("train", recipe, "--data", knees, "--out", tmp_path / "x"), 2, "Did you mean epochs"),
        (("train", tmp_path / "absent.toml", "--data", knees, "--out", tmp_path / "x"), 2, "cannot be read"),
        (("export", tmp_path, "--out", tmp_path / "x"), 2, "no run folder"),
        (("evaluate", run, "--out", tmp_path / "x"), 2, "--data"),
        (("evaluate", "absent.parquet", "--stress", "--out", tmp_path / "x"), 2, "need the model and its films"),
        (("evaluate", run, "--data", knees, "--split", "tset", "--out", tmp_path / "x"), 1, "unknown split 'tset'"),
        (("evaluate", run, "--data", tmp_path / "absent", "--out", tmp_path / "x"), 1, "does not exist"),
        (("predict", knees, "--outt", tmp_path / "x"), 2, "No such option"),
    ):
        answer = command(*arguments)
        assert answer.returncode == code, (arguments, answer.stderr)
        assert said in answer.stderr
        assert "Traceback" not in answer.stderr
