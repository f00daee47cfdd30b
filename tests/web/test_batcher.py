"""Batches, the queue, visits, cache and history: what stands between requests and the model."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from support.serving import Grades, form, png, serving, wait_until

from kneexray.errors import OutputError
from kneexray.read import DEFAULT_LIMITS
from kneexray.read.reader import read_bytes
from kneexray.types import FilmResult, Rejection, Study
from kneexray.web.app import create_app
from kneexray.web.batcher import Busy, Engine
from kneexray.web.cache import Cache
from kneexray.web.history import History
from kneexray.web.settings import Settings
from kneexray.web.visits import Visit, VisitFilm, Visits, renamed, result_size, without_pixels


@dataclass
class Film:
    name: str

    def read(self) -> Study:
        return read_bytes(png(), source=self.name)


def result(name: str = "knee.png") -> FilmResult:
    return Grades()._grade(Film(name))


def test_films_that_come_together_are_graded_together_and_in_order():
    grades = Grades()
    engine = Engine(grades, queue_films=100, workers=2, window=5, batch_films=4)
    engine.start()
    futures = [engine.submit(Film(str(n))) for n in range(8)]
    assert [future.result(20).source for future in futures] == [str(n) for n in range(8)]
    engine.stop()
    assert sorted(map(len, grades.batches)) == [4, 4]


def test_a_full_queue_is_busy_and_stopping_finishes_what_was_taken():
    grades = Grades()
    grades.open.clear()
    engine = Engine(grades, queue_films=2, workers=1, window=0, batch_films=1)
    engine.start()
    futures = [engine.submit(Film("0"))]
    wait_until(lambda: grades.batches)
    futures += [engine.submit(Film("1")), engine.submit(Film("2"))]
    with pytest.raises(Busy):
        engine.submit(Film("3"))
    futures[1].cancel()
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    wait_until(lambda: engine._stopping)
    with pytest.raises(Busy):
        engine.submit(Film("4"))
    grades.open.set()
    stopping.join(20)
    assert not stopping.is_alive()
    assert (futures[0].result(0).source, futures[2].result(0).source) == ("0", "2")
    with pytest.raises(CancelledError):
        futures[1].result(0)
    assert grades.batches == [["0"], ["2"]]


def test_a_batch_that_breaks_is_told_and_the_next_goes_on():
    class Fails(Grades):
        def grade_sources(self, sources):
            if sources[0].name == "bad":
                raise MemoryError
            return super().grade_sources(sources)

    engine = Engine(Fails(), queue_films=9, workers=1, window=0, batch_films=1)
    engine.start()
    bad, good = engine.submit(Film("bad")), engine.submit(Film("good"))
    with pytest.raises(MemoryError):
        bad.result(20)
    assert good.result(20).source == "good"
    engine.stop()


def test_a_visit_holds_films_as_they_came_and_decodes_them_again():
    kept = VisitFilm("new.png", renamed(without_pixels(result()), "new.png"), png())
    radiograph = kept.result.predictions[0].knee.radiograph
    assert radiograph.pixels.shape == (96, 96)
    assert radiograph.pixels.base.nbytes == 4
    opened = kept.opened(DEFAULT_LIMITS)
    assert {opened.source, opened.predictions[0].source} == {"new.png"}
    np.testing.assert_array_equal(opened.predictions[0].knee.radiograph.pixels, result().predictions[0].knee.radiograph.pixels)


def test_visits_expire_are_bounded_and_cannot_be_guessed(monkeypatch: pytest.MonkeyPatch):
    film = VisitFilm("f", FilmResult("f"), bytes(40_000))
    visits = Visits(minutes=1, max_bytes=100_000)
    first, second = visits.create(), visits.create()
    assert len(first.id) >= 24
    assert first.id != second.id
    visits.add(first.id, film)
    visits.add(second.id, film)
    visits.get(first.id)
    third = visits.create()
    visits.add(third.id, film)
    with pytest.raises(KeyError):
        visits.get(second.id)  # not looked at for longest
    assert visits.size < 100_000
    with pytest.raises(KeyError):
        visits.add(third.id, VisitFilm("g", FilmResult("g"), bytes(200_000)))
    assert visits.size == 0
    last = visits.create()
    later = datetime.now(UTC) + timedelta(minutes=2)
    monkeypatch.setattr("kneexray.web.visits.datetime", type("Later", (datetime,), {"now": staticmethod(lambda zone: later)}))
    with pytest.raises(KeyError):
        visits.get(last.id)
    assert visits.size == 0


def test_the_cache_forgets_what_is_old_and_what_was_not_asked_for_longest():
    one = result_size(FilmResult("f"))
    cache = Cache(minutes=1, max_bytes=2 * one)
    for key in ("a", "b"):
        cache.put(key, FilmResult(key))
    cache.get("a")
    cache.put("c", FilmResult("c"))
    assert cache.get("b") is None
    assert cache.get("a").source == "a"
    assert cache.size == 2 * one
    old = Cache(minutes=0, max_bytes=2 * one)
    for forget in (old.expire, lambda: old.get("a")):
        old.put("a", FilmResult("a"))
        time.sleep(0.001)
        forget()
        assert old.size == 0


def visit(id: str, name: str, *, age: timedelta = timedelta()) -> Visit:
    films = (
        VisitFilm(name, renamed(without_pixels(result()), name)),
        VisitFilm("x", FilmResult("x", (), (Rejection("x", "not_a_knee", "-"),))),
    )
    return Visit(id, datetime.now(UTC) - age, films)


def test_history_is_searched_deleted_and_expires(tmp_path: Path):
    path = tmp_path / "history.sqlite"
    history = History(path, keep_days=10)
    assert path.stat().st_mode & 0o077 == 0
    for id, name, days in (("a", "100%_knee.png", 0), ("b", 'quote".png', 5), ("c", "old.png", 11)):
        history.add(visit(id, name, age=timedelta(days=days)))
    assert [entry.id for entry in history.search()] == ["a", "b"]
    assert [entry.id for entry in history.search("0%_K")] == ["a"]
    assert [entry.id for entry in history.search('e"')] == ["b"]
    assert [entry.id for entry in history.search("KL 2", limit=1, offset=1)] == ["b"]
    assert history.search("' OR 1=1 --") == []
    assert history.get("a").names == ("100%_knee.png", "x")
    assert history.get("a").document["visit"] == "a"
    with pytest.raises(KeyError):
        history.get("c")
    history.expire()
    history.delete("a")
    with pytest.raises(KeyError):
        history.delete("a")
    history.close()
    assert b"old.png" not in path.read_bytes()
    assert sqlite3.connect(path).execute("SELECT id FROM visits").fetchall() == [("b",)]


def test_a_history_that_cannot_be_opened_says_so(tmp_path: Path):
    (tmp_path / "h").write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(OutputError, match="history"):
        History(tmp_path / "h", keep_days=1)
    with pytest.raises(OutputError, match="history"):
        History(tmp_path / "absent" / "h", keep_days=1)


def test_a_visit_is_found_in_the_history_when_memory_has_forgotten_it(tmp_path: Path):
    with serving(Grades(), history=tmp_path / "h.sqlite") as client:
        document = client.post("/api/v1/predict", files=form(("knee.png", png()))).json()
        client.app.state.visits.delete(document["visit"])
        place = f"/api/v1/visits/{document['visit']}"
        assert client.get(place).json() == document
        assert client.get(f"{place}/films/0/image.png").status_code == 404
        assert client.delete(place).status_code == 204
        assert client.get(place).status_code == 404


def test_a_visit_is_handed_on_and_the_answer_does_not_depend_on_it():
    handed_on = []

    def take(visit: Visit) -> None:
        handed_on.append(visit)
        raise RuntimeError("whatever goes wrong there")

    app = create_app(Settings(workers=1), predictor=Grades(), on_visit=take)
    with TestClient(app) as client:
        answer = client.post("/api/v1/predict", files=form(("knee.png", png())))
    assert answer.status_code == 200
    assert [(visit.id, [film.name for film in visit.films]) for visit in handed_on] == [(answer.json()["visit"], ["knee.png"])]
