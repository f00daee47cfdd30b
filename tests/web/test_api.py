"""The API over the real model: what goes in, what comes out, and that both are what OpenAPI says."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from support.serving import Grades, form, png, serving

from kneexray.predict import Predictor
from kneexray.types import REASONS
from kneexray.web import examples
from kneexray.web.records import Document, FilmLine, Health, Model

NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(tasks=("kl", "oa")) as client:
        yield client


@pytest.fixture(scope="module")
def crops(shared_data: Path) -> list[Path]:
    return [sorted((shared_data / "chen2018" / "val" / str(grade)).iterdir())[0] for grade in (0, 3)]


def test_the_sample_is_graded(client: TestClient):
    answer = client.post("/api/v1/sample")
    assert answer.status_code == 200
    document = Document.model_validate(answer.json())
    assert {p.task for p in document.predictions} == {"kl", "oa"}
    assert client.get(f"/api/v1/visits/{document.visit}").json() == answer.json()


def test_crops_are_graded_as_the_predictor_grades_them(client: TestClient, crops: list[Path]):
    answer = client.post("/api/v1/predict", files=form(*((path.name, path.read_bytes()) for path in crops)))
    assert answer.status_code == 200, answer.text
    document = Document.model_validate(answer.json())
    expected = [p for film in Predictor(tasks=["kl", "oa"]).predict(crops) for p in film.predictions]
    assert [(p.file, p.task, p.grade) for p in document.predictions] == [(Path(p.source).name, p.task, p.grade) for p in expected]
    for given, wanted in zip(document.predictions, expected, strict=True):
        np.testing.assert_allclose(given.probabilities, wanted.probabilities, atol=1e-5)


def test_the_same_bytes_are_answered_again_from_the_cache_under_their_new_name(client: TestClient, crops: list[Path]):
    data = crops[0].read_bytes()
    first = client.post("/api/v1/predict", files=form(("first.webp", data)))
    hits = metric(client, 'kneexray_cache_total{outcome="hit"}')
    second = client.post("/api/v1/predict", files=form(("second.webp", data)))
    assert metric(client, 'kneexray_cache_total{outcome="hit"}') == hits + 1
    assert first.headers["X-Content-Hash"] == second.headers["X-Content-Hash"]
    one, two = first.json()["predictions"][0], second.json()["predictions"][0]
    assert (one.pop("file"), two.pop("file")) == ("first.webp", "second.webp")
    assert one.pop("heatmap") != two.pop("heatmap")
    assert one == two


def test_a_line_comes_for_each_film(client: TestClient, crops: list[Path], shared_data: Path):
    chest = sorted((shared_data / "not-knees" / "chest-nih").iterdir())[0]
    answer = client.post("/api/v1/predict", files=form(*((p.name, p.read_bytes()) for p in (*crops, chest))), headers=NDJSON)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [FilmLine.model_validate_json(line) for line in answer.text.splitlines()]
    assert [(line.film, line.of, line.file) for line in lines] == [(n, 3, p.name) for n, p in enumerate((*crops, chest))]
    assert all(line.predictions for line in lines[:2])
    assert not lines[2].predictions
    assert lines[2].rejections[0].reason in REASONS
    assert lines[2].rejections[0].detail
    whole = client.get(f"/api/v1/visits/{lines[0].visit}").json()
    assert whole["predictions"] == [json.loads(p.model_dump_json()) for line in lines for p in line.predictions]


def test_a_whole_film_has_pictures_and_reports(client: TestClient, shared_data: Path):
    film = sorted((shared_data / "wani" / "normal").iterdir())[0]
    document = client.post("/api/v1/predict", files=form((film.name, film.read_bytes()))).json()
    place = f"/api/v1/visits/{document['visit']}"
    image = client.get(f"{place}/films/0/image.png")
    with Image.open(film) as original:
        assert (int(image.headers["X-Film-Width"]), int(image.headers["X-Film-Height"])) == original.size
    assert Image.open(io.BytesIO(image.content)).mode == "L"
    heat = client.get(document["predictions"][0]["heatmap"])
    assert Image.open(io.BytesIO(heat.content)).convert("RGBA").getchannel("A").getextrema()[0] == 0
    crop = Image.open(io.BytesIO(client.get(f"{place}/films/0/knees/0/crop.png").content))
    assert crop.size == (512, 512)
    assert np.asarray(crop).std() > 10
    assert client.get(f"{place}/report.json").json() == document
    assert len(client.get(f"{place}/report.csv").text.splitlines()) == 1 + len(document["predictions"]) + len(document["rejections"])
    assert client.get(f"{place}/report.pdf").content.startswith(b"%PDF")
    refused = client.get(f"{place}/report.zip")
    assert refused.status_code == 404
    assert "no DICOM film" in refused.json()["detail"]
    for missing in ("films/1/image.png", "films/0/knees/9/crop.png", "films/0/knees/9/heatmap.png"):
        assert client.get(f"{place}/{missing}").status_code == 404


def test_a_dicom_film_gets_a_structured_report(client: TestClient, shared_data: Path):
    pytest.importorskip("highdicom", reason="the dicom extra is not installed")
    films = sorted((shared_data / "dicom").glob("*.dcm"))
    document = client.post("/api/v1/predict", files=form(*(("same.dcm", film.read_bytes()) for film in films))).json()
    packed = client.get(f"/api/v1/visits/{document['visit']}/report.zip")
    if packed.status_code == 404:  # the UIDs of these two films may be malformed: then it says so
        assert "UID" in packed.json()["detail"]
        return
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        assert archive.testzip() is None
        assert all(name.endswith("-sr.dcm") for name in archive.namelist())


def test_an_inverted_film_is_shown_as_it_was_graded(client: TestClient, crops: list[Path]):
    with Image.open(crops[0]) as crop:
        pixels = 255 - np.asarray(crop.convert("L"))
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    document = client.post("/api/v1/predict", files=form(("inverted.png", data.getvalue()))).json()
    assert any("inverted" in warning for warning in document["predictions"][0]["warnings"])
    shown = Image.open(io.BytesIO(client.get(f"/api/v1/visits/{document['visit']}/films/0/image.png").content))
    assert np.corrcoef(np.asarray(shown).ravel(), 255 - pixels.ravel())[0, 1] > 0.95


def test_an_archive_is_unpacked_and_a_film_that_cannot_be_read_is_shown_as_none(client: TestClient):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/knee.png", png())
        archive.writestr("broken.png", png()[:200])
        archive.writestr("notes.txt", "no image")
    lines = client.post("/api/v1/predict", files=form(("study.zip", packed.getvalue())), headers=NDJSON).text.splitlines()
    films = [json.loads(line) for line in lines]
    assert [(film["file"], film["of"]) for film in films] == [("study.zip!/a/knee.png", None), ("study.zip!/broken.png", None)]
    assert films[1]["rejections"][0]["reason"] in ("truncated", "corrupt")
    assert client.get(f"/api/v1/visits/{films[1]['visit']}/films/1/image.png").status_code == 404


def test_a_visit_can_be_forgotten(client: TestClient):
    visit = client.post("/api/v1/sample").json()["visit"]
    assert client.delete(f"/api/v1/visits/{visit}").status_code == 204
    assert client.get(f"/api/v1/visits/{visit}").status_code == 404
    assert client.delete(f"/api/v1/visits/{visit}").status_code == 404


def test_health_models_and_examples_are_what_they_say(client: TestClient):
    health = Health.model_validate(client.get("/api/v1/health").json())
    listed = [Model.model_validate(model) for model in client.get("/api/v1/models").json()]
    assert health.model_ids == [model.model_id for model in listed]
    Document.model_validate(examples.DOCUMENT)
    FilmLine.model_validate(examples.FILM_LINE)
    schema = client.get("/api/v1/openapi.json").json()
    assert {"/api/v1/predict", "/api/v1/models", "/api/v1/health", "/dicom-web/studies"} <= schema["paths"].keys()
    refs = {part for part in json.dumps(schema).split('"') if part.startswith("#/components/schemas/")}
    assert {ref.rsplit("/", 1)[1] for ref in refs} <= schema["components"]["schemas"].keys()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "/api/v1/nowhere", 404),
        ("put", "/api/v1/predict", 405),
        ("post", "/api/v1/predict", 415),
        ("get", "/api/v1/visits/unknown", 404),
        ("get", "/api/v1/visits/unknown/films/-1/image.png", 422),
        ("get", "/api/v1/visits/unknown/report.exe", 422),
    ],
)
def test_errors_are_problem_documents(client: TestClient, method: str, path: str, status: int):
    answer = getattr(client, method)(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().keys() == {"title", "status", "detail", "remedy"}


def test_no_log_names_a_film_a_patient_or_a_visit(shared_data: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    film = sorted((shared_data / "dicom").glob("*.dcm"))[0]
    with serving() as client:
        answer = client.post("/api/v1/predict", files=form(("Erika-Mustermann.dcm", film.read_bytes()), ("Erika-2.png", b"nonsense")))
        visit = answer.json()["visit"]
        client.get(f"/api/v1/visits/{visit}/films/0/image.png")
    text = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore")))
    assert "POST /api/v1/predict 200" in text
    for secret in ("Erika", visit, answer.json()["predictions"][0]["sop_instance_uid"]):
        assert secret not in text


def test_a_film_that_fails_unexpectedly_is_logged_by_its_hash_only(caplog: pytest.LogCaptureFixture):
    class Fails(Grades):
        def grade_sources(self, sources):
            raise RuntimeError("no memory")

    with serving(Fails()) as client:
        answer = client.post("/api/v1/predict", files=form(("Erika.png", png())))
    assert answer.status_code == 500
    assert answer.json()["remedy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "no memory" in caplog.text
    assert "Erika" not in caplog.text


def metric(client: TestClient, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), 0.0)
