"""Distillation: a student learns from exported bundles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("lightning")

from support.runs import IGNORED, run

from kneexray.datasets import manifest as manifests
from kneexray.errors import ConfigError
from kneexray.inference.bundle import open_bundle, shipped
from kneexray.inference.session import Session
from kneexray.train import data, distil
from kneexray.train.recipe.config import DistilConfig

pytestmark = IGNORED


def test_imitation_is_zero_at_the_teacher_and_has_a_reference_value():
    logits = torch.tensor([[1.0, 2.0, 0.5]], dtype=torch.float64)
    config = DistilConfig(temperature=2.0)
    taught = distil.soften(logits.numpy(), config)
    torch.testing.assert_close(distil.imitation(logits, taught, config), torch.zeros((), dtype=torch.float64))
    half = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    student = torch.tensor([[0.75, 0.25]], dtype=torch.float64).log()
    expected = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert float(distil.imitation(student, half, DistilConfig())) == pytest.approx(expected)


def test_the_gradient_of_imitation_is_right():
    taught = torch.rand(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda z: distil.imitation(z, taught, DistilConfig(temperature=3.0)), logits)


def test_teachers_answer_the_whole_training_split_once(knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    manifest = manifests.load(knees, task="kl")
    examples = manifest.split("val")
    teacher = open_bundle(shipped("kl"))
    monkeypatch.setattr(distil, "CHUNK", 6)  # smaller than the split, and no divisor of it
    logits = distil.teacher_logits([teacher, teacher], manifest, examples, folder=tmp_path)
    expected = Session(teacher).run(data.decode(manifest, examples, teacher.geometry))[0]
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    monkeypatch.setattr(distil, "Session", None)  # a second call reads what the first one kept
    np.testing.assert_array_equal(logits, distil.teacher_logits([teacher, teacher], manifest, examples, folder=tmp_path))


def test_a_teacher_of_another_task_is_refused():
    with pytest.raises(ConfigError, match="answers task 'kl', the recipe trains 'osteoporosis'"):
        distil.open_teachers(DistilConfig(teachers=(str(shipped("kl")),)), task="osteoporosis")


def test_a_taught_run_records_its_teachers_and_resumes_with_the_same_only(knees: Path, tmp_path: Path):
    folder = tmp_path / "run"
    teaching = {"teachers": [str(shipped("kl"))], "weight": 1.0, "temperature": 2.0}
    record = run(knees, folder, distil=teaching)
    digest = open_bundle(shipped("kl")).card.sha256
    assert record["inputs"][str(shipped("kl"))] == digest
    assert len(list((folder / "cache").glob("teachers-*.npy"))) == 1
    identity = json.loads((folder / "data.json").read_text())
    assert list(identity["teachers"].values()) == [digest]
    (folder / "data.json").write_text(json.dumps(identity | {"teachers": {"another": "model"}}))
    with pytest.raises(ConfigError, match="the teachers differ"):
        run(knees, folder, resume=True, distil=teaching)
