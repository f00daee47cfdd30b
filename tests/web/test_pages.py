"""The pages as the server sends them: what they say in every language, and that no name or text of a client is markup in them."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from support.serving import Grades, form, png, serving

from kneexray.render import wording
from kneexray.tasks import TASKS
from kneexray.types import REASONS, FilmResult, Knee, Measurement, Prediction, Radiograph, Rejection
from kneexray.web.history import Entry
from kneexray.web.past import past_visit
from kneexray.web.records import document
from kneexray.web.translation import LANGUAGES, Words, catalogue, choose
from kneexray.web.views import film_view
from kneexray.web.visits import Visit, VisitFilm
from kneexray.writers.base import DISCLAIMER

HOSTILE = "<img src=x onerror=alert(1)>'.png"
WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(Grades(), history=tmp_path_factory.mktemp("history") / "history.sqlite") as client:
        yield client


@pytest.fixture(scope="module")
def visit(client: TestClient) -> str:
    """The address of a visit with a graded film and one that cannot be read."""
    answer = client.post("/predict", files=form((HOSTILE, png()), ("broken.png", b"\x89PNG\r\n\x1a\nbroken")), follow_redirects=False)
    assert answer.status_code == 303
    return str(answer.headers["location"])


def prediction(task: str, probabilities: list[float], knee: Knee, *, prediction_set: tuple[int, ...] = (0,)) -> Prediction:
    labels = TASKS[task].labels
    return Prediction(task, labels, np.array(probabilities), int(np.argmax(probabilities)), prediction_set, 0.9, knee, "model")


def knee(**fields: object) -> Knee:
    return replace(Knee(Radiograph(np.zeros((200, 100), np.float32), "film.png"), (10, 20, 60, 70)), **fields)


class Tags(HTMLParser):
    """Every tag of a page, with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


def pages(client: TestClient, visit: str) -> dict[str, str]:
    addresses = ("/", "/about", "/history", visit, f"{visit}?film=2", "/visits/unknown")
    return {address: client.get(address).text for address in addresses}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_everything_with_the_same_placeholders(language: str):
    english, messages = catalogue("en"), catalogue(language)
    assert set(messages) == set(english)
    for key, text in messages.items():
        assert text.strip(), key
        assert placeholders(text) == placeholders(english[key]), key
        assert text.count("\n") == english[key].count("\n"), key
        if key.startswith("task."):
            assert (": " in text) == (": " in english[key]), f"{key}: the word, a colon, the sentence"


def placeholders(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_message_that_a_template_asks_for_exists(root: Path):
    asked: set[str] = set()
    for path in (root / "src" / "kneexray" / "web").rglob("*"):
        if path.suffix in {".html", ".svg", ".py"}:
            text = path.read_text(encoding="utf-8")
            asked |= set(re.findall(r"say\('([a-z_.]+)'", text)) | set(re.findall(r'say\("([a-z_.]+)"', text))
        if path.suffix == ".js":
            asked |= {f"script.{key}" for key in re.findall(r'say\("([a-z_.]+)"', path.read_text(encoding="utf-8"))}
    assert len(asked) > 60
    assert asked <= set(catalogue("en"))


@pytest.mark.parametrize(
    ("asked", "accepted", "chosen"),
    [
        (None, "", "en"),
        ("hi", "es", "hi"),
        ("xx", "es-MX,en;q=0.5", "es"),
        (None, "fr, hi-IN;q=0.8, en;q=0.2", "hi"),
        (None, "es;q=0, fr", "en"),
        (None, "es;q=much", "en"),
    ],
)
def test_the_language_is_the_one_asked_for_or_else_the_browsers(asked: str | None, accepted: str, chosen: str):
    assert choose(asked, accepted=accepted) == chosen


def test_english_words_of_results_are_those_of_the_reports():
    say = Words("en")
    for probabilities, grades in (([0.1, 0.2, 0.6, 0.1, 0], (1, 2, 3)), ([0.5, 0.4, 0.1, 0, 0], (0, 1)), ([0, 0, 0, 0, 1], ())):
        one = prediction("kl", probabilities, knee(), prediction_set=grades)
        assert say.grades(one) == wording.set_in_words(one)
        assert say.grade(one, one.grade) == wording.display(one, one.grade)
        assert ": ".join(say.meaning(one)) == TASKS["kl"].meanings[one.grade]
    for name, unit in (("jsw_medial", "mm"), ("jsw_lateral", "1")):
        length = Measurement(name, 0.06321, unit)
        assert say.measured(length) == wording.measured(length)
    assert say.side("L") == wording.SIDES["L"]


def test_a_label_that_the_house_does_not_know_is_shown_as_it_is():
    odd = replace(prediction("kl", [0.2, 0.8, 0, 0, 0], knee()), labels=("a", "b", "c", "d", "e"))
    assert Words("hi").grade(odd, 1) == "b"
    assert Words("hi").meaning(odd) == ("", "")


def test_every_page_says_that_it_is_for_research_and_runs_nothing_of_its_own(client: TestClient, visit: str):
    for address, text in pages(client, visit).items():
        assert DISCLAIMER in text, address
        for tag, attributes in Tags(text).found:
            assert tag != "style", address
            assert "style" not in attributes, address
            assert not any(name.startswith("on") for name in attributes), address
            assert tag != "script" or attributes.get("src", "").startswith("/static/"), address
            for name in ("src", "href", "action"):
                assert "//" not in (attributes.get(name) or ""), address
        assert "<img src=x" not in text


def test_what_pages_refer_to_is_there(client: TestClient, visit: str):
    tags = [attributes for text in pages(client, visit).values() for _, attributes in Tags(text).found]
    addresses = {attributes.get(name) or "#" for attributes in tags for name in ("src", "href")}
    for address in addresses:
        assert address.startswith(("#", "/visits/unknown")) or "/report." in address or client.get(address).status_code == 200, address
    for style in ("base", "home", "viewer", "panel", "text"):
        for address in re.findall(r'url\("\.\./([^"]+)"\)', client.get(f"/static/css/{style}.css").text):
            assert client.get(f"/static/{address}").status_code == 200


def test_the_result_page_shows_the_grade_its_meaning_and_the_picture(client: TestClient, visit: str):
    text = client.get(visit).text
    assert unescape(text).count(HOSTILE) >= 2
    for said in ("Mild", "definite osteophytes", "KL 1 to KL 3", wording.title("oa"), "yes, 75 %", "Film 1 of 2"):
        assert said.lower() in text.lower()
    assert re.search(r'<svg id="film" viewBox="0 0 96 96"', text)
    assert "report.pdf" in text
    assert "report.zip" not in text


def test_a_refused_film_says_why_and_what_to_do(client: TestClient, visit: str):
    text = unescape(client.get(f"{visit}?film=2").text)
    code = re.search(r'data-reason="(\w+)"', text)
    assert code is not None
    assert REASONS[code[1]] in text
    assert catalogue("en")[f"remedy.{code[1]}"] in text
    assert client.get(f"{visit}?film=99").text.count("broken.png")


@pytest.mark.parametrize("language", ["hi", "es"])
def test_links_keep_the_language(client: TestClient, visit: str, language: str):
    text = client.get(f"{visit}?lang={language}").text
    assert f'<html lang="{language}">' in text
    assert catalogue(language)["disclaimer"] in text
    inner = [a["href"] for tag, a in Tags(text).found if tag == "a" and a["href"] and "/api/" not in a["href"] and "hreflang" not in a]
    assert len(inner) >= 4
    assert all(f"lang={language}" in address for address in inner if not address.startswith("#"))
    assert catalogue(language)["task.kl.meaning.2"].split(": ")[1] in text


def test_answers_that_follow_from_others_are_rows_not_readings_of_their_own():
    shown = knee(side="L", warnings=("side unknown: the film does not state it",), measurements=(Measurement("jsw_medial", 4.21, "mm"),))
    result = FilmResult(
        "film.png",
        (
            prediction("kl", [0.1, 0.1, 0.6, 0.1, 0.1], shown, prediction_set=(2,)),
            prediction("oa", [0.2, 0.8], shown, prediction_set=(1,)),
            prediction("osteoporosis", [0.2, 0.7, 0.1], shown, prediction_set=(0, 1)),
        ),
        (Rejection("film.png", "not_ap", "seen from the side"),),
    )
    view = film_view(VisitFilm("film.png", result), number=1, size=(100, 200), address="/films/0", say=Words("es"))
    (one,) = view.knees
    assert [reading.task for reading in one.readings] == ["kl", "osteoporosis"]
    assert ("Artrosis radiográfica (KL ≥ 2)", "sí, 80 %") in one.readings[0].facts
    assert one.readings[1].word == "osteopenia"
    assert one.measurements == (("Anchura del espacio articular, medial", "4.2 mm"),)
    assert one.notes == ("lado desconocido: la radiografía no lo indica",)
    assert (one.tag, one.x, one.y, one.width, one.height, one.heat) == ("L KL 2", 10, 20, 50, 50, None)
    assert view.refusals[0].reason == "una rodilla, pero no en proyección AP"
    assert "osteopenia" not in view.description
    assert "Rodilla izquierda: KL 2, leve." in view.description


def test_the_joint_space_is_drawn_where_it_lies_on_the_film():
    margins = np.array([[12, 40, 44], [50, 41, 46]], np.float32)
    shown = knee(joint_space=margins, measurements=(Measurement("jsw_film_left", 0.08, "1", line=(20, 40, 20, 44)),))
    result = FilmResult("film.png", (prediction("kl", [1, 0, 0, 0, 0], shown),))
    view = film_view(VisitFilm("film.png", result), number=1, size=(100, 200), address="", say=Words("en"))
    assert view.knees[0].lines == ("12.0,40.0 50.0,41.0", "12.0,44.0 50.0,46.0", "20.0,40.0 20.0,44.0")


def test_a_kept_visit_reads_as_it_did():
    shown = knee(side="R", measurements=(Measurement("jsw_lateral", 0.05, "1"),))
    graded = FilmResult("film.png", (prediction("kl", [0, 0, 0, 1, 0], shown, prediction_set=(3,)),))
    refused = FilmResult("chest.png", rejections=(Rejection("chest.png", "not_a_knee", "no knee"),))
    given = document(Visit("id", WHEN, (VisitFilm("film.png", graded), VisitFilm("chest.png", refused))))
    assert document(past_visit(Entry("id", WHEN, ("film.png", "chest.png"), (), given))) == given


def test_the_history_is_searched_read_and_deleted(tmp_path: Path):
    with serving(Grades(), history=tmp_path / "history.sqlite") as client:
        address = client.post("/predict", files=form(("anna.png", png()))).url.path
        assert "anna.png" in client.get("/history?q=ann").text
        assert "anna.png" not in client.get("/history?q=zzz").text.replace('value="zzz"', "")
        client.app.state.visits.delete(address.rsplit("/", 1)[1])  # as when its time in memory is over
        past = client.get(address)
        assert past.status_code == 200
        assert "KL 2" in past.text
        assert "image.png" not in past.text
        after = client.post(f"{address}/delete?from=history")
        assert after.url.path == "/history"
        assert "anna.png" not in after.text
        assert client.get(address).status_code == 404


def test_without_a_history_there_is_none_and_deleting_forgets_the_visit():
    with serving(Grades()) as client:
        assert client.get("/history").status_code == 404
        assert "/history" not in client.get("/").text
        address = client.post("/sample").url.path
        assert client.get(address).status_code == 200
        assert client.post(f"{address}/delete").url.path == "/"
        assert client.get(address).status_code == 404


def test_a_form_without_films_is_answered_with_a_page(client: TestClient):
    answer = client.post("/predict", data={"nothing": "here"})
    assert answer.status_code in (415, 422)
    assert answer.headers["content-type"].startswith("text/html")
    assert "could not be taken" in answer.text


def test_no_cookie_is_ever_set(client: TestClient, visit: str):
    for address in ("/", "/about", visit, "/history"):
        assert "set-cookie" not in client.get(address).headers


def test_only_five_knees_are_drawn(client: TestClient):
    assert client.get("/drawn/4.jpg").headers["content-type"] == "image/jpeg"
    assert client.get("/drawn/5.jpg").status_code == 404


def test_the_about_page_tells_what_the_shipped_model_scored():
    with serving(tasks=("kl",)) as client:
        for language in LANGUAGES:
            text = client.get(f"/about?lang={language}").text
            assert catalogue(language)["task.kl.title"] in text
            assert "Chen 2018" in text
            assert re.search(r"<strong>0\.\d{3}</strong>", text)


def test_behind_a_proxy_addresses_keep_its_prefix(client: TestClient):
    client.app.root_path = "/knees"
    try:
        text = client.get("/knees/").text
    finally:
        client.app.root_path = ""
    for tag, attributes in Tags(text).found:
        for name in ("href", "src", "action", "data-api", "data-visit"):
            if attributes.get(name, "") and not attributes[name].startswith("#"):
                assert attributes[name].startswith("/knees/"), (tag, attributes)
