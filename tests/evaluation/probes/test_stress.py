"""Corruptions, the draw of patients, and the alarm on a model that does not need the joint."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

pytest.importorskip("onnx", reason="toy networks are written with onnx")
pytest.importorskip("matplotlib")

from support.toy_models import JOINT, TOP, write_bundle, write_films

from kneexray.datasets.manifest import Example
from kneexray.errors import DataError
from kneexray.evaluation import metrics
from kneexray.evaluation.answers import Labelled
from kneexray.evaluation.probes import stress
from kneexray.evaluation.probes.corruptions import CORRUPTIONS, Corruption, blurred
from kneexray.evaluation.probes.sample import draw, estimate
from kneexray.geometry import JOINT_LINE
from kneexray.predict import Predictor
from kneexray.synthetic import draw_knee

FILM = draw_knee(2, size=120)


def items_of(*patients: str) -> list[Labelled]:
    return [Labelled(Path(f"{row}.png"), Example(f"{row}.png", "0", "kl", patient_id=patient)) for row, patient in enumerate(patients)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Labelled]:
    return write_films(tmp_path_factory.mktemp("films"))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(120, 120), (120, 97)])
def test_a_corruption_keeps_shape_and_range_and_changes_nothing_at_its_identity(name: str, shape: tuple[int, int]):
    change, film = CORRUPTIONS[name], FILM[: shape[0], : shape[1]].copy()
    before = film.copy()
    for strength in change.strengths:
        changed = change.apply(film, strength, np.random.default_rng(0))
        assert changed.shape == shape
        assert changed.dtype == np.float32
        assert 0 <= changed.min() <= changed.max() <= 1
        assert (changed != film).any()
    np.testing.assert_allclose(change.apply(film, change.identity, np.random.default_rng(0)), film, atol=1e-5)
    assert (film == before).all()


def test_a_masked_joint_tells_nothing_of_what_it_hides():
    rows = slice(round((JOINT_LINE - 0.25) * 120) + 1, round((JOINT_LINE + 0.25) * 120) - 1)
    other = FILM.copy()
    other[rows] = 1 - other[rows]
    mask, generator = CORRUPTIONS["joint_masked"].apply, np.random.default_rng(0)
    assert (mask(FILM, 0.5, generator) == mask(other, 0.5, generator)).all()
    assert (mask(FILM, 0.5, generator)[: rows.start - 2] == FILM[: rows.start - 2]).all()
    assert np.abs(np.diff(mask(FILM, 0.5, generator)[rows], axis=0)).max() < 0.02  # no line across


def test_known_changes():
    ramp = np.linspace(0, 1, 101, dtype=np.float32)[None].repeat(101, axis=0)
    generator = np.random.default_rng(0)
    moved = CORRUPTIONS["shift_across"].apply(ramp, 10 / 101, generator)
    np.testing.assert_allclose(moved[:, 20:90], ramp[:, 10:80], atol=1e-3)
    turned = CORRUPTIONS["rotation"].apply(ramp, 90, generator)
    np.testing.assert_allclose(turned[20:80, 20:80], ramp.T[::-1][20:80, 20:80], atol=0.02)
    np.testing.assert_allclose(blurred(ramp, 3)[:, 20:80], ramp[:, 20:80], atol=1e-5)
    assert (
        CORRUPTIONS["noise"].apply(ramp, 0.1, np.random.default_rng(1)).tolist()
        == CORRUPTIONS["noise"].apply(ramp, 0.1, np.random.default_rng(1)).tolist()
    )


def test_patients_are_drawn_whole_and_never_more_than_asked():
    items = items_of("a", "a", "b", "c", "c", "", "")
    for seed in range(20):
        sample = draw(items, most=4, seed=seed)
        assert 2 <= len(sample.items) <= 4
        names = {item.name for item in sample.items}
        assert ("0.png" in names) == ("1.png" in names)
        assert ("3.png" in names) == ("4.png" in names)
        assert [item.name for item in sample.items] == sorted(names)
    whole = draw(items, most=100, seed=0)
    assert (len(whole.items), whole.patients) == (7, 5)
    assert len({tuple(item.name for item in draw(items, most=4, seed=seed).items) for seed in range(20)}) > 3
    with pytest.raises(DataError, match="ask for more"):
        draw(items_of("a", "a"), most=1, seed=0)


def test_figures_of_a_part_stay_paired_with_those_of_all():
    sample = draw(items_of(*"aabbccdd"), most=8, seed=1)
    values = np.arange(8.0)
    part = sample.take([0, 1, 2, 3, 6, 7])
    assert part.patients == 3
    np.testing.assert_allclose(part.mean(values[[0, 1, 2, 3, 6, 7]])[0], values[[0, 1, 2, 3, 6, 7]].mean())
    probabilities = np.eye(5)[[0, 1, 0, 0, 0, 2, 0, 0]]
    accuracy, _ = sample.scores(probabilities)
    paired = metrics.bootstrap(metrics.tally(probabilities, sample.target, sample.patient), replicates=1000, seed=1)
    assert accuracy[0] == 0.75
    np.testing.assert_allclose(accuracy[1:], paired["accuracy"])
    assert estimate(draw(items_of("a", "a"), most=2, seed=0).mean(np.array([0.0, 1.0]))) == {"value": 0.5, "low": None, "high": None}


@pytest.mark.parametrize(("rows", "fires"), [(TOP, True), (JOINT, False)], ids=["ignores the joint", "needs it"])
def test_the_alarm(rows: slice, fires: bool, films: list[Labelled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    few = {name: Corruption(c.title, c.unit, c.strengths[-1:], c.identity, c.apply) for name, c in CORRUPTIONS.items()}
    monkeypatch.setattr(stress, "CORRUPTIONS", MappingProxyType({name: few[name] for name in ("joint_masked", "inverted", "noise")}))
    predictor = Predictor(models=[write_bundle(tmp_path / "toy", rows=rows)], roi_mode="whole")
    section = stress.section(predictor, films, most=100)
    assert bool(section.alarm) == fires, section.lead
    assert ("something other than the joint" in section.alarm) == fires
    data = json.loads(json.dumps(section.data, allow_nan=False))
    assert (data["n"], data["n_patients"], data["majority_rate"]) == (20, 4, 0.2)
    assert data["accuracy"] == {"value": 1, "low": 1, "high": 1}
    hidden = data["changes"]["joint_masked"][-1]
    assert hidden["strength"] == 0.5
    assert (hidden["accuracy"]["value"] == 1) == fires
    assert hidden["accuracy_drop"]["value"] == pytest.approx(1 - hidden["accuracy"]["value"])
    assert set(section.figures) == {"curves", "refused"}
    assert all(len(row) == len(table.columns) for table in section.tables for row in table.rows)
    assert section.tables[1].rows[0][0] in {"Noise", "Inverted"}


def test_a_film_that_cannot_be_read_is_counted_as_refused(films: list[Labelled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stress, "CORRUPTIONS", MappingProxyType({name: CORRUPTIONS[name] for name in ("joint_masked", "inverted")}))
    absent = Labelled(tmp_path / "absent.png", Example("absent.png", "0", "kl", patient_id="x"))
    predictor = Predictor(models=[write_bundle(tmp_path / "toy", rows=JOINT)], roi_mode="whole")
    data = stress.section(predictor, [*films[:5], absent], most=100).data
    assert data["changes"]["inverted"][0]["refused"] >= 1 / 6
    with pytest.raises(DataError, match="none of the 1 images drawn"):
        stress.section(predictor, [absent], most=100)
