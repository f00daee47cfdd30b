"""Tests of heatmaps, on networks that are known to look at one region only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="toy networks are written with onnx")
pytest.importorskip("matplotlib")

from support.toy_models import CELLS, JOINT, write_bundle, write_films

from kneexray.errors import DataError
from kneexray.evaluation.answers import Labelled
from kneexray.evaluation.probes import faithfulness
from kneexray.evaluation.probes.faithfulness import DEPTHS, SHARES, area, erase, inside, rank_correlation
from kneexray.evaluation.probes.randomise import randomised
from kneexray.inference.bundle import NETWORK, open_bundle, shipped
from kneexray.inference.preprocess import Geometry
from kneexray.inference.session import Session
from kneexray.pages.page import Section
from kneexray.predict import Predictor


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Labelled]:
    return write_films(tmp_path_factory.mktemp("films"), patients=3)


def section_of(folder: Path, films: list[Labelled], cam: np.ndarray | None = None) -> Section:
    bundle = write_bundle(folder / "toy", rows=JOINT, cam=cam)
    return faithfulness.section(Predictor(models=[bundle], roi_mode="whole"), films, most=100)


def test_a_true_map_passes(films: list[Labelled], tmp_path: Path):
    section = section_of(tmp_path, films)
    data = json.loads(json.dumps(section.data, allow_nan=False))
    assert section.alarm == ""
    assert (data["n"], data["n_patients"]) == (15, 3)
    assert data["deletion_auc"]["heatmap"]["high"] < data["deletion_auc"]["random"]["low"]
    assert data["insertion_auc"]["heatmap"]["low"] > data["insertion_auc"]["random"]["high"]
    assert data["heat_in_joint"]["heatmap"]["value"] > 0.7
    assert [step["layers"] for step in data["randomisation"]] == list(DEPTHS)
    last = data["randomisation"][-1]
    assert abs(last["rank_correlation"]["value"]) <= last["unsigned"]["value"] < 0.5
    assert set(section.figures) == {"erasure", "randomisation"}


def test_a_map_of_something_else_is_found_out(films: list[Labelled], tmp_path: Path):
    false = np.ones((CELLS, CELLS), np.float32)
    false[3:6] = 0  # everything but the joint
    section = section_of(tmp_path, films, cam=false)
    assert "may mislead" in section.alarm
    assert section.data["heat_in_joint"]["heatmap"]["value"] < 0.3
    assert section.data["deletion_auc"]["heatmap"]["value"] > section.data["deletion_auc"]["random"]["value"]


def test_without_a_map_or_a_film_nothing_can_be_told(films: list[Labelled], tmp_path: Path):
    with pytest.raises(DataError, match="no class map"):
        section_of(tmp_path, [Labelled(tmp_path / "absent.png", films[0].example)])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), cells=st.integers(2, 9))
def test_erasing_goes_from_the_image_to_the_blur_and_back(seed: int, cells: int):
    generator = np.random.default_rng(seed)
    image = generator.random((1, 24, 24), dtype=np.float32)
    deleted, inserted = erase(image, generator.random((cells, cells), dtype=np.float32))
    assert deleted.shape == inserted.shape == (len(SHARES), 1, 24, 24)
    assert (deleted[0] == image).all()
    assert (inserted[-1] == image).all()
    assert (deleted[-1] == inserted[0]).all()
    gone = (deleted != image).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(gone, SHARES, atol=1 / 24**2 + 1e-6)
    np.testing.assert_allclose(deleted + inserted, (deleted[-1] + image)[None].repeat(len(SHARES), axis=0), atol=1e-6)


def test_known_areas_shares_and_correlations():
    np.testing.assert_allclose(area(np.stack([SHARES, np.ones_like(SHARES)])), [0.5, 1])
    even, joint = np.ones((10, 10), np.float32), np.zeros((100, 100), np.float32)
    joint[50:60, 40:60] = 1
    assert inside(even, Geometry(size=10)) == pytest.approx(0.26, abs=0.01)
    assert inside(np.zeros_like(even), Geometry(size=10)) == inside(even, Geometry(size=10))
    assert inside(joint, Geometry(size=100)) == pytest.approx(1)
    a = np.array([[1.0, 5.0], [2.0, 9.0]])
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, np.ones_like(a)) == 0


def test_randomisation_shuffles_the_upper_layers_and_no_others(tmp_path: Path):
    """Those that the class map rests on: it changes with the very last of them."""
    bundle = open_bundle(shipped("kl"))
    image = np.random.default_rng(0).random((1, 1, bundle.card.input.size, bundle.card.input.size), dtype=np.float32)
    before = {tensor.name: tensor for tensor in onnx.load(bundle.network).graph.initializer}
    changed = {}
    for share in (0.0, 0.5, 1.0):
        folder = tmp_path / str(share)
        folder.mkdir()
        after = onnx.load(randomised(bundle, folder, share=share, seed=(0,)).folder / NETWORK).graph.initializer
        changed[share] = {tensor.name for tensor in after if tensor.SerializeToString() != before[tensor.name].SerializeToString()}
        for tensor in after:
            values, old = (np.sort(onnx.numpy_helper.to_array(t), axis=None) for t in (tensor, before[tensor.name]))
            assert (values == old).all()
    maps = [Session(network).run(image)[1] for network in (bundle, replace(bundle, folder=tmp_path / "0.0"))]
    assert rank_correlation(*(cam[0, 2] for cam in maps)) < 0.9
    assert len(changed[0.0]) == 1
    assert changed[0.0] < changed[0.5] < changed[1.0]
    first = next(name for name in before if "conv1.weight" in name or "conv_stem.weight" in name)
    assert first in changed[1.0] - changed[0.5]
