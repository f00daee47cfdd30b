"""Recipes that ship, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from kneexray.errors import ConfigError
from kneexray.train.recipe import config, shelf


def test_every_recipe_is_found_by_its_name_loads_and_says_what_it_is_for():
    described = dict(shelf.described())
    assert "kl" in described
    for name in shelf.names():
        config.load(shelf.find(name))
        assert len(described[name]) > 20, name


def test_the_last_part_of_a_name_is_enough_where_one_recipe_has_it():
    assert shelf.find("osteoporosis-cnn") == shelf.folder() / "studies" / "osteoporosis-cnn.toml"


def test_a_file_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "kl").write_text('task = "oa"\n')
    monkeypatch.chdir(tmp_path)
    assert shelf.find("kl") == Path("kl")


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(ConfigError, match=r"Did you mean .*osteoporosis"):
        shelf.find("osteoperosis")
