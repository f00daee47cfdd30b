"""The predictor and the command, with the model that ships."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kneexray
from kneexray import Predictor
from kneexray.errors import BundleError, ConfigError
from kneexray.inference.bundle import GOLDEN, open_bundle, shipped
from kneexray.inference.session import Session
from kneexray.roi import INVERTED
from kneexray.synthetic import draw_knee, write_films
from kneexray.types import FilmResult, Radiograph, Study


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "kneexray", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tasks=["kl", "oa"])


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    write_films(folder)
    return folder


def study(pixels: np.ndarray, **facts: object) -> Study:
    return Study(source="x", radiographs=(Radiograph(pixels=pixels, source="x", **facts),))


@pytest.mark.parametrize(("task", "knees"), [("kl", 826), ("osteoporosis", 336)])
def test_the_shipped_bundle_is_whole_and_reproduces_its_golden_outputs(task: str, knees: int):
    bundle = open_bundle(shipped(task))
    with np.load(bundle.folder / GOLDEN) as golden:
        given = Session(bundle).answers(golden["image"].astype(np.float32) / np.float32(255))
        np.testing.assert_allclose(given.logits, golden["logits"], atol=1e-3)
        np.testing.assert_allclose(given.cam, golden["cam"], atol=1e-3)
        if bundle.card.lengths:
            np.testing.assert_allclose(given.lengths, golden["lengths"], atol=1e-3)
    assert bundle.network.stat().st_size < 25e6
    assert bundle.card.scores["n"] == knees


def test_the_demo_knees_are_graded_in_the_right_order(predictor: Predictor, films: Path):
    grades = [result.predictions[0].grade for result in predictor.predict([films])]
    assert grades == [0, 1, 2, 3, 4]


def test_every_prediction_keeps_its_promises(predictor: Predictor, films: Path):
    for result in predictor.predict([films]):
        kl, oa = result.predictions
        assert (kl.task, oa.task) == ("kl", "oa")
        for prediction in (kl, oa):
            assert prediction.probabilities.sum() == pytest.approx(1)
            assert prediction.grade in prediction.prediction_set
            assert list(prediction.prediction_set) == list(range(prediction.prediction_set[0], prediction.prediction_set[-1] + 1))
            assert prediction.heatmap is not None
            assert 0 <= prediction.heatmap.min() <= prediction.heatmap.max() <= 1
        assert oa.probabilities[1] == pytest.approx(kl.probabilities[2:].sum())


def test_mirroring_a_film_and_swapping_sides_changes_nothing(predictor: Predictor):
    pixels = draw_knee(3)
    right = predictor.predict_study(study(pixels, laterality="R")).predictions[0]
    left = predictor.predict_study(study(np.ascontiguousarray(pixels[:, ::-1]), laterality="L")).predictions[0]
    np.testing.assert_allclose(right.probabilities, left.probabilities, atol=1e-5)
    np.testing.assert_allclose(right.heatmap, left.heatmap[:, ::-1], atol=1e-3)
    assert (right.knee.mirrored, left.knee.mirrored) == (False, True)


def test_sets_grow_with_the_coverage_asked():
    sizes = []
    for coverage in (0.5, 0.8, 0.95, 1.0):
        predictor = Predictor(coverage=coverage, heatmaps=False)
        sizes.append([set(predictor.predict_study(study(draw_knee(g))).predictions[0].prediction_set) for g in range(5)])
    for smaller, larger in pairwise(sizes):
        assert all(a <= b for a, b in zip(smaller, larger, strict=True))
    assert all(s == set(range(5)) for s in sizes[-1])


def test_sets_within_each_class_take_thresholds_a_class(tmp_path: Path):
    bundle = tmp_path / "bundle"
    shutil.copytree(shipped("kl"), bundle)
    card = json.loads((bundle / "card.json").read_text())
    card["calibration"]["class_thresholds"] = {"kl": [[[0.9, 1.0 if label == 4 else 0.0]] for label in range(5)]}
    (bundle / "card.json").write_text(json.dumps(card))
    prediction = Predictor(models=[bundle], per_class=True).predict_study(study(draw_knee(2))).predictions[0]
    assert prediction.prediction_set == tuple(range(prediction.grade, 5))  # grade 4 is in every set, and the gap is filled
    del card["calibration"]["class_thresholds"]  # a bundle of before there were any
    (bundle / "card.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="no thresholds a class"):
        Predictor(models=[bundle], per_class=True)


def test_logits_go_with_the_answer_of_the_network_itself(predictor: Predictor):
    kl, oa = predictor.predict_study(study(draw_knee(3))).predictions
    np.testing.assert_allclose(predictor.graders[0].calibrations["kl"].apply(kl.logits), kl.probabilities, atol=1e-12)
    assert oa.logits is None


def test_batches_and_threads_do_not_change_answers(predictor: Predictor, films: Path):
    def numbers(results: list[FilmResult]) -> np.ndarray:
        return np.stack([p.probabilities for r in results for p in r.predictions if p.task == "kl"])

    paths = sorted(films.iterdir())
    one = numbers([predictor.predict_study(source) for source in map(kneexray.read_file, paths)])
    many = numbers(list(predictor.predict(paths, jobs=3, batch_size=2)))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_the_predictor_survives_pickling(predictor: Predictor, films: Path):
    copy = pickle.loads(pickle.dumps(predictor))
    a, b = (next(p.predict([films])).predictions[0].probabilities for p in (predictor, copy))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_what_is_no_knee_gets_a_reason_and_no_grade(predictor: Predictor):
    rng = np.random.default_rng(0)
    for pixels, reason in (
        (np.full((300, 300), 0.5, np.float32), "blank"),
        (rng.random((300, 300), dtype=np.float32), "not_a_knee"),
        (draw_knee(2, size=60), "too_small"),
        (np.ascontiguousarray(draw_knee(2)[::-1]), "rotated"),
        (np.tile(draw_knee(2), (1, 3)), "several_views"),
    ):
        result = predictor.predict_study(study(pixels))
        assert [r.reason for r in result.rejections] == [reason]
        assert result.predictions == ()


def test_an_inverted_knee_is_turned_back_and_says_so(predictor: Predictor):
    as_is = predictor.predict_study(study(draw_knee(3))).predictions[0]
    inverted = predictor.predict_study(study(1 - draw_knee(3))).predictions[0]
    np.testing.assert_allclose(as_is.probabilities, inverted.probabilities, atol=1e-4)
    assert INVERTED in inverted.warnings
    assert INVERTED not in as_is.warnings


def test_real_films_that_are_no_knee_crops_are_refused(predictor: Predictor, shared_data: Path):
    sources = [p for kind in ("bone-fracture", "chest-nih", "spine-dxa") for p in sorted((shared_data / "not-knees" / kind).iterdir())[:12]]
    results = list(predictor.predict(sources))
    assert len(results) == len(sources)
    assert [r.source for r in results if r.predictions] == []


def test_real_crops_are_graded_nearly_all_and_mostly_right(predictor: Predictor, shared_data: Path):
    errors, graded = [], 0
    for grade in range(5):
        for result in predictor.predict(sorted((shared_data / "chen2018" / "val" / str(grade)).iterdir())[:25]):
            graded += bool(result.predictions)
            errors += [abs(p.grade - grade) for p in result.predictions if p.task == "kl"]
    assert graded >= 123
    assert np.mean(errors) < 0.6


def test_an_unexpected_failure_names_the_file_and_spares_the_rest(films: Path, monkeypatch: pytest.MonkeyPatch):
    predictor = Predictor()
    grader = predictor.graders[0]
    original = grader.grade

    def fail_on_the_third(knees):
        if any("kl-2" in knee.radiograph.source for knee in knees):
            raise RuntimeError("out of luck")
        return original(knees)

    monkeypatch.setattr(grader, "grade", fail_on_the_third)
    results = list(predictor.predict([films]))
    assert [bool(r.predictions) for r in results] == [True, True, False, True, True]
    assert results[2].rejections[0].reason == "failed"
    assert "out of luck" in results[2].rejections[0].detail


def test_impossible_wishes_are_refused_before_any_film_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="Did you mean osteoporosis"):
        Predictor(tasks=["osteoporos"])
    monkeypatch.setattr("kneexray.inference.bundle.SHIPPED", {"kl": "reading"})
    with pytest.raises(BundleError, match="no model ships"):
        Predictor(tasks=["osteoporosis"])
    with pytest.raises(ConfigError, match=r"0\.5 to 0\.99"):
        Predictor(coverage=0.3)
    with pytest.raises(BundleError, match="no model bundle"):
        Predictor(models=[tmp_path])


def test_the_command_writes_what_the_contract_says(films: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    for path in films.iterdir():
        shutil.copy(path, tmp_path / "in")
    (tmp_path / "in" / "empty.png").touch()
    (tmp_path / "in" / "Knie größe.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    answer = command("predict", tmp_path / "in", "--out", tmp_path / "out", "--task", "kl,oa")
    assert answer.returncode == 0, answer.stderr
    assert "5 knee(s) graded" in answer.stdout
    data = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert data["version"] == 1
    assert {r["reason"] for r in data["rejections"]} == {"empty", "truncated"} or {r["reason"] for r in data["rejections"]} == {
        "empty",
        "corrupt",
    }
    assert len(data["predictions"]) == 10
    for prediction in data["predictions"]:
        assert (tmp_path / "out" / prediction["heatmap"]).stat().st_size > 0
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 12
    assert "For research use" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["outputs"]["counts"]["graded"] == 5


def test_exit_codes(films: Path, tmp_path: Path):
    assert command("predict", films / "synthetic-kl-0.png", tmp_path / "absent.png", "--out", tmp_path / "a").returncode == 1
    assert json.loads((tmp_path / "a" / "predictions.json").read_text())["predictions"], "the file that is there is graded all the same"
    assert command("predict", "--out", tmp_path).returncode == 2
    assert command("predict", films, "--out", tmp_path / "b", "--format", "docx").returncode == 2
    assert command("predict", films, "--out", tmp_path / "b", "--roi", "half").returncode == 2
    (tmp_path / "file").touch()
    blocked = command("predict", films, "--out", tmp_path / "file" / "out")
    assert blocked.returncode == 1
    assert "a file is where a folder is meant" in blocked.stderr
    assert "Traceback" not in blocked.stderr
    altered = tmp_path / "bundle"
    shutil.copytree(shipped("kl"), altered)
    with (altered / "model.onnx").open("ab") as file:
        file.write(b"\0")
    answer = command("predict", films, "--out", tmp_path / "c", "--model", altered)
    assert answer.returncode == 1
    assert "altered or damaged" in answer.stderr


def test_demo_draws_grades_and_reports(tmp_path: Path):
    answer = command("demo", "--out", tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "report.html").stat().st_size > 20_000
    assert len(list((tmp_path / "films").glob("*.png"))) == 5
    with Image.open(next(iter((tmp_path / "heatmaps").iterdir()))) as picture:
        assert picture.size[0] >= 200


def test_a_model_that_was_not_shown_to_beat_chance_says_so_with_every_answer(films: Path):
    (warning,) = open_bundle(shipped("osteoporosis")).card.warnings
    assert "not shown to tell normal, osteopenia, osteoporosis from the rest better than by chance" in warning
    for film in Predictor(tasks=["kl", "osteoporosis"], heatmaps=False).predict([films]):
        assert [warning in p.warnings for p in film.predictions] == [False, True]
