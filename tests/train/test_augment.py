"""The further augmentations: shear, blur, mixing, strength by class."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("lightning")

from kneexray.inference.preprocess import Geometry
from kneexray.train.augment import augment, blurred, mix
from kneexray.train.data import Batch
from kneexray.train.module import augmented, class_names
from kneexray.train.recipe import config as configs
from kneexray.train.recipe.config import AugmentConfig

NONE = AugmentConfig(flip=0, rotate=0, zoom=0, shift=0, gamma=0, contrast=0, brightness=0)
GEOMETRY = Geometry(size=48)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_(**changes: object) -> AugmentConfig:
    return AugmentConfig.model_validate(NONE.model_dump() | changes)


def test_shear_slants_columns_and_leaves_rows_level():
    column = torch.zeros(20, 1, 48, 48)
    column[..., 22:26] = 1
    out = augment(column, with_(shear=20), GEOMETRY, size=48, generator=seeded())
    across = torch.arange(48.0)
    middle = (out * across).sum(dim=3) / out.sum(dim=3)  # (N, 1, H)
    slant = (middle[:, 0, -5] - middle[:, 0, 5]) / 38
    assert slant.abs().max() <= torch.tan(torch.tensor(20 * torch.pi / 180)) + 0.02
    assert slant.std() > 0.05
    rows = column.transpose(2, 3)
    torch.testing.assert_close(
        augment(rows, with_(shear=20), GEOMETRY, size=48, generator=seeded()), rows, atol=2e-3, rtol=0
    )  # gamma's floor: 1e-3


def test_blur_keeps_the_mean_and_has_the_asked_width():
    point = torch.zeros(3, 1, 41, 41)
    point[:, :, 20, 20] = 1
    out = blurred(point, torch.tensor([0.0, 1.0, 3.0]))
    torch.testing.assert_close(out.sum(dim=(1, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[0], point[0])
    at = torch.arange(41.0) - 20
    torch.testing.assert_close((out[1:, 0].sum(dim=1) * at**2).sum(dim=1).sqrt(), torch.tensor([1.0, 3.0]), atol=0.1, rtol=0)
    flat = torch.full((2, 1, 16, 16), 0.4)
    torch.testing.assert_close(blurred(flat, torch.tensor([2.0, 5.0])), flat)


@pytest.mark.parametrize("config", [with_(mixup=0.4), with_(cutmix=1.0), with_(mixup=0.4, cutmix=1.0)])
def test_mixing_gives_targets_the_shares_of_the_images(config: AugmentConfig):
    ones_and_zeros = torch.cat([torch.zeros(2, 1, 40, 40), torch.ones(2, 1, 40, 40)])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    for seed in range(8):
        images, (mixed, again) = mix(ones_and_zeros, [targets, targets], config, generator=seeded(seed))
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)), mixed[:, 1])
        torch.testing.assert_close(mixed.sum(dim=1), torch.ones(4))
        assert torch.equal(mixed, again)
    first, second = (mix(ones_and_zeros, [targets], config, generator=seeded(3))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_no_mixing_draws_nothing():
    generator, images = seeded(), torch.rand(4, 1, 8, 8)
    same, _ = mix(images, [], NONE, generator=generator)
    assert same is images
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=seeded()))


def test_a_class_can_be_given_more():
    config = configs.validate(
        {"input": {"size": 48, "zoom": 1, "shift_y": 0}, "augment": NONE.model_dump() | {"brightness": 0.1, "per_class": {"4": 3.0}}},
        where="test",
    )
    images = torch.full((200, 1, 48, 48), 0.5)
    labels = torch.tensor([0, 4]).repeat(100)[:, None]
    change = (augmented(Batch(images, labels), config, size=48, generator=seeded()) - 0.5)[:, 0, 0, 0].abs()
    assert change[::2].max() <= 0.1 + 1e-5
    assert 0.2 < change[1::2].max() <= 0.3 + 1e-5
    unknown = augmented(Batch(images, torch.full((200, 1), -1)), config, size=48, generator=seeded())
    assert (unknown - 0.5).abs().max() <= 0.1 + 1e-5


def test_a_class_can_have_values_of_its_own():
    changes = {"per_class": {"4": {"flip": 1.0, "cutmix": 1.0}, "3": 2.0}}
    config = configs.validate({"input": {"size": 48, "zoom": 1, "shift_y": 0}, "augment": NONE.model_dump() | changes}, where="test")
    images = torch.rand(6, 1, 48, 48)
    batch = Batch(images, torch.tensor([4, 0, 3, -1, 0, 4])[:, None])
    out = augmented(batch, config, size=48, generator=seeded())
    expected = images.clone()
    expected[[0, 5]] = images[[0, 5]].flip(3)
    torch.testing.assert_close(out, expected, atol=2e-3, rtol=0)  # gamma's floor: 1e-3
    targets = torch.eye(6)
    mixed, (shares,) = mix(images, [targets], config.augment, generator=seeded(1), labels=class_names(batch, config))
    assert torch.equal(mixed[1:5], images[1:5])
    torch.testing.assert_close(shares[1:5], targets[1:5])
    for row, other in ((0, 5), (5, 0)):
        assert 0 < shares[row, other] < 1
        own = (mixed[row] == images[row]).double().mean()
        assert own == pytest.approx(float(shares[row, row]), abs=1e-3)


def test_strength_one_is_no_strength():
    images, config = torch.rand(6, 1, 60, 60), with_(rotate=20, zoom=0.2, gamma=0.4, noise=0.1, erase=0.5, blur=0.02, shear=5, flip=0.5)
    plain = augment(images, config, GEOMETRY, size=48, generator=seeded())
    none = config.model_copy(update={"per_class": {"4": {"strength": 0.0, "flip": 0.0}}})
    some = augment(images, none, GEOMETRY, size=48, generator=seeded(), labels=["", "4"] * 3)
    torch.testing.assert_close(plain[::2], some[::2], atol=1e-4, rtol=0)  # a blur that reaches less far rounds otherwise
    still = augment(images, none, GEOMETRY, size=48, generator=seeded(), labels=["4"] * 6)
    torch.testing.assert_close(still, augment(images, NONE, GEOMETRY, size=48, generator=seeded()), atol=1e-5, rtol=0)
