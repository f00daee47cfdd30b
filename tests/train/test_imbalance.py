"""Sampling and weights against unequal classes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed")

from kneexray.errors import ConfigError
from kneexray.train.imbalance import EpochShuffle, class_weights, draws
from kneexray.train.recipe import config as configs
from kneexray.train.recipe.config import ImbalanceConfig

CLASSES = np.repeat([0, 1, 2], [64, 16, 4])


def order(sampler: EpochShuffle, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [("none", [64, 16, 4]), ("over", [64, 64, 64]), ("under", [4, 4, 4]), ("class_aware", [28, 28, 28]), ("sqrt", [48, 24, 12])],
)
def test_an_epoch_draws_as_many_of_each_class_as_promised(sampling, expected: list[int]):
    assert draws([64, 16, 4], sampling) == expected
    sampler = EpochShuffle(CLASSES, seed=3, sampling=sampling)
    drawn = order(sampler, 0)
    assert len(sampler) == len(drawn) == sum(expected)
    assert [Counter(CLASSES[drawn])[c] for c in range(3)] == expected
    for c, count in enumerate(expected):  # no image is drawn twice before every other one was
        times = [Counter(drawn)[i] for i in np.flatnonzero(c == CLASSES)]
        assert max(times) - min(times) <= 1
        assert sum(times) == count


@pytest.mark.parametrize("sampling", ["none", "over", "under", "class_aware", "sqrt"])
def test_the_order_of_an_epoch_depends_on_seed_and_epoch_only(sampling):
    sampler = EpochShuffle(CLASSES, seed=3, sampling=sampling)
    assert order(sampler, 4) == order(EpochShuffle(CLASSES, seed=3, sampling=sampling), 4)
    assert order(sampler, 5) != order(sampler, 4)
    assert order(EpochShuffle(CLASSES, seed=2, sampling=sampling), 4) != order(sampler, 4)


def test_classes_are_shuffled_together():
    drawn = CLASSES[order(EpochShuffle(CLASSES, seed=0, sampling="over"), 0)]
    assert len(set(drawn[:20].tolist())) == 3


def test_weights_have_reference_values():
    assert class_weights([64, 16, 4], ImbalanceConfig()) is None
    assert class_weights([64, 16, 4], ImbalanceConfig(weights="inverse")) == pytest.approx([84 / 192, 84 / 48, 84 / 12])
    near_inverse = class_weights([64, 16, 4], ImbalanceConfig(weights="effective", beta=0.999999))
    assert near_inverse == pytest.approx([3 / 21, 12 / 21, 48 / 21], rel=1e-3)  # beta -> 1: inverse frequency, mean 1
    assert class_weights([64, 16, 4], ImbalanceConfig(weights="effective", beta=0.0)) == pytest.approx([1, 1, 1])


def test_correcting_twice_is_an_error_unless_asked_for():
    twice = {"imbalance": {"sampling": "over", "weights": "inverse"}}
    with pytest.raises(ConfigError, match=r"imbalance\.sampling = 'over' and imbalance\.weights = 'inverse' correct .* twice"):
        configs.validate(twice, where="test")
    with pytest.raises(ConfigError, match=r"loss\.alpha"):
        configs.validate({"imbalance": {"weights": "effective"}, "loss": {"name": "focal", "alpha": [1, 1, 2, 2, 4]}}, where="test")
    configs.validate({"imbalance": {**twice["imbalance"], "both": True}}, where="test")
