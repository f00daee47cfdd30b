"""Whole runs: train, resume, export, parity, explanations. Tiny networks on drawn knees."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("lightning")

from safetensors.torch import load_file
from support.runs import IGNORED, RECIPE, run

from kneexray.datasets import manifest as manifests
from kneexray.errors import BundleError, ConfigError, DataError
from kneexray.inference.bundle import open_bundle
from kneexray.inference.session import Session
from kneexray.train.curves import read_metrics
from kneexray.train.export.export import Exported, export, load_net
from kneexray.train.networks.initial_weights import load_starting_point
from kneexray.train.networks.models import build
from kneexray.train.recipe import config as configs
from kneexray.train.run_folder import load_config

pytestmark = [pytest.mark.slow, *IGNORED]


@pytest.fixture(scope="session")
def finished(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    run(knees, folder)
    return folder


@pytest.fixture(scope="session")
def bundle(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    export([finished], folder, command=["kneexray", "export"])
    return folder


def test_a_run_leaves_everything_that_it_promises(finished: Path):
    for name in ("config.json", "data.csv", "metrics.jsonl", "curves.png", "manifest.json", "model.safetensors", "checkpoints/last.ckpt"):
        assert (finished / name).stat().st_size > 0, name
    assert list((finished / "tensorboard").glob("events*"))
    history = read_metrics(finished / "metrics.jsonl")
    assert [row["epoch"] for row in history] == [0, 1, 2]
    record = json.loads((finished / "manifest.json").read_text())
    assert record["outputs"]["split_quality"] == "patient"
    assert record["outputs"]["best"]["val_nll"] == min(row["val_nll"] for row in history)


def test_a_run_stopped_and_resumed_equals_an_unbroken_one(knees: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from kneexray.train import run as runs

    class Killed(Exception):
        pass

    class KillAfterFirstEpoch(runs.StopOnNonFinite):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.current_epoch == 1 and batch_idx == 2:
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(runs, "StopOnNonFinite", KillAfterFirstEpoch)
        with pytest.raises(Killed):
            run(knees, tmp_path / "run")
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 1
    run(knees, tmp_path / "run", resume=True)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == read_metrics(finished / "metrics.jsonl")
    resumed, unbroken = load_file(tmp_path / "run" / "model.safetensors"), load_file(finished / "model.safetensors")
    assert resumed.keys() == unbroken.keys()
    for name, tensor in unbroken.items():
        assert torch.equal(tensor, resumed[name]), name


def test_resuming_with_another_recipe_or_over_a_run_is_refused(knees: Path, finished: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("cache"))
    with pytest.raises(ConfigError, match=r"differs in .*optim\.epochs"):
        run(knees, copy, resume=True, optim={"epochs": 4})
    with pytest.raises(ConfigError, match="--resume"):
        run(knees, copy)


def test_a_loss_that_is_no_number_stops_and_keeps_the_batch(knees: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"bad-batch\.safetensors.*lower learning rate"):
        run(knees, tmp_path / "run", optim={**RECIPE["optim"], "lr": 1e30, "clip": 0.0, "warmup_epochs": 0})
    assert load_file(tmp_path / "run" / "bad-batch.safetensors")["images"].shape[0] == 8


@pytest.mark.parametrize(("batch_size", "remedy"), [(8, "--set optim.batch_size=4, or a smaller"), (1, "Try a smaller")])
def test_running_out_of_memory_says_what_would_fit(
    knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, remedy: str
):
    def exhausted(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("lightning.Trainer.fit", exhausted)
    with pytest.raises(ConfigError, match=remedy):
        run(knees, tmp_path / "run", optim={"batch_size": batch_size})


def test_unreadable_images_are_all_named(knees: Path, tmp_path: Path):
    shutil.copytree(knees, tmp_path / "data")
    bad = next((tmp_path / "data" / "train" / "2").iterdir())
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(DataError, match=bad.name):
        run(tmp_path / "data", tmp_path / "run")


def test_the_bundle_agrees_with_torch_heatmap_included(finished: Path, bundle: Path):
    opened = open_bundle(bundle)
    net = load_net(finished, configs.validate(RECIPE, where="test"))
    images = np.random.default_rng(0).random((3, 1, 64, 64), dtype=np.float32)
    logits, cam = Session(opened).run(images)
    with torch.inference_mode():
        torch_logits, torch_cam = Exported([(net, 64)], mirrored=True)(torch.from_numpy(images))
    np.testing.assert_allclose(logits, torch_logits, atol=1e-4)
    np.testing.assert_allclose(cam, torch_cam, atol=1e-4)


def test_an_ensemble_answers_with_the_mean_of_its_members(knees: Path, finished: Path, tmp_path: Path):
    run(knees, tmp_path / "other", seed=5, input={"size": 48})
    export([finished, tmp_path / "other"], tmp_path / "bundle", command=["kneexray", "export"])
    both = open_bundle(tmp_path / "bundle")
    assert [member.recipe["seed"] for member in both.card.members] == [0, 5]
    images = np.random.default_rng(0).random((2, 1, 64, 64), dtype=np.float32)
    logits, cam = Session(both).run(images)
    assert cam is not None
    small = torch.nn.functional.interpolate(torch.from_numpy(images), size=(48, 48), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        first = Exported([(load_net(finished, load_config(finished)), 64)], mirrored=True)(torch.from_numpy(images))[0]
        second = Exported([(load_net(tmp_path / "other", load_config(tmp_path / "other")), 48)], mirrored=True)(small)[0]
    np.testing.assert_allclose(logits, (first + second) / 2, atol=1e-4)
    assert cam.shape == (2, 5, 2, 2)
    run(knees, tmp_path / "elsewhere", input={"size": 64, "zoom": 1.0})
    with pytest.raises(ConfigError, match=r"input\.zoom"):
        export([finished, tmp_path / "elsewhere"], tmp_path / "none", command=["kneexray", "export"])


def test_the_in_graph_map_is_grad_cam(finished: Path):
    """Against pytorch-grad-cam: the same map up to the ReLU and the scale that Grad-CAM puts on it."""
    grad_cam = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net = load_net(finished, configs.validate(RECIPE, where="test"))
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    for grade in (0, 4):
        with grad_cam.GradCAM(model=net, target_layers=[net.backbone]) as explainer:
            theirs = explainer(input_tensor=images, targets=[ClassifierOutputTarget(grade)] * 2)  # (N, H, W) scaled to [0, 1]
        with torch.inference_mode():
            ours = net.answers(images)[1][:, grade].clamp(min=0)
        ours = ours - ours.amin(dim=(1, 2), keepdim=True)
        ours = ours / (ours.amax(dim=(1, 2), keepdim=True) + 1e-7)
        ours = torch.nn.functional.interpolate(ours[:, None], size=(64, 64), mode="bilinear", align_corners=False)[:, 0]
        assert np.corrcoef(ours.numpy().ravel(), theirs.ravel())[0, 1] > 0.99


def test_a_mirrored_image_gets_the_same_answer_and_the_mirrored_map(bundle: Path):
    session = Session(open_bundle(bundle))
    images = np.random.default_rng(1).random((2, 1, 64, 64), dtype=np.float32)
    logits, cam = session.run(images)
    flipped_logits, flipped_cam = session.run(np.ascontiguousarray(images[..., ::-1]))
    np.testing.assert_allclose(logits, flipped_logits, atol=1e-5)
    np.testing.assert_allclose(cam, flipped_cam[..., ::-1], atol=1e-5)


def test_the_bundle_reproduces_its_golden_outputs(bundle: Path):
    opened = open_bundle(bundle)
    with np.load(bundle / "golden.npz") as golden:
        logits, cam = Session(opened).run(golden["image"].astype(np.float32) / np.float32(255))
        np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)
        np.testing.assert_allclose(cam, golden["cam"], atol=1e-4)


def test_weights_stored_at_half_precision_halve_the_file_and_hardly_move_the_answers(finished: Path, bundle: Path, tmp_path: Path):
    card = export([finished], tmp_path, command=["kneexray", "export"], weights="float16")
    whole, halved = open_bundle(bundle), open_bundle(tmp_path)
    assert card.sha256 != whole.card.sha256
    assert halved.network.stat().st_size < 0.7 * whole.network.stat().st_size
    images = np.load(whole.folder / "golden.npz")["image"].astype(np.float32) / 255
    for exact, rounded in zip(Session(whole).run(images), Session(halved).run(images), strict=True):
        assert np.abs(exact - rounded).max() < 0.01 * max(1.0, np.abs(exact).max())
        assert not np.array_equal(exact, rounded)


def test_mixed_precision_trains_and_clips(knees: Path, tmp_path: Path):
    run(knees, tmp_path / "run", optim=RECIPE["optim"] | {"precision": "bf16", "epochs": 1})
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_run_can_start_from_another_and_from_no_other_network(knees: Path, finished: Path, tmp_path: Path):
    net = load_net(finished, load_config(finished))
    config = load_config(finished).model
    start = load_starting_point(build(config, classes=5, size=64), config.model_copy(update={"weights": (str(finished),)}))
    assert start.weights == f"run {finished.name}"
    fresh = build(config, classes=5, size=64)
    load_starting_point(fresh, config.model_copy(update={"weights": (str(finished),)}))
    assert all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), net.state_dict().values(), strict=True))
    other = config.model_copy(update={"backbone": "resnet10t", "weights": (str(finished),)})
    with pytest.raises(ConfigError, match="another network"):
        load_starting_point(build(other, classes=5, size=64), other)


def test_an_altered_network_is_refused(bundle: Path, tmp_path: Path):
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    with pytest.raises(BundleError, match="altered or damaged"):
        open_bundle(copy)
    (copy / "model.onnx").unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(copy)
    (copy / "card.json").write_text("{}")
    with pytest.raises(BundleError, match="model_id"):
        open_bundle(copy)
    with pytest.raises(BundleError, match="no model bundle"):
        open_bundle(tmp_path)


def test_a_manifest_with_a_patient_in_two_splits_says_so(knees: Path):
    manifest = manifests.load(knees, task="kl")
    assert manifest.split_quality == "patient"
    first = manifest.split("train")[0]
    leaking = [*manifest.examples, dataclasses.replace(first, split="val")]
    assert dataclasses.replace(manifest, examples=tuple(leaking)).split_quality == "image"
