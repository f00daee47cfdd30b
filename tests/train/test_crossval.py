"""Cross-validation, the ensemble of its folds; films cut into knees; what a model sees; splits that keep nothing together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("lightning")

from support.recipes import SMALL
from support.runs import IGNORED

from kneexray.cli.app import run as kneexray
from kneexray.datasets import crops
from kneexray.datasets import manifest as manifests
from kneexray.datasets.manifest import Manifest
from kneexray.datasets.split import Part, folds, split
from kneexray.errors import ConfigError, DataError
from kneexray.evaluation.by_patient import by_patient
from kneexray.evaluation.inputs import EvaluationInput
from kneexray.evaluation.predictions_file import read_predictions
from kneexray.inference.bundle import open_bundle
from kneexray.inference.cartilage import BAND, cartilage_band
from kneexray.inference.preprocess import Geometry, preprocess
from kneexray.inference.session import Session
from kneexray.read import read_file
from kneexray.roi import whole_knee
from kneexray.synthetic import draw_knee
from kneexray.train.crossval import CHOSEN, cross_validate
from kneexray.train.export import out_of_fold
from kneexray.train.export.export import Exported, export, load_net
from kneexray.train.recipe import config as configs
from kneexray.types import Radiograph

pytestmark = IGNORED
COMMAND = ["kneexray", "train"]


@pytest.fixture(scope="module")
def made(knees: Path) -> tuple[Manifest, ...]:
    return folds(manifests.load(knees, task="kl"), k=3, seed=0)


@pytest.fixture(scope="module")
def config() -> configs.Config:
    return configs.validate({**SMALL, "select": {"monitor": "last"}}, where="test")


@pytest.fixture(scope="module")
def finished(made: tuple[Manifest, ...], config: configs.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cv") / "run"
    cross_validate(config, made, out, command=COMMAND)
    return out


@pytest.mark.slow
def test_every_image_is_judged_once_by_the_network_that_did_not_see_its_patient(made: tuple[Manifest, ...], finished: Path):
    answers = read_predictions(finished / "predictions.parquet")
    assert sorted(Path(file).name for file in answers.file) == sorted(Path(e.path).name for e in made[0].examples)
    assert answers.split_quality == "patient"
    for i, fold in enumerate(made):
        judged = {Path(file).name for file, name in zip(answers.file, answers.split, strict=True) if name == f"fold-{i}"}
        assert judged == {Path(e.path).name for e in fold.split("val")}
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1)


def test_a_fold_that_cannot_be_trained_is_told_before_the_first_one_trains(
    made: tuple[Manifest, ...], config: configs.Config, tmp_path: Path
):
    few = tuple(e for e in made[-1].examples if e.split == "val" or e.label != "4")
    with pytest.raises(DataError, match="no image of class 4"):
        cross_validate(config, [*made[:-1], dataclasses.replace(made[-1], examples=few)], tmp_path / "run", command=COMMAND)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_resuming_changes_nothing_and_another_recipe_is_refused(
    made: tuple[Manifest, ...], config: configs.Config, finished: Path, tmp_path: Path
):
    cross_validate(config, made[:2], tmp_path / "run", command=COMMAND)  # as if stopped before the last fold
    cross_validate(config, made, tmp_path / "run", command=COMMAND, resume=True)
    again, before = (read_predictions(folder / "predictions.parquet") for folder in (tmp_path / "run", finished))
    np.testing.assert_array_equal(again.probabilities, before.probabilities)
    other = config.model_copy(update={"seed": 4})
    with pytest.raises(ConfigError, match="recipe differs in seed"):
        cross_validate(other, made, tmp_path / "run", command=COMMAND, resume=True)


@pytest.mark.slow
def test_the_folds_become_one_bundle_judged_by_what_each_held_out(finished: Path, made: tuple[Manifest, ...], tmp_path: Path):
    runs = sorted(finished.glob("fold-*"))
    card = export(runs, tmp_path / "bundle", command=["kneexray", "export"])
    assert len(card.members) == 3
    assert card.scores["n"] == len(made[0].examples)
    assert card.data.images == len(made[0].examples)
    assert "judged by the one member" in card.scores_on
    images = np.random.default_rng(0).random((2, 1, 32, 32), dtype=np.float32)
    logits, _ = Session(open_bundle(tmp_path / "bundle")).run(images)
    config = configs.validate({**SMALL, "select": {"monitor": "last"}}, where="test")
    with torch.inference_mode():
        alone = [Exported([(load_net(run, config), 32)], mirrored=True)(torch.from_numpy(images))[0] for run in runs]
    np.testing.assert_allclose(logits, torch.stack(alone).mean(dim=0), atol=1e-4)


@pytest.mark.slow
def test_one_command_does_it_all_and_says_where_an_epoch_was_chosen(knees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('model = {backbone = "cnn", weights = ["none"], cnn = {channels = [4]}}\ninput = {size = 32}\noptim = {epochs = 1}\n')
    assert kneexray(["train", str(recipe), "--data", str(knees), "--out", str(tmp_path / "run"), "--folds", "2"]) == 0
    said = capsys.readouterr().out
    assert CHOSEN in said
    assert "out of fold, 80 images by patient" in said
    assert kneexray(["evaluate", str(tmp_path / "run" / "predictions.parquet"), "--out", str(tmp_path / "report")]) == 0


def test_a_patient_is_judged_once_by_the_mean_answer():
    answers = EvaluationInput(
        task="osteoporosis",
        model_id="m",
        split_quality="cluster",
        file=["a1", "b1", "a2"],
        target=np.array([0, 2, 0]),
        probabilities=np.array([[0.6, 0.4, 0.0], [0.0, 0.1, 0.9], [0.2, 0.8, 0.0]]),
        patient_id=["a", "b", "a"],
        side=["L", None, "R"],
        split=[None] * 3,
        source=[None] * 3,
    )
    once = by_patient(answers)
    assert (list(once.file), once.target.tolist()) == (["a1", "b1"], [0, 2])
    np.testing.assert_allclose(once.probabilities, [[0.4, 0.6, 0.0], [0.0, 0.1, 0.9]])
    with pytest.raises(DataError, match="a2: its label differs"):
        by_patient(dataclasses.replace(answers, target=np.array([0, 2, 1])))


def test_runs_that_are_neither_one_split_nor_folds_are_no_model(made: tuple[Manifest, ...]):
    assert out_of_fold.are_folds(made)
    assert not out_of_fold.are_folds([made[0], made[0]])
    more = tuple(dataclasses.replace(e, split="val") for e in made[1].examples)
    with pytest.raises(ConfigError, match="overlap"):
        out_of_fold.are_folds([made[0], dataclasses.replace(made[1], examples=more)])


def test_a_recipe_of_several_tasks_is_not_cross_validated(made: tuple[Manifest, ...], tmp_path: Path):
    config = configs.validate({**SMALL, "also": ["osteoporosis"]}, where="test")
    with pytest.raises(ConfigError, match="one task at a time"):
        cross_validate(config, made, tmp_path / "run", command=COMMAND)


def test_a_split_by_image_parts_patients_and_says_so(knees: Path):
    manifest = manifests.load(knees, task="kl")
    parts = [Part("train", 0.5), Part("val", 0.5)]
    apart, together = (split(manifest, parts=parts, seed=0, by=by) for by in ("image", "patient"))
    assert apart.split_quality == "image"
    assert together.split_quality == "patient"
    assert {e.path for e in apart.examples} == {e.path for e in manifest.examples}


def test_films_become_knees_that_stay_together(tmp_path: Path):
    films = tmp_path / "films" / "normal"
    films.mkdir(parents=True)
    pixels = np.hstack([draw_knee(0, seed=1, size=200), draw_knee(0, seed=2, size=200)])
    Image.fromarray((pixels * 255).astype(np.uint8)).save(films / "film.png")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file,x0,y0,x1,y1,side\nnormal/film.png,0,0,200,200,R\nnormal/film.png,190,-10,410,210,unknown\n", encoding="utf-8")
    manifest = manifests.load(tmp_path / "films", task="osteoporosis")
    made = crops.crop(manifest, tmp_path / "knees", boxes=crops.read_boxes(boxes), source="wani2021")
    assert made.located == 0
    assert [e.side for e in made.manifest.examples] == ["R", ""]
    assert len({e.patient_id for e in made.manifest.examples}) == 1
    assert {e.source for e in made.manifest.examples} == {"wani2021"}
    first, second = (read_file(made.manifest.path_of(e)).radiographs[0].pixels for e in made.manifest.examples)
    assert (first.shape, second.shape) == ((200, 200), (220, 220))
    np.testing.assert_allclose(first, pixels[:, :200], atol=1 / 254)


@pytest.mark.parametrize("row", ["film.png,0,0,0,200", "film.png,a,0,1,1"])
def test_what_is_no_box_is_named(tmp_path: Path, row: str):
    (tmp_path / "boxes.csv").write_text(f"file,x0,y0,x1,y1\n{row}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"boxes\.csv, row 2"):
        crops.read_boxes(tmp_path / "boxes.csv")


def test_a_model_may_see_the_cartilage_only_and_its_map_lies_there():
    film = whole_knee(Radiograph(draw_knee(1, size=200), source="x"))
    geometry = Geometry(size=64, region="cartilage")
    band = cartilage_band(film.radiograph.pixels, film.box)
    assert geometry.seen(film) == pytest.approx(band)
    x0, y0, x1, y1 = geometry.seen_of_box(film)
    assert (x0, x1) == pytest.approx((0, 1))
    assert y1 - y0 == pytest.approx(BAND)
    assert preprocess(film, geometry).shape == (1, 64, 64)
    assert Geometry(size=64, zoom=0.8, shift_y=0.1).seen_of_box(film) == pytest.approx((0.1, 0.2, 0.9, 1.0))
