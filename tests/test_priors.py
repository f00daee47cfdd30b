"""Two visits: which films belong together, what changed, and what is never told."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from kneexray.cli.app import app
from kneexray.errors import DataError
from kneexray.evaluation.repeatability import SHARE, crops, differences, repeated, spread_of
from kneexray.geometry import CONDYLES
from kneexray.inference.bundle import read_card, shipped
from kneexray.predict import Predictor
from kneexray.priors import OTHER_PERSON, REPEATABILITY, History, Visits, expected_grade, noise_of
from kneexray.read import find_sources
from kneexray.roi import whole_knee
from kneexray.types import DicomContext, FilmResult, Knee, Measurement, Prediction, Radiograph, Side

NOISE = {("kl", "model"): 0.4, ("jsw_medial", ""): 0.01}


def seen(
    source: str,
    *,
    patient: str = "Doe-77",
    issuer: str = "",
    day: str = "20200101",
    side: Side | None = "R",
    grade: int = 1,
    width: float = 0.05,
    mm: bool = False,
    name: str = "",
    born: str = "",
) -> FilmResult:
    """What was said of one knee on a DICOM film."""
    named = {"PatientID": patient.encode(), "IssuerOfPatientID": issuer.encode(), "StudyDate": day.encode()}
    named |= {"PatientName": name.encode(), "PatientBirthDate": born.encode()}
    spacing = (0.2, 0.2) if mm else None
    film = Radiograph(np.zeros((200, 200), np.float32), source, pixel_spacing=spacing, dicom=DicomContext(named))
    lengths = (Measurement("jsw_medial", width * (CONDYLES * 200 * 0.2 if mm else 1), "mm" if mm else "1"),)
    knee = Knee(film, (0, 0, 200, 200), side=side, measurements=lengths)
    probabilities = np.full(5, 0.05)
    probabilities[grade] = 0.8
    tasks = ("0", "1", "2", "3", "4"), probabilities, grade, (grade,), 0.9, knee
    return FilmResult(source, (Prediction("kl", *tasks, "model"), Prediction("kl", *tasks, "other model")))


def compare(now: FilmResult, *earlier: FilmResult) -> tuple[FilmResult, History]:
    history = History(Visits(), noise=NOISE)
    for result in earlier:
        history.add(result)
    return history.compared(now), history


def test_change_of_grade_and_length():
    result, history = compare(seen("b.dcm", day="20210301", grade=3, width=0.03), seen("a.dcm", grade=1, width=0.05))
    first, second = result.predictions
    assert first.change is not None
    assert (first.change.days, first.change.noise, first.change.exceeds_noise) == (425, 0.4, True)
    assert first.change.difference == pytest.approx(1.5)
    assert first.earlier is not None
    assert first.earlier.argmax() == 1
    assert second.change is not None
    assert (second.change.noise, second.change.exceeds_noise) == (None, None)
    assert first.knee is second.knee
    (length,) = first.knee.measurements
    assert length.change is not None
    assert length.change.difference == pytest.approx(-0.02)
    assert length.change.exceeds_noise is True
    assert history.counts == {"compared": 1}


def test_noise_of_lengths_in_mm():
    result, _ = compare(seen("b.dcm", day="20210301", width=0.045, mm=True), seen("a.dcm", width=0.05, mm=True))
    change = result.predictions[0].knee.measurements[0].change
    assert change is not None
    assert change.noise == pytest.approx(0.01 * CONDYLES * 200 * 0.2)
    assert change.exceeds_noise is False
    result, _ = compare(seen("b.dcm", day="20210301", width=0.045, mm=True), seen("a.dcm", width=0.05))
    assert result.predictions[0].knee.measurements[0].change is None  # mm with shares: not to be compared


def test_the_last_earlier_film_counts():
    films = [seen("a.dcm", day=day, grade=grade) for day, grade in (("20180101", 0), ("20200101", 2), ("20190101", 1), ("20220101", 4))]
    result, _ = compare(seen("b.dcm", day="20210101", grade=3), *films)
    earlier = result.predictions[0].earlier
    assert earlier is not None
    assert earlier.argmax() == 2


OTHER = "same patient ID, but another name, birth date or sex"


def test_films_of_one_id_and_two_persons_are_not_compared_and_said_to_be_so():
    now = seen("b.dcm", day="20210101", name="Meier^Anna", born="19500101")
    result, history = compare(now, seen("a.dcm", name="Schmidt^Otto", born="19500101"))
    assert history.counts == {OTHER: 1}
    assert all(p.change is None and OTHER_PERSON in [str(w) for w in p.warnings] for p in result.predictions)
    assert compare(now, seen("a.dcm", name="Meier^Anna", born="19610101"))[1].counts == {OTHER: 1}
    assert compare(now, seen("a.dcm", name="MEIER^ANNA^^Dr"))[1].counts == {"compared": 1}


def test_placeholders_are_no_patient():
    for patient in ("ANON", "anonymous", "0", "UNKNOWN", "XXXX"):
        result, history = compare(seen("b.dcm", day="20210101", patient=patient), seen("a.dcm", patient=patient))
        assert history.counts == {"the patient ID is a placeholder, which names nobody": 1}
        assert all(p.change is None for p in result.predictions)
    assert compare(seen("b.dcm", day="20210101", issuer="UNKNOWN"), seen("a.dcm"))[1].counts == {"compared": 1}


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (seen("b.dcm", day="20210101", patient="Roe-1"), "no earlier film"),
        (seen("b.dcm", day="20210101", issuer="another hospital"), "no earlier film"),
        (seen("b.dcm", day="20200101"), "no earlier film"),
        (seen("b.dcm", day="20210101", side="L"), "no earlier film"),
        (seen("b.dcm", day="20210101", side=None), "the side is not known"),
        (seen("b.dcm", day=""), "no patient or date is known"),
        (seen("b.dcm", day="2021"), "no patient or date is known"),
        (seen("b.dcm", day="20210101", patient=" "), "no patient or date is known"),
    ],
)
def test_what_cannot_be_compared(now: FilmResult, why: str):
    result, history = compare(now, seen("a.dcm"))
    assert [p.change for p in result.predictions] == [None, None]
    assert history.counts == {why: 1}


@given(st.lists(st.sampled_from("LR"), max_size=4))
def test_order_of_predictions_is_kept(sides):
    results = [seen("b.dcm", day="20210101", side=side) for side in sides]
    film = FilmResult("b.dcm", tuple(p for pair in zip(*(r.predictions for r in results), strict=True) for p in pair))
    result, _ = compare(film, seen("a.dcm"))
    assert [(p.knee.side, p.model_id) for p in result.predictions] == [(p.knee.side, p.model_id) for p in film.predictions]
    assert [p.change is not None for p in result.predictions] == [p.knee.side == "R" for p in film.predictions]


def test_expected_grade():
    assert expected_grade(np.array([0.5, 0.5, 0, 0, 0])) == pytest.approx(0.5)


def table(folder: Path, text: str) -> Path:
    path = folder / "visits.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_table_of_visits(tmp_path: Path):
    path = table(tmp_path, "path,patient_id,date,side\nold/a.png,7,2020-01-31,left\nb.png,7,20210201,\n")
    visits = Visits.read([path])
    assert visits.paths == (tmp_path.resolve() / "old" / "a.png", tmp_path.resolve() / "b.png")
    film = Radiograph(np.zeros((2, 2), np.float32), str(tmp_path / "old" / ".." / "b.png"))
    visit = visits.of(film)
    assert visit is not None
    assert (visit.patient, visit.day, visit.side) == (("", "7"), date(2021, 2, 1), None)
    assert visits.of(replace(film, source="c.png")) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,patient\na.png,7\n", "no column patient_id, date"),
        ("path,patient_id,date\na.png,7,yesterday\n", "row 2: 'yesterday' is no date"),
        ("path,patient_id,date\na.png,,2020-01-01\n", "row 2: no patient_id"),
        ("path,patient_id,date,side\na.png,7,2020-01-01,both\n", "row 2: 'both' is no side"),
    ],
)
def test_table_that_cannot_be_used(tmp_path: Path, text: str, message: str):
    with pytest.raises(DataError, match=message):
        Visits.read([table(tmp_path, text)])


def test_noise_belongs_to_a_network(tmp_path: Path):
    predictor = Predictor(tasks=("kl", "oa"))
    model = read_card(shipped("kl")).model_id
    assert set(noise_of(predictor)) == {("jsw_medial", ""), ("jsw_lateral", ""), ("kl", model), ("oa", model)}
    record = json.loads((shipped("kl") / REPEATABILITY).read_text(encoding="utf-8"))
    assert record["sha256"] == read_card(shipped("kl")).sha256, "the shipped model is another: run the command in its repeatability.json"


def test_repeated_films_and_their_spread(shared_data: Path):
    knees, owners = crops(shared_data / "chen2018" / "val", most=3)
    again = repeated(knees[0], np.random.default_rng(1))
    assert again.side == knees[0].side
    assert again.box != knees[0].box
    assert not np.array_equal(again.radiograph.pixels, knees[0].radiograph.pixels)
    found = differences(knees, model=None, lengths=True)
    assert {name: len(values) for name, values in found.items()} == {"jsw_medial": 3, "jsw_lateral": 3}
    assert len(owners) == 3


def test_spread_of_known_differences():
    differences = np.random.default_rng(0).normal(0, 1, 2000)
    differences[:10] = np.nan
    found = spread_of(differences, np.arange(2000) // 2)
    assert SHARE == 0.95
    assert found["value"] == pytest.approx(1.96, abs=0.1)
    assert found["low"] < found["value"] < found["high"]
    assert (found["n"], found["not_measured"]) == (1990, 10)


def test_predict_tells_what_changed(shared_data: Path, tmp_path: Path):
    """Two crops of one knee's grade 0 and another's grade 4 stand in for two visits: no real pair is at hand."""
    folder = shared_data / "chen2018" / "val"
    before, now = (str(sorted((folder / grade).iterdir())[0]) for grade in "04")
    visits = table(tmp_path, f"path,patient_id,date,side\n{before},secret-77,2019-02-03,R\n{now},secret-77,2021-02-03,R\n")
    ran = CliRunner().invoke(app, ["predict", now, "--prior", str(visits), "--out", str(tmp_path / "out"), "--format", "json,csv,html"])
    assert ran.exit_code == 0, ran.output
    assert "1 knee(s) compared with an earlier film." in ran.output
    (record,) = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))["predictions"]
    assert record["knee"]["side"] == "R"
    assert record["change"]["days"] == 731
    assert record["change"]["exceeds_noise"] is True
    assert [m["change"]["days"] for m in record["knee"]["measurements"]] == [731, 731]
    for path in (tmp_path / "out").glob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert "secret-77" not in text
        assert "2019-02-03" not in text
        assert "20190203" not in text


def test_whole_knee_is_graded_as_the_side_of_the_table(shared_data: Path, tmp_path: Path):
    path = sorted((shared_data / "chen2018" / "val" / "0").iterdir())[0]
    visits = Visits.read([table(tmp_path, f"path,patient_id,date,side\n{path},1,2020-01-01,L\n")])
    (source,) = visits.told(find_sources(path))
    (film,) = source.read().radiographs
    assert source.name == str(path)
    assert whole_knee(film).mirrored
