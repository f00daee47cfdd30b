"""Networks as recipes describe them: small CNNs, attention, heads, frozen parts, learning rates by depth."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("timm")

from safetensors.torch import save_file

from kneexray.errors import ConfigError
from kneexray.train.networks import heads, models
from kneexray.train.networks.initial_weights import load_starting_point
from kneexray.train.recipe import config as configs
from kneexray.train.recipe.config import ModelConfig

SMALL = "mobilenetv2_050"
IMAGES = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_small_cnn_of_the_studies_is_what_keras_would_count():
    """150 px, 32-64-128, dense 512, three classes: parameters of the study's own layers, for grey input and same padding."""
    config = ModelConfig(backbone="cnn", pool="flatten", hidden=(512,), drop_rate=0)
    net = models.build(config, classes=3, size=150)
    convolutions = (9 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128
    assert sum(p.numel() for p in net.parameters()) == convolutions + (128 * 18 * 18 + 1) * 512 + (512 + 1) * 3
    assert not net.has_cam
    assert net(torch.rand(2, 1, 150, 150)).shape == (2, 3)


def test_batch_norm_and_dropout_are_a_table_away():
    config = ModelConfig.model_validate({"backbone": "cnn", "cnn": {"channels": [16, 32], "batch_norm": True, "drop_rate": 0.25}})
    net = models.build(config, classes=3, size=64)
    kinds = [type(m).__name__ for m in net.backbone.modules()]
    assert kinds.count("BatchNorm2d") == 2
    assert [m.p for m in net.backbone.modules() if isinstance(m, torch.nn.Dropout)] == [0.25, 0.25]
    assert net.has_cam
    with pytest.raises(ConfigError, match=r"model\.cnn\.channels"):
        models.build(ModelConfig(backbone="cnn", out_index=1), classes=3, size=64)


@pytest.mark.parametrize("attention", [("se",), ("cbam",), ("cbam", "se")])
def test_attention_keeps_the_class_map_exact(attention):
    net = models.build(ModelConfig(backbone=SMALL, attention=attention), classes=5, size=64).eval()
    bare = models.build(ModelConfig(backbone=SMALL), classes=5, size=64)
    assert sum(p.numel() for p in net.parameters()) > sum(p.numel() for p in bare.parameters())
    with torch.inference_mode():
        logits, cam, _ = net.answers(IMAGES)
        torch.testing.assert_close(cam.mean(dim=(2, 3)) + net.head.bias, net(IMAGES), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(logits, net(IMAGES))


@pytest.mark.parametrize(("head", "outputs"), [(heads.SOFTMAX, 5), (heads.SIGMOIDS, 5), (heads.CORN, 4), (heads.CORAL, 4)])
def test_every_head_answers_with_logits_of_all_grades(head, outputs: int):
    net = models.build(ModelConfig(backbone=SMALL), classes=[5, 3], size=64, head=head).eval()
    with torch.inference_mode():
        assert [out.shape[1] for out in net.outputs(IMAGES)] == [outputs, outputs - 2]
        first, second = net(IMAGES), copy.deepcopy(net).answering(1)(IMAGES)
    assert (first.shape, second.shape) == ((2, 5), (2, 3))
    assert net.has_cam == (head is heads.SOFTMAX)


@pytest.mark.parametrize(
    ("name", "size", "more"),
    [
        ("vgg16", 64, {"out_index": 5}),
        ("resnet50", 64, {}),
        ("inception_v3", 75, {"out_index": 3}),
        ("densenet121", 64, {"attention": ["cbam", "se"]}),
        ("efficientnet_b0", 64, {}),
        ("convnext_tiny", 64, {}),
        ("vit_small_patch14_reg4_dinov2", 56, {}),
    ],
)
def test_every_backbone_of_the_studies_has_an_exact_map(name: str, size: int, more: dict[str, object]):
    net = models.build(ModelConfig.model_validate({"backbone": name, **more}), classes=5, size=size).eval()
    with torch.inference_mode():
        image = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))
        logits, cam, _ = net.answers(image)
    assert net.has_cam
    scale = float(cam.abs().max())
    torch.testing.assert_close(cam.mean(dim=(2, 3)) + net.head.bias, logits, atol=1e-4 * max(scale, 1), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore::UserWarning:torch.onnx", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_attention_exports(tmp_path: Path):
    ort = pytest.importorskip("onnxruntime")
    from kneexray.train.export.graph import Exported, write_onnx

    net = models.build(ModelConfig(backbone=SMALL, attention=("cbam", "se")), classes=5, size=64).eval()
    graph = Exported([(net, 64)], mirrored=True).eval()
    write_onnx(graph, tmp_path / "model.onnx", size=64, outputs=graph.outputs)
    found = ort.InferenceSession(str(tmp_path / "model.onnx")).run(["logits", "cam"], {"image": IMAGES.numpy()})
    with torch.inference_mode():
        for theirs, ours in zip(found, graph(IMAGES), strict=True):
            torch.testing.assert_close(torch.from_numpy(theirs), ours, atol=1e-4, rtol=1e-4)


def test_a_map_of_one_cell_is_no_map():
    assert not models.build(ModelConfig(backbone=SMALL), classes=5, size=32).has_cam


@pytest.mark.parametrize(("freeze", "frozen"), [("backbone", True), (3, False)])
def test_what_is_frozen_keeps_weights_and_batch_norm_statistics(freeze, frozen: bool):
    net = models.build(ModelConfig(backbone=SMALL, freeze=freeze, attention=("se",)), classes=5, size=64).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(IMAGES).square().sum().backward()
    optimizer.step()
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert "head.weight" in changed
    assert "backbone.attention.0.fc1.weight" in changed
    assert not any(k.startswith(("backbone.net.conv_stem", "backbone.net.bn1", "backbone.net.blocks.0.")) for k in changed)
    assert any(k.startswith("backbone.net.blocks.6") for k in changed) != frozen


def test_freezing_more_stages_than_there_are_says_how_many():
    with pytest.raises(ConfigError, match="has 8 stages"):
        models.build(ModelConfig(backbone=SMALL, freeze=9), classes=5, size=64)


@pytest.mark.parametrize("config", [{"backbone": SMALL}, {"backbone": "resnet18", "out_index": 3}, {"backbone": "cnn"}])
def test_learning_rates_fall_towards_the_input(config):
    net = models.build(ModelConfig.model_validate(config), classes=5, size=64)
    factors = models.learning_rates(net, decay=0.5)
    assert set(factors) == set(net.parameters())
    in_order = [factors[p] for p in net.backbone.net.parameters()]
    assert in_order == sorted(in_order)
    assert in_order[-1] == 0.5
    assert factors[net.head.weight] == 1.0
    assert set(models.learning_rates(net, decay=1.0).values()) == {1.0}


def test_a_vision_transformer_s_positions_are_stretched_to_another_size(tmp_path: Path):
    config = ModelConfig(backbone="vit_tiny_patch16_224", weights=(str(tmp_path / "small.safetensors"),))
    small = models.build(config, classes=5, size=64)
    save_file(small.backbone.net.state_dict(), tmp_path / "small.safetensors")
    same, large = models.build(config, classes=5, size=64), models.build(config, classes=5, size=96)
    for net in (same, large):
        load_starting_point(net, config)
    torch.testing.assert_close(same.backbone.net.pos_embed, small.backbone.net.pos_embed)
    assert large.backbone.net.pos_embed.shape == (1, 1 + 6 * 6, 192)
    torch.testing.assert_close(large.backbone.net.pos_embed[:, 0], small.backbone.net.pos_embed[:, 0])  # the class token has no place


def test_a_size_that_the_network_cannot_take_is_named():
    with pytest.raises(ConfigError, match=r"vit_tiny_patch16_224' cannot take inputs of 100 px"):
        models.build(ModelConfig(backbone="vit_tiny_patch16_224"), classes=5, size=100)
    recipe = {"model": {"backbone": "vit_tiny_patch16_224"}, "input": {"size": 64, "progressive": [[0, 48], [1, 64]]}}
    with pytest.raises(ConfigError, match="cannot take inputs of 48 px"):
        models.for_recipe(configs.validate(recipe, where="test"))


def test_choices_that_exclude_each_other_are_named():
    recipe = {"model": {"pool": "flatten"}, "input": {"size": 64, "progressive": [[0, 48], [1, 64]]}}
    with pytest.raises(ConfigError, match=r"model\.pool = 'flatten' .* input\.progressive"):
        configs.validate(recipe, where="test")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"attention": ["cbm"]}}, "'model.attention.0': 'cbm'. Did you mean cbam"),
        ({"imbalance": {"sampling": "oversample"}}, "Did you mean over"),
        ({"augment": {"per_class": {"5": 2.0}}}, "unknown key of [augment.per_class] '5'"),
        ({"task": "osteoperosis"}, "Did you mean osteoporosis"),
        ({"also": ["kl"]}, "named twice"),
        ({"model": {"freeze": -1}}, "key 'model.freeze' = -1:"),
        ({"model": {"freeze": "backbne"}}, "value of 'model.freeze': 'backbne'. Did you mean backbone"),
        ({"augment": {"per_class": {"4": {"rotation": 3.0}}}}, "unknown key of [augment.per_class.4] 'rotation'. Did you mean rotate"),
        ({"augment": {"per_class": {"4": {"rotate": 90.0}}}}, "key 'augment.per_class.4.rotate' = 90.0:"),
        ({"tune": {"space": {"optim.lr": {"low": 1, "hgh": 3}}}}, "unknown key of [tune.space.optim.lr] 'hgh'. Did you mean high"),
    ],
)
def test_wrong_values_list_the_nearest(changes, said: str):
    with pytest.raises(ConfigError) as error:
        configs.validate(changes, where="test")
    assert said in str(error.value)
