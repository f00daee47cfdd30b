"""The batch: its plan, its shards, what is left when a process dies, and where films come from."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.batches import OPTIONS, grade, union, whole, write_table
from support.fake_predictor import Cheap, die
from support.toy_models import write_bundle, write_films

pytest.importorskip("pyarrow")
import pyarrow
import pyarrow.parquet

from kneexray.batch import films as where
from kneexray.batch import local
from kneexray.batch.films import Film, Opener, list_films
from kneexray.batch.local import grade_local
from kneexray.batch.plan import FILMS, PLAN, open_plan
from kneexray.batch.shards import PREDICTIONS, REJECTIONS, counts, finished
from kneexray.batch.work import FATAL
from kneexray.errors import ConfigError, DataError, KneeXRayError
from kneexray.writers.csv import COLUMNS


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "films.csv", [f"film-{number}.png" for number in range(40)])


def test_every_film_is_answered_once_with_the_columns_of_the_csv(tmp_path: Path, table: Path):
    rows = whole(tmp_path / "out", table)
    files = [row["file"] for kind in rows.values() for row in kind]
    assert sorted(files) == sorted(str(tmp_path / f"film-{number}.png") for number in range(40))
    assert tuple(rows["predictions"][0]) == PREDICTIONS
    assert tuple(rows["rejections"][0]) == REJECTIONS
    assert set(PREDICTIONS) | set(REJECTIONS) | {"status"} == set(COLUMNS)
    first = rows["predictions"][0]
    assert first["labels"][first["grade"]] == first["label"]
    assert first["prediction_set"] == [first["grade"]]
    knees, refused = counts(tmp_path / "out")
    assert knees["kl"] + refused["not_a_knee"] == 40


class Killed(BaseException):
    """Stands for the end of the process: nothing may clean up after it."""


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=st.lists(st.integers(0, 60), min_size=1, max_size=4))
def test_a_batch_killed_at_any_step_on_the_disk_goes_on_to_the_same_shards(tmp_path_factory: pytest.TempPathFactory, kills: list[int]):
    folder = tmp_path_factory.mktemp("kills")
    table = write_table(folder / "films.csv", [f"film-{number}.png" for number in range(40)])
    expected = whole(folder / "whole", table)
    for kill in kills:
        with pytest.MonkeyPatch.context() as patch:
            _die_at(kill, patch)
            try:
                grade(open_plan(folder / "out", source=str(table), options=OPTIONS, shard_films=7, resume=True))
            except Killed:
                continue
    grade(open_plan(folder / "out", source=str(table), options=OPTIONS, shard_films=7, resume=True))
    assert union(folder / "out") == expected
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(path.name for path in (folder / "whole").iterdir())


def _die_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Let the process end before the ``step``-th flush or rename, or half-way through the file before it."""
    left = [step]

    def dying(call: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                patch.setattr(Path, "unlink", lambda *_, **__: None)
                if isinstance(arguments[0], int) and os.fstat(arguments[0]).st_size > 1:  # a file, not a folder
                    with_suppressed_truncation(arguments[0])
                raise Killed
            left[0] -= 1
            return call(*arguments, **options)

        return wrapped

    patch.setattr(os, "fsync", dying(os.fsync))
    patch.setattr(Path, "replace", dying(Path.replace))


def with_suppressed_truncation(handle: int) -> None:
    if not Path(f"/proc/self/fd/{handle}").is_dir():
        os.ftruncate(handle, os.fstat(handle).st_size // 2)


def test_another_batch_does_not_go_on_here(tmp_path: Path, table: Path):
    asked = partial(open_plan, tmp_path / "out", source=str(table), options=OPTIONS)
    asked()
    with pytest.raises(ConfigError, match="--resume"):
        asked()
    assert asked(resume=True) == asked(resume=True, shard_films=16)
    with pytest.raises(ConfigError, match="shard_films = 16, and 7 is asked"):
        asked(resume=True, shard_films=7)
    with pytest.raises(ConfigError, match=r'source = ".*films.csv", and "elsewhere"'):
        asked(resume=True, source="elsewhere")
    with pytest.raises(ConfigError, match='task = "kl", and "oa"'):
        asked(resume=True, options={**OPTIONS, "task": "oa"})
    (tmp_path / "out" / PLAN).write_text("{")
    with pytest.raises(DataError, match="no plan"):
        asked(resume=True)


@pytest.mark.parametrize(("films", "size"), [(1, 16), (1000, 16), (10_000, 157), (100_000, 1024)])
def test_shards_follow_from_the_number_of_films_alone(tmp_path: Path, films: int, size: int):
    table = tmp_path / "films.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"file": [f"{number}.png" for number in range(films)]}), table)
    plan = open_plan(tmp_path / "out", source=str(table), options=OPTIONS)
    assert (plan.films, plan.shard_films) == (films, size)
    last = plan.read(plan.shards - 1)
    assert last[-1] == Film(str(tmp_path / f"{films - 1}.png"))
    assert len(last) == plan.size(plan.shards - 1)


def test_a_table_names_each_film_once_and_tells_its_side(tmp_path: Path):
    table = tmp_path / "m.csv"
    table.write_text("\ufefffile,kl,laterality\na.png,1,L\n/b.png,2,right\nhttp://x/c.png,0,\na.png,3,L\n", encoding="utf-8")
    assert list(list_films(str(table))) == [Film(str(tmp_path / "a.png"), "L"), Film("/b.png", "R"), Film("http://x/c.png")]
    table.write_text("name,kl\na.png,1\n")
    with pytest.raises(DataError, match="no column of files"):
        list(list_films(str(table)))
    with pytest.raises(DataError, match="does not exist"):
        list(list_films(str(tmp_path / "nowhere")))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file names are bytes")
def test_a_name_that_is_no_text_survives(tmp_path: Path):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    plan = open_plan(tmp_path / "out", source=str(folder), options=OPTIONS)
    assert os.fsencode(plan.read(0)[0].file).endswith(b"caf\xe9.png")
    grade(plan)
    assert [row["file"].endswith("caf\\udce9.png") for kind in union(tmp_path / "out").values() for row in kind] == [True]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten films: five in a folder, five in a ZIP beside them."""
    folder = tmp_path_factory.mktemp("pictures")
    write_films(folder, patients=2)
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        for path in sorted(folder.glob("1-*.png")):
            archive.write(path, f"inner/{path.name}")
            path.unlink()
    return folder


def read_all(source: str) -> list[str]:
    """Return the names of a source's films after reading each."""
    opener = Opener()
    listed = list(list_films(source))
    for film in listed:
        study = opener.open(film).read()
        assert (study.source, len(study.radiographs), study.rejections) == (film.file, 1, ())
    opener.open(listed[-1]).read()
    assert opener.open(listed[0]).read().radiographs  # backwards too
    return [film.file for film in listed]


def test_films_in_folders_and_archives_are_found_again(pictures: Path):
    names = read_all(str(pictures))
    assert [name.removeprefix(f"{pictures}/") for name in names] == [
        *(f"0-{grade}.png" for grade in range(5)),
        *(f"more.zip!/inner/1-{grade}.png" for grade in range(5)),
    ]
    assert read_all(str(pictures / "more.zip")) == names[5:]
    gone = Opener().open(Film(f"{pictures}/more.zip!/inner/2.png")).read()
    assert [r.reason for r in gone.rejections] == ["not_found"]


def test_a_listed_failure_keeps_its_reason(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04nothing")
    for name, reason in (("empty", "not_found"), ("broken.zip", "corrupt")):
        (film,) = list_films(str(tmp_path / name))
        assert [r.reason for r in Opener().open(film).read().rejections] == [reason]


def test_remote_films_through_fsspec(pictures: Path, tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.put(str(pictures), "/store", recursive=True)
    system.pipe("/store/.hidden/x.png", b"x")
    system.pipe("/store/notes.txt", b"x")
    try:
        names = read_all("memory://store")
        assert [name.partition("store/")[2] for name in names] == [name[len(f"{pictures}/") :] for name in read_all(str(pictures))]
        table = write_table(tmp_path / "t.csv", names)
        assert read_all(str(table)) == names
        system.put(str(write_table(tmp_path / "relative.csv", ["0-1.png"])), "/store/relative.csv")
        assert read_all("memory://store/relative.csv") == ["memory://store/0-1.png"]
        with pytest.raises(DataError, match="cannot be listed"):
            list(list_films("memory://elsewhere"))
    finally:
        system.rm("/store", recursive=True)
    with pytest.raises(DataError, match="elsewhere://"):
        list(list_films("elsewhere://bucket/films"))


class Quiet(SimpleHTTPRequestHandler):
    failures = 0

    def do_GET(self) -> None:
        if type(self).failures and self.path.endswith(".png"):
            type(self).failures -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def server(pictures: Path) -> Iterator[str]:
    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(pictures)))
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_address[1]}"
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_films_of_a_web_server_even_a_failing_one(server: str, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(where, "_PAUSES", (0.0, 0.0))
    Quiet.failures = 2
    names = read_all(f"{server}/")
    assert names[:2] == [f"{server}/0-0.png", f"{server}/0-1.png"]
    assert f"{server}/more.zip!/inner/1-4.png" in names
    Quiet.failures = 3
    study = Opener().open(Film(names[0])).read()
    assert [r.reason for r in study.rejections] == ["failed"]
    assert "503" in study.rejections[0].detail
    assert [r.reason for r in Opener().open(Film(f"{server}/none.png")).read().rejections] == ["not_found"]


def test_a_film_that_kills_its_reader_is_refused_and_the_rest_is_graded(tmp_path: Path):
    names = [f"film-{number}.png" for number in range(12)]
    expected = whole(tmp_path / "whole", write_table(tmp_path / "films.csv", names))
    names[3], names[8] = "deadly.png", "unlucky.png"
    table = write_table(tmp_path / "films.csv", names)
    plan = open_plan(tmp_path / "out", source=str(table), options=OPTIONS, shard_films=6)
    assert sum(grade_local(plan, Cheap(tmp_path), range(plan.shards), jobs=2)) == 12
    rows = union(tmp_path / "out")
    assert [row["detail"] for row in rows["rejections"] if "deadly" in row["file"]] == [FATAL]
    kept = {name for name in names if "film-" in name}
    for kind in rows:
        ours, theirs = ([row for row in given[kind] if Path(row["file"]).name in kept] for given in (rows, expected))
        assert ours == theirs
    assert sorted(finished(tmp_path / "out")) == [0, 1]


def test_workers_that_die_while_they_load_end_the_batch(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local, "_serve", die)
    plan = open_plan(tmp_path / "out", source=str(table), options=OPTIONS)
    with pytest.raises(KneeXRayError, match=r"keep being killed \(SIGKILL\)"):
        list(grade_local(plan, Cheap(), [0], jobs=1))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "kneexray", "batch", *map(str, arguments)]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    bundle = write_bundle(tmp_path_factory.mktemp("toy") / "bundle", rows=slice(16, 24))
    return ("--model", str(bundle), "--roi", "whole", "--jobs", "2", "--shard-films", "3")


@pytest.mark.slow
def test_the_command_grades_as_predict_does(pictures: Path, toy: tuple[str, ...], tmp_path: Path):
    out = tmp_path / "out"
    answer = subprocess.run(command(pictures, "--out", out, "--heatmap", *toy), capture_output=True, text=True, check=True)
    assert "10 file(s): 10 knee(s) graded; refused: none" in answer.stdout
    predict = [sys.executable, "-m", "kneexray", "predict", str(pictures), "--out", str(tmp_path / "predict"), *toy[:4]]
    subprocess.run([*predict, "--format", "csv"], capture_output=True, check=True)
    with (tmp_path / "predict" / "predictions.csv").open() as file:
        expected = list(csv.DictReader(file))
    rows = union(out)["predictions"]
    assert [(row["file"], str(row["probability_2"]), str(row["score"])) for row in rows] == [
        (row["file"], row["probability_2"], row["score"]) for row in expected
    ]
    assert all((out / row["heatmap"]).stat().st_size for row in rows)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["outputs"]["knees"] == {"kl": 10}
    assert manifest["environment"]["device"] == "cpu"
    again = subprocess.run(command(pictures, "--out", out, *toy), capture_output=True, text=True, check=False)
    assert again.returncode == 2
    other = subprocess.run(command(pictures, "--out", out, "--resume", *toy), capture_output=True, text=True, check=False)
    assert (other.returncode, "heatmap = true, and false is asked" in other.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.parametrize("shards", [0, 1, 4], ids="killed after {} shards".format)
def test_the_command_killed_goes_on_to_the_same_rows(pictures: Path, toy: tuple[str, ...], tmp_path: Path, shards: int):
    films = tmp_path / "films.csv"
    links = tmp_path / "films"
    links.mkdir()
    for copy in range(6):
        for path in pictures.glob("*.png"):
            (links / f"{copy}-{path.name}").hardlink_to(path)
    write_table(films, [f"films/{path.name}" for path in sorted(links.iterdir())])
    out = tmp_path / "out"
    running = subprocess.Popen(command(films, "--out", out, *toy), stdout=subprocess.DEVNULL, start_new_session=True)
    while running.poll() is None and (not (out / PLAN).exists() or len(finished(out)) < shards):
        time.sleep(0.01)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    subprocess.run(command(films, "--out", out, "--resume", *toy), stdout=subprocess.DEVNULL, check=True)
    subprocess.run(command(films, "--out", tmp_path / "whole", *toy), stdout=subprocess.DEVNULL, check=True)
    assert union(out) == union(tmp_path / "whole")
    assert len(union(out)["predictions"]) == 30
    assert not list(out.glob("*.partial"))
    assert (out / FILMS).read_bytes() == (tmp_path / "whole" / FILMS).read_bytes()
