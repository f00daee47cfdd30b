"""Weights of a recipe as people write them."""

from __future__ import annotations

import pytest

from kneexray.errors import ConfigError
from kneexray.train.recipe import config


def test_a_small_network_of_its_own_needs_no_weights():
    assert config.validate({"model": {"backbone": "cnn"}}, where="test").model.weights == ("none",)
    assert config.validate({"model": {"backbone": "resnet18"}}, where="test").model.weights == ("timm",)


def test_one_name_alone_needs_no_list():
    assert config.validate({"model": {"weights": "none"}}, where="test").model.weights == ("none",)
    assert config.validate({"model": {"backbone": "cnn", "weights": ["a", "none"]}}, where="test").model.weights == ("a", "none")
    with pytest.raises(ConfigError, match=r"model\.weights"):
        config.validate({"model": {"weights": 3}}, where="test")
