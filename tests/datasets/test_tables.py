"""Tables and folders as people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneexray.cli.app import run
from kneexray.datasets import layout, manifest
from kneexray.errors import ConfigError
from kneexray.synthetic import draw_knee
from kneexray.tables import read_table, side_of
from kneexray.tasks import get_task


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    (root / "img").mkdir()
    for grade in range(5):
        Image.fromarray((draw_knee(grade, size=80) * 255).astype(np.uint8)).save(root / "img" / f"a{grade}.png")
    return root


@pytest.mark.parametrize(
    "text", ["-1", "-2", "−1", ">2", "<=1", "≥ 3", "1?", "2/3", "0,1", "1.5", "1-2", "NA", ".", "", "99", "~2", "2 or 3"]
)
def test_what_is_not_known_is_no_class(text: str):
    assert get_task("kl").label_of(text) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        *[("2.0", "2"), ("0.0", "0"), ("3.", "3"), ("2-Minimal", "2"), ("2-Mild", "2"), ("0-Normal", "0"), ("G0", "0"), ("class4", "4")],
        *[("KL-3", "3"), ("Grade 1", "1"), ("kl-grade 4", "4"), ("Kellgren-Lawrence 2", "2"), ("3_Moderate", "3"), ("4Severe", "4")],
    ],
)
def test_ways_to_write_a_grade(text: str, label: str):
    assert get_task("kl").label_of(text) == label


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("1", "R"),
        ("2", "L"),
        ("2.0", "L"),
        ("Left", "L"),
        ("RIGHT knee", "R"),
        ("r", "R"),
        ("", None),
        ("both", None),
        ("3", None),
        (None, None),
    ],
)
def test_sides_of_tables(text: str, side: str | None):
    assert side_of(text) == side


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "image,kl,side\nimg/a0.png,0.0,1\nimg/a1.png,1.0,2\nimg/a2.png,,1\n"),
        ("b.csv", "\ufeffimage,kl,side\r\nimg/a0.png,0,right\r\nimg/a1.png,1,left\r\n,,\r\n"),
        ("c.csv", "image,kl,side\nimg\\a0.png,0,R\nimg\\a1.png,1,L\n"),
        ("d.tsv", "image\tkl\tside\nimg/a0.png\t0\tR\nimg/a1.png\t1\tL\nimg/a2.png\t-1\tR\n"),
        ("e.csv", "image;kl;side\nimg/a0.png;KL0;R\nimg/a1.png;KL1;L\nimg/a3.png;>2;L\n"),
    ],
)
def test_tables_as_people_have_them(images: Path, tmp_path: Path, name: str, content: str):
    (images / name).write_text(content, encoding="utf-8", newline="")
    assert run(["data", "prepare", str(images / name), "--out", str(tmp_path / "out"), "--task", "kl"]) == 0
    found = manifest.load(tmp_path / "out" / manifest.NAME, task="kl").examples
    assert [(Path(e.path).name, e.label, e.side) for e in found] == [("a0.png", "0", "R"), ("a1.png", "1", "L")]


def test_an_excel_sheet(images: Path, tmp_path: Path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["image", "kl", "side"], ["img/a0.png", 0, 1], ["img/a1.png", -1, 2], [None, None, None]):
        book.active.append(row)
    book.save(images / "x.xlsx")
    assert read_table(images / "x.xlsx")[1] == {"image": "img/a1.png", "kl": "-1", "side": "2"}
    assert run(["data", "prepare", str(images / "x.xlsx"), "--out", str(tmp_path / "out"), "--task", "kl"]) == 0


def test_a_manifest_leaves_out_what_is_not_known_and_says_so(images: Path, caplog: pytest.LogCaptureFixture):
    (images / "m.csv").write_text("path,label\nimg/a0.png,0\nimg/a1.png,-1\nimg/a2.png,NA\n")
    assert len(manifest.load(images / "m.csv", task="kl").examples) == 1
    assert [record.message.count("left out") for record in caplog.records] == [1, 1]


def test_classes_that_may_mean_two_things_ask():
    with pytest.raises(ConfigError, match="--task kl or --task oa"):
        layout.best_task(["0", "1"])
    with pytest.raises(ConfigError, match="is 1 KL 0 or KL 1"):
        layout.best_task(["1", "2", "3", "4", "5"])
    task = layout.best_task(["0", "1", "2", "3", "4"])
    assert task is not None
    assert task.name == "kl"
    assert get_task("oa").label_of("0") == "no"
