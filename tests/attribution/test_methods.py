"""Maps of a network by every method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("timm")
pytest.importorskip("captum")
pytest.importorskip("pytorch_grad_cam")

from safetensors.torch import save_file

from kneexray.attribution.explanations import of_checkpoint
from kneexray.attribution.methods import METHODS, attribute, load
from kneexray.errors import ConfigError
from kneexray.geometry import resample
from kneexray.roi import whole_knee
from kneexray.synthetic import draw_knee
from kneexray.train.networks import models
from kneexray.train.recipe.config import Config, InputConfig, ModelConfig
from kneexray.types import Radiograph

SIZE = 64
CONFIG = Config(model=ModelConfig(backbone="mobilenetv2_050", out_index=2), input=InputConfig(size=SIZE, zoom=0.8))
IMAGE = draw_knee(3, size=SIZE)[None]


@pytest.fixture(scope="module")
def net() -> models.GradingNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.build(CONFIG.model, classes=5, size=SIZE).eval()


@pytest.fixture(scope="module")
def run(net: models.GradingNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as training leaves it, with a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_text(CONFIG.model_dump_json())
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, folder / "model.safetensors")
    (folder / "checkpoints").mkdir()
    torch.save({"state_dict": {f"net.{name}": value for name, value in net.state_dict().items()}}, folder / "checkpoints" / "best.ckpt")
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_finite_map_and_leaves_the_network_as_it_was(method: str, net: models.GradingNet):
    before = net(torch.from_numpy(IMAGE)[None])
    found = attribute(net, IMAGE, method=method, grade=3)
    shape = {"cam": net.backbone.map_size, "integrated-gradients": (16, 16)}.get(method, (SIZE, SIZE))
    assert found.shape == shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.max() > found.min()
    assert torch.equal(net(torch.from_numpy(IMAGE)[None]), before)
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("method", ["grad-cam", "hirescam"])
def test_grad_cam_and_hirescam_are_the_class_map(method: str, net: models.GradingNet):
    ours = np.maximum(attribute(net, IMAGE, method="cam", grade=1), 0)
    theirs = attribute(net, IMAGE, method=method, grade=1)
    stretched = resample(ours, (0, 0, ours.shape[1], ours.shape[0]), size=theirs.shape)
    assert np.corrcoef(stretched.ravel(), theirs.ravel())[0, 1] > 0.99


def test_integrated_gradients_sum_to_what_they_explain(net: models.GradingNet):
    image = torch.from_numpy(IMAGE)[None]
    with torch.no_grad():
        difference = net(image)[0, 2] - net(torch.full_like(image, float(image.mean())))[0, 2]
    assert attribute(net, IMAGE, method="integrated-gradients", grade=2).sum() == pytest.approx(float(difference), rel=0.1, abs=0.01)


def test_occlusion_finds_the_only_thing_there_is(net: models.GradingNet):
    class Corner(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image[:, 0, :16, :16].mean(dim=(1, 2))[:, None].repeat(1, 5)

    found = METHODS["occlusion"](Corner(), torch.from_numpy(np.eye(SIZE, dtype=np.float32)[None, None]), 0)
    assert found[:16, :16].max() > 0
    assert not found[24:, 24:].any()


def test_a_run_and_its_checkpoint_are_the_same_network(run: Path, net: models.GradingNet):
    for place in (run, run / "checkpoints" / "best.ckpt"):
        loaded, config = load(place)
        assert config == CONFIG
        torch.testing.assert_close(loaded(torch.from_numpy(IMAGE)[None]), net(torch.from_numpy(IMAGE)[None]))


def test_what_is_no_run_is_told(run: Path, tmp_path: Path):
    for place, said in (
        (tmp_path, "no run folder"),
        (tmp_path / "absent", "is no checkpoint"),
        (tmp_path / "a" / "b.ckpt", "no run folder"),
        (run / "checkpoints" / "bad.ckpt", "no checkpoint of the run"),
    ):
        if place.suffix:
            place.parent.mkdir(exist_ok=True)
            torch.save({"state_dict": {"net.x": torch.ones(1)}}, place)
        with pytest.raises(ConfigError, match=said):
            load(place)
    with pytest.raises(ConfigError, match=r"Did you mean grad-cam"):
        of_checkpoint(run, method="gradcam")


def test_a_network_without_a_class_map_says_so_and_one_that_was_frozen_is_explained_all_the_same(tmp_path: Path):
    dense = CONFIG.model.model_copy(update={"hidden": (8,), "freeze": "backbone"})
    config = CONFIG.model_copy(update={"model": dense})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    save_file({name: value.contiguous() for name, value in models.for_recipe(config).state_dict().items()}, tmp_path / "model.safetensors")
    loaded, _ = load(tmp_path)
    with pytest.raises(ConfigError, match="Try grad-cam"):
        attribute(loaded, IMAGE, method="cam", grade=0)
    assert attribute(loaded, IMAGE, method="grad-cam++", grade=0).shape == (SIZE, SIZE)


def test_a_left_knee_is_explained_as_its_mirror_image_is(run: Path):
    explainer = of_checkpoint(run, method="grad-cam")
    pixels = draw_knee(1, size=100)
    right = explainer.explain(whole_knee(Radiograph(pixels, source="r"), side="R"), grade=4)
    left = explainer.explain(whole_knee(Radiograph(np.ascontiguousarray(pixels[:, ::-1]), source="l"), side="L"), grade=4)
    np.testing.assert_allclose(left.cam, right.cam[:, ::-1], atol=1e-4)
    np.testing.assert_allclose(left.prediction.heatmap, right.prediction.heatmap[:, ::-1], atol=1e-4)
    assert right.window == (10, pytest.approx(12), 90, pytest.approx(92))
    assert right.prediction.heatmap.shape == (100, 100)
    assert not right.prediction.heatmap[:, :10].any()
    assert right.prediction.probabilities.sum() == pytest.approx(1)
