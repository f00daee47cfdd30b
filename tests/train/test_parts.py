"""The parts of training: recipes, networks, losses, augmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("timm")

from kneexray.errors import ConfigError
from kneexray.inference.preprocess import Geometry, preprocess
from kneexray.roi import whole_knee
from kneexray.tasks import get_task
from kneexray.train.augment import augment
from kneexray.train.data import whole_box
from kneexray.train.export import card as cards
from kneexray.train.networks import models
from kneexray.train.networks.initial_weights import load_starting_point
from kneexray.train.recipe import config as configs
from kneexray.train.recipe.config import AugmentConfig, ModelConfig
from kneexray.types import Radiograph

NONE = AugmentConfig(flip=0, rotate=0, zoom=0, shift=0, gamma=0, contrast=0, brightness=0)


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_is_a_diff_from_defaults_and_overrides_win(tmp_path: Path):
    config = configs.load(
        recipe(tmp_path, "[optim]\nepochs = 3\n"), overrides=["optim.lr=1e-3", "model.backbone=resnet18", "model.weights=none"]
    )
    assert (config.optim.epochs, config.optim.lr, config.model.backbone, config.model.weights) == (3, 1e-3, "resnet18", ("none",))
    assert config.input == configs.InputConfig()


def test_a_list_of_one_needs_no_brackets_on_the_command_line(tmp_path: Path):
    given = [
        "also=[osteoporosis]",
        "imbalance.weights=inverse",
        "model.cnn.channels=8",
        "model.hidden=16",
        "model.attention=se",
        "augment.per_class.4=2",
    ]
    config = configs.load(recipe(tmp_path, ""), overrides=given)
    assert (config.imbalance.weights, config.model.cnn.channels, config.model.hidden) == ("inverse", (8,), (16,))
    assert (config.model.attention, config.also) == (("se",), ("osteoporosis",))
    assert config.augment.of("4").amount("rotate") == 2 * config.augment.rotate


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[optim]\nepoch = 3\n", "unknown key of [optim] 'epoch'. Did you mean epochs"),
        ("[optimiser]\n", "Did you mean optim"),
        ("[optim]\nepochs = 0\n", "'optim.epochs' = 0"),
        ("[optim\n", "no valid TOML"),
    ],
)
def test_a_wrong_recipe_names_file_key_and_nearest(tmp_path: Path, text: str, said: str):
    with pytest.raises(ConfigError) as error:
        configs.load(recipe(tmp_path, text))
    assert "recipe.toml" in str(error.value)
    assert said in str(error.value)


def test_every_recipe_in_the_repository_is_valid(root: Path):
    for path in sorted((root / "recipes").rglob("*.toml")):
        configs.load(path)


@pytest.mark.parametrize("name", ["mobilenetv2_050", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_any_backbone_gives_a_class_map_whose_mean_is_the_logit(name: str):
    net = models.build(ModelConfig(backbone=name), classes=5, size=224).eval()
    with torch.inference_mode():
        logits, cam, _ = net.answers(torch.rand(2, 1, 224, 224))
        again = net(torch.rand(2, 1, 224, 224))
    assert again.shape == (2, 5)
    torch.testing.assert_close(cam.mean(dim=(2, 3)) + net.head.bias, logits, atol=1e-5, rtol=1e-5)


def test_a_cut_backbone_keeps_a_finer_map():
    cut = models.build(ModelConfig(backbone="resnet18", out_index=3), classes=5, size=64)
    assert cut.backbone.map_size == (4, 4)
    assert cut.backbone.channels == 256


def test_unknown_backbone_and_absent_weights_name_the_remedy(tmp_path: Path):
    with pytest.raises(ConfigError, match="resnet50"):
        models.build(ModelConfig(backbone="resnet5O"), classes=5, size=64)
    net = models.build(ModelConfig(backbone="mobilenetv2_050"), classes=5, size=64)
    with pytest.raises(ConfigError, match=r"--set model\.weights=FILE"):
        load_starting_point(net, ModelConfig(weights=(str(tmp_path / "absent.safetensors"),)))


def test_three_channel_weights_load_into_a_grey_network(tmp_path: Path):
    import timm
    from safetensors.torch import save_file

    source = timm.create_model("mobilenetv2_050", pretrained=False)
    path = tmp_path / "colour.safetensors"
    save_file(source.state_dict(), path)
    config = ModelConfig(backbone="mobilenetv2_050", weights=(str(path),), weights_licence="test")
    net = models.build(config, classes=3, size=64)
    start = load_starting_point(net, config)
    assert (start.weights, start.licence, len(start.sha256)) == ("colour.safetensors", "test", 64)
    torch.testing.assert_close(net.backbone.net.conv_stem.weight, source.conv_stem.weight.sum(dim=1, keepdim=True))
    with pytest.raises(ConfigError, match="another network"):
        load_starting_point(models.build(ModelConfig(backbone="resnet18"), classes=3, size=64), config)


def test_standardising_cancels_exposure():
    image = torch.rand(2, 1, 32, 32)
    standardise = models.Standardise()
    torch.testing.assert_close(standardise(image), standardise(0.5 * image + 0.3), atol=0.12, rtol=0.1)
    assert torch.isfinite(standardise(torch.zeros(1, 1, 8, 8))).all()


def test_augmentation_of_nothing_is_the_preprocessing():
    y, x = np.mgrid[0:100, 0:100] / 100
    pixels = (0.5 + 0.25 * np.sin(7 * x + 2 * y) + 0.2 * np.cos(9 * y)).astype(np.float32)  # smooth: interpolations agree
    film = whole_knee(Radiograph(pixels, source="x"))
    geometry = Geometry(size=92, zoom=0.92, shift_y=0.02)
    boxes = torch.from_numpy(preprocess(film, whole_box(geometry)))[None]
    out = augment(boxes, NONE, geometry, size=92, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(out[0].numpy(), preprocess(film, geometry), atol=5e-3)


def test_augmentation_is_reproducible_flips_as_often_as_asked_and_stays_finite():
    images = torch.rand(64, 1, 40, 40)
    config = AugmentConfig(noise=0.05, erase=0.5)
    a, b = (augment(images, config, Geometry(size=40), size=32, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.isfinite(a).all()
    assert a.shape == (64, 1, 32, 32)
    ramp = torch.linspace(0, 1, 40).expand(200, 1, 40, 40)
    flipped = augment(ramp, NONE.model_copy(update={"flip": 0.25}), Geometry(size=40), size=40, generator=torch.Generator().manual_seed(0))
    share = float((flipped[:, 0, 20, 0] > flipped[:, 0, 20, -1]).float().mean())
    assert 0.15 < share < 0.35
    never = augment(ramp, NONE, Geometry(size=40), size=40, generator=torch.Generator().manual_seed(0))
    assert bool((never[:, 0, 20, 0] < never[:, 0, 20, -1]).all())


def test_classes_not_told_better_than_by_chance_are_named():
    def measured(*lows: float | None) -> dict[str, Any]:
        return {"per_class": {label: {"auc": {"value": 0.6, "low": low, "high": 0.7}} for label, low in zip("012", lows, strict=True)}}

    assert cards.warnings(measured(0.51, 0.6, None), get_task("kl")) == ()
    (said,) = cards.warnings(measured(0.5, 0.6, 0.45), get_task("kl"))
    assert said.startswith("Kellgren-Lawrence grade: this model was not shown to tell 0, 2 from the rest better than by chance")
