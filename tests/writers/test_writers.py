"""The output formats: what stands in them, that hostile names do no harm, and that nothing written is lost."""

from __future__ import annotations

import base64
import csv
import errno
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from kneexray.errors import ConfigError, OutputError
from kneexray.render import wording
from kneexray.tasks import TASKS
from kneexray.types import FilmResult, Knee, Prediction, Radiograph, Rejection
from kneexray.writers import WRITERS, FolderWriter, RunFacts
from kneexray.writers import csv as csv_format
from kneexray.writers import html as html_format
from kneexray.writers import json as json_format
from kneexray.writers.base import heatmap_paths

HOSTILE = (
    "<script>alert(1)</script>.png",
    '"><img src=x onerror=alert(1)>.png',
    "=HYPERLINK(1)&'.png",
    "+1.png",
    "-1.png",
    "@SUM.png",
    "a;=1+1.png",
    'a"b,c.png',
    "${x} $disclaimer.png",
    "膝 Knie é.png",
    "a\nb\tc.png",
    "\u202egnp.exe",
    "\udcff.png",
    "\x00.png",
)

few = settings(max_examples=25, deadline=None)


def any_name(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test over every hostile name, and over some random ones."""
    for name in HOSTILE:
        test = example(name=name)(test)
    return few(given(name=st.text(min_size=1))(test))


def film(
    source: str = "a/knee.png",
    *,
    tasks: tuple[str, ...] = ("kl",),
    side: str | None = "R",
    heat: bool = True,
    warnings: tuple[str, ...] = (),
    rejections: tuple[Rejection, ...] = (),
) -> FilmResult:
    pixels = np.linspace(0, 1, 40 * 40, dtype=np.float32).reshape(40, 40)
    knee = Knee(Radiograph(pixels, source, sop_instance_uid="1.2.3", warnings=warnings), (0, 0, 40, 40), side=side, score=0.75)  # type: ignore[arg-type]
    heatmap = np.eye(7, dtype=np.float32) if heat else None
    predictions = []
    for task in tasks:
        labels = TASKS[task].labels
        probabilities = np.arange(1.0, len(labels) + 1) / np.arange(1.0, len(labels) + 1).sum()
        grade = len(labels) - 1
        predictions.append(
            Prediction(task, labels, probabilities, grade, (grade - 1, grade), 0.9, knee, f"model-{task}", heatmap, warnings)
        )
    return FilmResult(source, tuple(predictions), rejections)


def rejected(source: str = "b/chest.png", detail: str = "The image scores 0.1.") -> FilmResult:
    return FilmResult(source, (), (Rejection(source, "not_a_knee", detail),))


def loaded(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """The tags, the visible text and the scripts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_bytes().decode())
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        if tag not in {"meta", "img", "input", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_json_is_the_contract(tmp_path: Path) -> None:
    with FolderWriter(tmp_path, formats=("json",)) as writer:
        writer.add(film(warnings=("cut off",)))
        writer.add(rejected())
    name = heatmap_paths(film())[0]
    assert loaded(tmp_path / "predictions.json") == {
        "version": 1,
        "model_ids": ["model-kl"],
        "predictions": [
            {
                "file": "a/knee.png",
                "sop_instance_uid": "1.2.3",
                "knee": {
                    **{"side": "R", "box": [0.0, 0.0, 40.0, 40.0], "mirrored": False, "score": 0.75},
                    **{"measurements": [], "pixel_spacing_source": None, "side_sources": []},
                },
                "task": "kl",
                "grade": 4,
                "label": "4",
                "labels": ["0", "1", "2", "3", "4"],
                "probabilities": [1 / 15, 2 / 15, 3 / 15, 4 / 15, 5 / 15],
                "prediction_set": [3, 4],
                "coverage": 0.9,
                "change": None,
                "heatmap": name,
                "warnings": ["cut off"],
                "model_id": "model-kl",
            }
        ],
        "readings": [],
        "rejections": [{"file": "b/chest.png", "reason": "not_a_knee", "detail": "The image scores 0.1."}],
    }
    with Image.open(tmp_path / str(name)) as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (224, 224), "P")


@pytest.mark.parametrize("results", [[], [film(heat=False)], [rejected()], [film(), rejected(), film("c.png"), rejected("d.png")]])
def test_every_format_is_whole_for_any_number_of_results(tmp_path: Path, results: list[FilmResult]) -> None:
    with FolderWriter(tmp_path) as writer:
        for result in results:
            writer.add(result)
    content = loaded(tmp_path / "predictions.json")
    graded = sum(len(result.predictions) for result in results)
    turned_away = sum(len(result.rejections) for result in results)
    assert (len(content["predictions"]), len(content["rejections"])) == (graded, turned_away)
    assert [row["status"] for row in rows(tmp_path / "predictions.csv")].count("graded") == graded
    assert [row["status"] for row in rows(tmp_path / "predictions.csv")].count("rejected") == turned_away
    assert [tag for tag, _ in Page(tmp_path / "report.html").tags].count("article") == graded
    named = {Path(prediction["heatmap"]).name for prediction in content["predictions"] if prediction["heatmap"]}
    assert named == {path.name for path in (tmp_path / "heatmaps").glob("*")}
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("module", [csv_format, json_format, html_format])
def test_each_format_can_be_written_alone(tmp_path: Path, module: Any) -> None:
    module.write(iter([film(), rejected()]), tmp_path / "new" / "file")
    text = (tmp_path / "new" / "file").read_text(encoding="utf-8")
    assert "a/knee.png" in text
    assert "b/chest.png" in text


def test_csv_round_trips(tmp_path: Path) -> None:
    csv_format.write([film(tasks=("kl", "osteoporosis")), rejected()], tmp_path / "p.csv")
    knee, density, chest = rows(tmp_path / "p.csv")
    assert list(knee) == list(csv_format.COLUMNS)
    assert [float(knee[name]) for name in csv_format.PROBABILITIES] == film().predictions[0].probabilities.tolist()
    assert (knee["grade"], knee["label"], knee["prediction_set"], knee["coverage"]) == ("4", "4", "3|4", "0.9")
    assert (knee["x0"], knee["y1"], knee["mirrored"], knee["side"], knee["score"]) == ("0.0", "40.0", "False", "R", "0.75")
    assert (density["label"], density["probability_3"], density["labels"]) == ("osteoporosis", "", "normal|osteopenia|osteoporosis")
    assert (chest["status"], chest["reason"], chest["detail"]) == ("rejected", "not_a_knee", "The image scores 0.1.")
    assert (chest["grade"], chest["task"], chest["probability_0"]) == ("", "", "")


@any_name
def test_csv_holds_any_name_and_no_formula(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "p.csv"
    csv_format.write([film(name, warnings=(name,)), rejected(name, detail=name)], path)
    read = rows(path)
    written = name.encode("utf-8", "backslashreplace").decode()
    for row in read:
        assert row["file"] == (f"./{written}" if written.startswith(csv_format._FORMULA) else written)
        texts = {"file", "status", "side", "task", "label", "warnings", "reason", "detail", "labels", "model_id"}
        assert not any(row[column].startswith(csv_format._FORMULA) for column in texts)
    assert read[1]["detail"].removeprefix("'") == written.removeprefix("'")


@any_name
def test_json_round_trips_any_name(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.mktemp("json") / "p.json"
    json_format.write([film(name), rejected(name, detail=name)], path)
    content = loaded(path)
    assert content["predictions"][0]["file"] == name
    assert content["rejections"][0] == {"file": name, "reason": "not_a_knee", "detail": name}


@any_name
def test_html_escapes_any_name(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.mktemp("html") / "r.html"
    run = RunFacts(command=name, models={name: {name: name}}, versions={name: name})
    html_format.write([film(name, warnings=(name,)), rejected(name, detail=name)], path, run=run)
    page = Page(path)
    tags = Counter(tag for tag, _ in page.tags)
    assert (tags["script"], tags["img"], tags["article"], tags["bdi"], tags["h1"]) == (1, 2, 1, 2, 1)
    assert not {"onerror", "onclick", "href"} & {attribute for _, attributes in page.tags for attribute in attributes}
    assert page.text.count(name.encode("utf-8", "backslashreplace").decode()) >= 9


@few
@given(sources=st.lists(st.text(min_size=1), max_size=20), tasks=st.lists(st.sampled_from(list(TASKS)), min_size=1, max_size=3))
def test_heatmap_names_are_unique_and_safe(sources: list[str], tasks: list[str]) -> None:
    sources += [f"{folder}/{'long' * 100}.png" for folder in ("a", "b", "A")] + ["x.zip!/CON.png", "x.zip!/con.png", "CON"]
    films = [film(source, tasks=tuple(tasks)) for source in dict.fromkeys(sources)]
    names = [name for result in films for name in heatmap_paths(result)]
    assert names == [name for result in films for name in heatmap_paths(result)]
    assert len({name.lower() for name in names if name}) == len(films) * len(tasks)
    assert all(re.fullmatch(r"heatmaps/[A-Za-z0-9_-]{1,90}\.png", name or "") for name in names)


def test_two_knees_of_one_film_have_names_of_their_own() -> None:
    knees = [film(side=side).predictions[0] for side in ("R", "L", None, None)]
    names = heatmap_paths(FilmResult("a/knee.png", tuple(knees)))
    assert [str(name).partition("-")[2].partition("-")[2] for name in names] == ["R-kl.png", "L-kl.png", "knee-kl.png", "knee-kl-2.png"]
    assert str(names[0]).startswith("heatmaps/knee-")


def test_what_was_computed_before_an_error_is_kept(tmp_path: Path) -> None:
    def run() -> None:
        with FolderWriter(tmp_path) as writer:
            writer.add(film())
            raise RuntimeError("later")

    with pytest.raises(RuntimeError, match="later"):
        run()
    assert len(loaded(tmp_path / "predictions.json")["predictions"]) == 1
    assert len(rows(tmp_path / "predictions.csv")) == 1
    assert "a/knee.png" in Page(tmp_path / "report.html").text


def test_what_was_written_before_a_kill_is_kept_and_no_file_looks_whole(tmp_path: Path) -> None:
    writer = FolderWriter(tmp_path)
    writer.add(film())
    writer.add(rejected())
    writer.add(film("c.png"))
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".partial"} == {"heatmaps"}
    partial = json.loads((tmp_path / "predictions.json.partial").read_text() + "]}")
    assert [prediction["file"] for prediction in partial["predictions"]] == ["a/knee.png", "c.png"]
    assert len(rows(tmp_path / "predictions.csv.partial")) == 3
    writer.close()
    writer.close()
    assert len(loaded(tmp_path / "predictions.json")["predictions"]) == 2


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    for sources in (("a.png", "b.png"), ("a.png",)):
        with FolderWriter(tmp_path) as writer:
            for source in sources:
                writer.add(film(source))
    assert [row["file"] for row in rows(tmp_path / "predictions.csv")] == ["a.png"]
    assert [record["file"] for record in loaded(tmp_path / "predictions.json")["predictions"]] == ["a.png"]
    assert "b.png" not in Page(tmp_path / "report.html").text
    with Image.open(tmp_path / str(heatmap_paths(film("a.png"))[0])) as picture:
        picture.load()


def test_writers_keep_no_film(tmp_path: Path) -> None:
    with FolderWriter(tmp_path) as writer:
        result = film(tasks=("kl", "osteoporosis"))
        pixels = weakref.ref(result.predictions[0].knee.radiograph.pixels)
        heatmap = weakref.ref(result.predictions[0].heatmap)
        writer.add(result)
        del result
        assert pixels() is None
        assert heatmap() is None


class FullDisk(io.RawIOBase):
    """A file on a disk with ``room`` bytes left; like a real one, it takes what still fits."""

    def __init__(self, file: Any, room: int) -> None:
        self.file = file
        self.room = room

    def write(self, data: Any) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written: int = self.file.write(data[: self.room])
        self.room -= written
        return written

    def read(self, size: int = -1) -> Any:
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self.file.seek(offset, whence))

    def truncate(self, size: int | None = None) -> int:
        return int(self.file.truncate(size))

    def close(self) -> None:
        self.file.close()
        super().close()


@pytest.mark.parametrize(("module", "name"), [(json_format, "predictions.json"), (csv_format, "predictions.csv")])
def test_a_full_disk_is_told_and_costs_no_earlier_record(tmp_path: Path, module: Any, name: str) -> None:
    writer = module.FileWriter(tmp_path / name)
    writer.add(film())
    writer._file._file = FullDisk(writer._file._file, room=100)
    with pytest.raises(OutputError, match=rf"{name}\.partial cannot be written: no space is left .* free some"):
        writer.add(film("c.png"))
    with pytest.raises(OutputError) if module is json_format else pytest.MonkeyPatch.context():
        writer.close()
    left = tmp_path / (f"{name}.partial" if module is json_format else name)
    read = json.loads(left.read_text() + "]}")["predictions"] if module is json_format else rows(left)
    assert [row["file"] for row in read] == ["a/knee.png"]


def test_a_report_on_a_full_disk(tmp_path: Path) -> None:
    writer = html_format.FileWriter(tmp_path / "report.html")
    writer.add(film())
    writer._file._file = FullDisk(writer._file._file, room=5000)
    with pytest.raises(OutputError, match="no space is left"):
        writer.close()
    assert not (tmp_path / "report.html").exists()


def test_a_heatmap_on_a_full_disk_is_not_left_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", half)
    with FolderWriter(tmp_path, formats=()) as writer, pytest.raises(OutputError, match=r"knee-.*png cannot be written: no space is left"):
        writer.add(film())
    assert not list((tmp_path / "heatmaps").iterdir())


def _is_a_file(path: Path) -> None:
    path.write_text("a file")


def _lies_in_a_file(path: Path) -> None:
    path.parent.write_text("a file")


def _holds_a_folder_of_that_name(path: Path) -> None:
    (path / "predictions.csv").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [_is_a_file, _lies_in_a_file, _holds_a_folder_of_that_name])
def test_an_unusable_output_folder_is_told(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    folder = tmp_path / "parent" / "out"
    if spoil is not _lies_in_a_file:
        folder.parent.mkdir()
    spoil(folder)
    with pytest.raises(OutputError, match=r"out.* cannot be written: a (file|folder) is where a (file|folder) is meant; move it away"):
        FolderWriter(folder)


def test_an_unwritable_output_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="you may not write there"):
        FolderWriter(tmp_path / "out")


def test_an_unknown_format_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown format 'jason'. Did you mean json\? Known: csv, dicom-pdf, .*html, json, pdf"):
        FolderWriter(tmp_path / "out", formats=("jason",))
    assert not (tmp_path / "out").exists()


def test_report_says_what_it_must(tmp_path: Path) -> None:
    run = RunFacts(
        command="kneexray predict films --out out",
        started=datetime(2026, 1, 15, 9, 30, tzinfo=UTC),
        models={"model-kl": {"licence": "CC BY 4.0"}},
        versions={"onnxruntime": "1.20.0"},
    )
    html_format.write(
        [film(warnings=("the film is cut off",)), film("c.png", side=None, heat=False), rejected()], tmp_path / "r.html", run=run
    )
    page = Page(tmp_path / "r.html")
    assert page.text.count("For research use. Not a medical device.") == 2
    for said in (
        *("3films", "2films graded", "2knees", "1knees with warnings", "1images rejected"),
        *("2026-01-15 09:30 UTC", "Kellgren-Lawrence grade", "KL 4 2", "Right knee", "Knee, side not stated"),
        *("severe: large osteophytes", "33 %", "90 % prediction set", "KL 3 or KL 4", "the film is cut off"),
        *("Radiographic osteoarthritis (KL ≥\u00a02)80 %", "no AP knee was found on the image", "The image scores 0.1."),
        *("kneexray predict films --out out", "licence: CC BY 4.0", "onnxruntime 1.20.0", "Apache-2.0"),
    ):
        assert said in page.text
    assert [attributes for tag, attributes in page.tags if tag == "img"].count(("class", "alt", "src")) == 3  # two knees, one heatmap


def test_report_needs_and_asks_for_nothing_else(tmp_path: Path) -> None:
    html_format.write([film()], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:)|url\(|@import|https?:""", text)
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()}'" in text


def test_report_is_bounded_and_says_so(tmp_path: Path) -> None:
    with html_format.FileWriter(tmp_path / "r.html", shown=2) as writer:
        for number in range(4):
            writer.add(film(f"{number}.png"))
            writer.add(rejected(f"r{number}.png"))
    page = Page(tmp_path / "r.html")
    assert [tag for tag, _ in page.tags].count("article") == 2
    assert "the first 2 of 4 knees" in page.text
    assert "And 2 more" in page.text
    assert "4knees" in page.text


def test_tasks_of_one_knee_share_its_card(tmp_path: Path) -> None:
    html_format.write([film(tasks=("kl", "oa", "osteoporosis"))], tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert [tag for tag, _ in page.tags].count("article") == 1
    assert page.text.count("Radiographic osteoarthritis") == 2  # its own reading and the summary, not derived once more
    assert "osteopenia or osteoporosis" in page.text


@pytest.mark.parametrize(
    ("grades", "said"),
    [((), "none"), ((2,), "KL 2"), ((1, 2), "KL 1 or KL 2"), ((1, 2, 3), "KL 1 to KL 3"), ((0, 2, 4), "KL 0 or KL 2 or KL 4")],
)
def test_prediction_set_in_words(grades: tuple[int, ...], said: str) -> None:
    knee = film().predictions[0].knee
    prediction = Prediction("kl", TASKS["kl"].labels, np.full(5, 0.2), 2, grades, 0.9, knee, "m")
    assert wording.set_in_words(prediction) == said


@pytest.mark.parametrize(("value", "said"), [(0.0, "0 %"), (0.001, "< 1 %"), (0.5, "50 %"), (0.999, "> 99 %"), (1.0, "100 %")])
def test_percent_calls_nothing_certain_that_is_not(value: float, said: str) -> None:
    assert wording.percent(value) == said


def test_a_task_of_unknown_name_is_shown_as_it_is(tmp_path: Path) -> None:
    knee = film().predictions[0].knee
    prediction = Prediction("implant", ("none", "total"), np.array([0.1, 0.9]), 1, (1,), 0.9, knee, "m")
    with FolderWriter(tmp_path) as writer:
        writer.add(FilmResult("a/knee.png", (prediction,)))
    assert "implant" in Page(tmp_path / "report.html").text
    assert rows(tmp_path / "predictions.csv")[0]["label"] == "total"


def test_the_table_is_read_without_numpy_or_pillow() -> None:
    code = "import sys, kneexray.writers as w; assert 'html' in w.WRITERS; assert not {'numpy', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", WRITERS)
def test_every_row_of_the_table_loads(name: str) -> None:
    assert WRITERS[name].load().__module__ == WRITERS[name].module


def test_real_knees(tmp_path: Path, shared_data: Path) -> None:
    results = []
    for path in sorted((shared_data / "chen2018/val").glob("*/*.webp"))[::80]:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"), dtype=np.float32) / 255
        knee = Knee(Radiograph(pixels, str(path)), (0, 0, 299, 299), side="L", mirrored=True)
        heatmap = np.outer(np.hanning(10), np.hanning(10)).astype(np.float32)
        results.append(FilmResult(str(path), (Prediction("kl", TASKS["kl"].labels, np.full(5, 0.2), 0, (0,), 0.9, knee, "m", heatmap),)))
    assert results
    with FolderWriter(tmp_path) as writer:
        for result in results:
            writer.add(result)
    assert len(list((tmp_path / "heatmaps").iterdir())) == len(results)
    assert all(path.stat().st_size < 60_000 for path in (tmp_path / "heatmaps").iterdir())
    assert (tmp_path / "report.html").stat().st_size < 40_000 * len(results)
