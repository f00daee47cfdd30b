"""Whole runs with the choices that change what a run is: several tasks, networks without a class map, sampling, preview, bad data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("lightning")

from support.runs import IGNORED, RECIPE, run

from kneexray.datasets import manifest as manifests
from kneexray.datasets.example import COLUMNS
from kneexray.datasets.manifest import Manifest
from kneexray.errors import ConfigError, DataError
from kneexray.inference.bundle import open_bundle
from kneexray.inference.session import Session
from kneexray.predict import NO_MAP, Predictor
from kneexray.synthetic import draw_knee
from kneexray.tasks import TASKS
from kneexray.train import labels
from kneexray.train.curves import read_metrics
from kneexray.train.export.export import export, load_net
from kneexray.train.preview import DRAWS, write_preview
from kneexray.train.recipe import config as configs
from kneexray.train.run import train
from kneexray.train.run_folder import load_config

pytestmark = [pytest.mark.slow, *IGNORED]
COMMAND = ["kneexray", "test"]
QUICK = {**RECIPE, "input": {"size": 64}, "optim": {**RECIPE["optim"], "epochs": 1}}


@pytest.fixture
def two_tasks(knees: Path, tmp_path: Path) -> Path:
    """A manifest in which every other KL film has a bone density class too, and a few films have nothing but that."""
    kl = manifests.load(knees, task="kl")
    rows = []
    for i, e in enumerate(kl.examples):
        path = str(kl.path_of(e))
        if i % 5 != 1:
            rows.append(dataclasses.replace(e, path=path))
        if i % 2:
            rows.append(dataclasses.replace(e, path=path, task="osteoporosis", label=TASKS["osteoporosis"].labels[i % 3]))
    text = [",".join(COLUMNS), *(",".join(dataclasses.astuple(row)) for row in rows)]
    (tmp_path / "manifest.csv").write_text("\n".join(text), encoding="utf-8")
    return tmp_path / "manifest.csv"


def test_one_network_learns_two_tasks_and_each_exports_as_a_bundle(two_tasks: Path, tmp_path: Path):
    config = configs.validate({**QUICK, "also": ["osteoporosis"]}, where="test")
    main, other = (manifests.load(two_tasks, task=task) for task in config.tasks)
    fit = labels.collect([main, other], "train")
    known = fit.labels != labels.MISSING
    assert known.any(axis=1).all()
    assert not known.all(axis=0).any()
    assert (known.sum(), len(fit.examples)) == (len(main.split("train")) + len(other.split("train")), len({e.path for e in fit.examples}))
    assert set(fit.strata()) <= set(range(8))
    assert (fit.strata()[known[:, 0]] == fit.labels[known[:, 0], 0]).all()

    record = train(config, main, tmp_path / "run", also=[other], command=COMMAND)
    assert {"val_accuracy", "val_osteoporosis_accuracy"} <= record["outputs"]["best"].keys()
    export([tmp_path / "run"], tmp_path / "bundle", task="osteoporosis", command=COMMAND)
    bundle = open_bundle(tmp_path / "bundle")
    assert (bundle.card.task, bundle.card.data.images) == ("osteoporosis", len(other.split("train")))
    images = np.random.default_rng(0).random((2, 1, 64, 64), dtype=np.float32)
    logits, cam = Session(bundle).run(images)
    assert cam is not None
    nets = [load_net(tmp_path / "run", config, task=task) for task in (None, "osteoporosis")]
    with torch.inference_mode():
        first, second = (torch.stack([net(torch.from_numpy(images)), net(torch.from_numpy(images).flip(3))]).mean(dim=0) for net in nets)
    assert first.shape == (2, 5)
    np.testing.assert_allclose(logits, second, atol=1e-4)
    with pytest.raises(ConfigError, match="Known: kl, osteoporosis"):
        export([tmp_path / "run"], tmp_path / "none", task="oa", command=COMMAND)


def test_a_file_or_patient_in_two_splits_by_task_is_refused(two_tasks: Path, tmp_path: Path):
    config = configs.validate({**QUICK, "also": ["osteoporosis"]}, where="test")
    main, other = (manifests.load(two_tasks, task=task) for task in config.tasks)
    moved = [dataclasses.replace(e, split="val" if e.split == "train" else "train") for e in other.examples]
    with pytest.raises(DataError, match="'path' are in split 'train' for task 'kl' and in 'val' for 'osteoporosis'"):
        train(config, main, tmp_path / "run", also=[dataclasses.replace(other, examples=tuple(moved))], command=COMMAND)
    with pytest.raises(ConfigError, match="the recipe trains kl, osteoporosis; the data are of kl"):
        train(config, main, tmp_path / "run", command=COMMAND)
    assert not (tmp_path / "run").exists()


def test_a_network_without_a_class_map_works_from_training_to_prediction(knees: Path, tmp_path: Path):
    run(knees, tmp_path / "run", **{**QUICK, "loss": {"name": "corn"}, "model": {**RECIPE["model"], "hidden": [16]}})
    card = export([tmp_path / "run"], tmp_path / "bundle", command=COMMAND)
    assert not card.class_map
    bundle = open_bundle(tmp_path / "bundle")
    images = np.random.default_rng(0).random((2, 1, 64, 64), dtype=np.float32)
    logits, cam = Session(bundle).run(images)
    assert cam is None
    net = load_net(tmp_path / "run", load_config(tmp_path / "run"))
    with torch.inference_mode():
        both = torch.stack([net(torch.from_numpy(images)), net(torch.from_numpy(images).flip(3))])
    np.testing.assert_allclose(logits, both.mean(dim=0), atol=1e-4)
    with np.load(tmp_path / "bundle" / "golden.npz") as golden:
        assert set(golden) == {"image", "logits"}
    film = tmp_path / "film.png"
    Image.fromarray((draw_knee(3, seed=1, size=256) * 255).astype(np.uint8)).save(film)
    (result,) = Predictor(models=[tmp_path / "bundle"], roi_mode="whole").predict([film])
    (prediction,) = result.predictions
    assert prediction.heatmap is None
    assert NO_MAP in prediction.warnings
    assert prediction.probabilities.sum() == pytest.approx(1)
    (result,) = Predictor(models=[tmp_path / "bundle"], roi_mode="whole", heatmaps=False).predict([film])
    assert NO_MAP not in result.predictions[0].warnings


def test_the_same_seed_gives_the_same_curve_and_another_does_not(knees: Path, tmp_path: Path):
    changes = {
        "augment": {"mixup": 0.4, "cutmix": 1.0, "blur": 0.01, "shear": 5, "per_class": {"4": 1.5}},
        "imbalance": {"sampling": "sqrt"},
        "loss": {"name": "focal", "smoothing": 0.1},
        "optim": {**RECIPE["optim"], "epochs": 2, "layer_decay": 0.8, "schedule": "constant", "average": 0.0, "clip": 0.0},
    }
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(knees, tmp_path / name, seed=seed, **changes)
    first, again, other = (read_metrics(tmp_path / name / "metrics.jsonl") for name in "abc")
    assert first == again
    assert first != other


def test_a_preview_shows_every_class_and_the_mixing(knees: Path, tmp_path: Path):
    config = configs.validate({**QUICK, "augment": {"mixup": 0.4}}, where="test")
    paths = write_preview(config, [manifests.load(knees, task="kl")], tmp_path / "preview")
    assert [p.name for p in paths] == ["kl-0.png", "kl-1.png", "kl-2.png", "kl-3.png", "kl-4.png", "mixed.png"]
    for path in paths:
        with Image.open(path) as sheet:
            assert sheet.width == 192 * (1 + DRAWS)
            pixels = np.asarray(sheet)
        assert pixels.std() > 10
        assert not np.array_equal(pixels[:, 192:384], pixels[:, 384:576])


def test_out_of_memory_suggests_a_batch_size(knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from kneexray.train.module import GradingModule

    def full(*arguments: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 GB")

    monkeypatch.setattr(GradingModule, "training_step", full)
    with pytest.raises(ConfigError, match=r"--set optim\.batch_size=4"):
        run(knees, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": {"name": "cros_entropy"}}, "Did you mean cross_entropy"),
        ({"model": {"backbone": "resnet5O"}}, "Did you mean"),
        ({"model": {"backbone": "mobilenetv2_050", "weights": ["absent"]}}, "none of absent is there"),
    ],
)
def test_a_recipe_that_cannot_be_leaves_no_folder(knees: Path, tmp_path: Path, changes: dict[str, object], said: str):
    with pytest.raises(ConfigError, match=said):
        run(knees, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_splits_that_cannot_be_trained_on_are_named_before_anything_is_read(knees: Path, tmp_path: Path):
    manifest = manifests.load(knees, task="kl")

    def attempt(keep) -> None:
        cut: Manifest = dataclasses.replace(manifest, examples=tuple(e for e in manifest.examples if keep(e)))
        train(configs.validate(RECIPE, where="test"), cut, tmp_path / "run", command=COMMAND)

    with pytest.raises(DataError, match="split 'train' has no image of class 3"):
        attempt(lambda e: e.label != "3")
    with pytest.raises(DataError, match="split 'val' holds one class only"):
        attempt(lambda e: e.split == "train" or e.label == "2")
    with pytest.raises(DataError, match="split"):
        attempt(lambda e: e.split == "train")
    (tmp_path / "manifest.csv").write_text("path,label,split\nknee.png,severe or so,train\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest\.csv, row 2: label 'severe or so' is none of task 'kl'"):
        manifests.load(tmp_path / "manifest.csv", task="kl")
    assert not (tmp_path / "run").exists()
