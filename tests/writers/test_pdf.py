"""The PDF report: its pages and what stands on them, names of any kind, and that nothing is kept or lost."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import weakref
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("reportlab", reason="the pdf extra is not installed")

from kneexray.errors import MissingExtraError, OutputError
from kneexray.tasks import TASKS
from kneexray.types import REASONS, FilmResult, Knee, Measurement, Prediction, Radiograph, Rejection, Side
from kneexray.writers import WRITERS, FolderWriter, RunFacts, pdf
from kneexray.writers.base import DISCLAIMER
from kneexray.writers.pdf_pen import _glyphs, fitted, legible, width_of, wrapped

few = settings(max_examples=40, deadline=None)


def film(
    source: str = "a/knee.png", *, sides: tuple[Side | None, ...] = ("R",), heat: bool = True, warnings: tuple[str, ...] = ()
) -> FilmResult:
    """A film of 60 x 100 px with a knee for each of ``sides``, answered for every task."""
    radiograph = Radiograph(np.linspace(0, 1, 6000, dtype=np.float32).reshape(60, 100), source, warnings=warnings)
    predictions = []
    for number, side in enumerate(sides):
        lengths = (Measurement("jsw_medial", 4.21, "mm"), Measurement("jsw_lateral", 0.0612, "1"))
        knee = Knee(radiograph, (2 + 50 * number, 10, 42 + 50 * number, 50), side, measurements=lengths)
        for task in map(TASKS.get, ("kl", "oa", "osteoporosis")):
            probabilities = np.arange(1.0, len(task.labels) + 1) / np.arange(1.0, len(task.labels) + 1).sum()
            grade = len(task.labels) - 1
            heatmap = np.eye(7, dtype=np.float32) if heat else None
            predictions.append(
                Prediction(task.name, task.labels, probabilities, grade, (grade - 1, grade), 0.9, knee, f"m-{task.name}", heatmap)
            )
    return FilmResult(source, tuple(predictions))


def rejected(source: str = "b/chest.png", detail: str = "The image scores 0.1.") -> FilmResult:
    return FilmResult(source, (), (Rejection(source, "not_a_knee", detail),))


def pages(path: Path) -> int:
    return len(re.findall(rb"/Type /Page\b", path.read_bytes()))


def text_of(path: Path) -> str:
    """The text of a PDF, on one line."""
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (Debian: poppler-utils) is not installed")
    answer = subprocess.run(["pdftotext", "-layout", str(path), "-"], capture_output=True, check=True)
    return re.sub(r"\s+", " ", answer.stdout.decode())


@pytest.mark.parametrize(
    ("results", "count"),
    [
        ([], 1),
        ([film()], 1),
        ([film(sides=("R", "L"))], 3),
        ([film(), rejected()], 2),
        ([rejected()], 1),
        ([film(heat=False), film("c.png", sides=(None, "L"))], 4),
    ],
)
def test_a_page_a_knee_behind_a_summary_where_there_is_more_to_sum_up(tmp_path: Path, results: list[FilmResult], count: int) -> None:
    pdf.write(results, tmp_path / "r.pdf")
    assert pages(tmp_path / "r.pdf") == count
    assert f"Page {count} of {count}" in text_of(tmp_path / "r.pdf")


def test_everything_answered_stands_on_the_page(tmp_path: Path) -> None:
    run = RunFacts(command="kneexray predict x", started=datetime(2024, 5, 6, 7, 8, tzinfo=UTC), models={"m-kl": {"licence": "Apache-2.0"}})
    with FolderWriter(tmp_path, formats=("pdf",), run=run) as writer:
        writer.add(film(warnings=("cut off",)))
        writer.add(rejected())
    text = text_of(tmp_path / "report.pdf")
    assert text.count(DISCLAIMER) == 2
    for said in (
        *("Right knee", "a/knee.png", "KL 4", "large osteophytes", "33 %", "KL 3 or KL 4", "90 % prediction set", "yes", "osteoporosis"),
        *(
            "Radiographic osteoarthritis (KL ≥ 2)",
            "Joint space width, medial 4.2 mm",
            "0.061 of the condyles' width",
            "cut off",
            "with warnings",
        ),
        *(
            "What raised the score of KL 4",
            "The film",
            "m-kl, m-oa, m-osteoporosis",
            "Page 1 of 2",
            "with warnings",
            "2024-05-06 07:08 UTC",
        ),
        *("b/chest.png", REASONS["not_a_knee"], "The image scores 0.1.", "Apache-2.0", "kneexray predict x"),
    ):
        assert said in text, said


def test_fonts_are_embedded_and_the_file_says_what_it_is(tmp_path: Path) -> None:
    pdf.write([film("Übung/Иванов/膝.png")], tmp_path / "r.pdf")
    data = (tmp_path / "r.pdf").read_bytes()
    assert data.count(b"/FontFile2") == 2
    assert b"Helvetica" not in data
    assert b"/Lang (en)" in data
    assert b"Knee radiograph report" in data
    assert DISCLAIMER.encode() in data
    assert "Übung/Иванов/\\u819d.png" in text_of(tmp_path / "r.pdf")


@few
@given(st.text())
def test_any_text_is_drawn_with_glyphs_that_exist_or_as_its_code(text: str) -> None:
    shown = legible(text)
    assert all(ord(char) in _glyphs() for char in shown)
    assert bool(shown) == bool(text)


@few
@given(st.text(), st.floats(30, 300))
def test_text_stays_within_its_width_and_loses_nothing(text: str, width: float) -> None:
    lines = wrapped(text, width=width, size=9)
    assert all(width_of(line, size=9) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == legible(text).replace(" ", "")
    assert width_of(fitted(text, width=width, size=9), size=9) <= width


def test_a_long_name_keeps_its_ends() -> None:
    assert fitted("short.png", width=200, size=9) == "short.png"
    shown = fitted(f"start{'x' * 4000}end.png", width=200, size=9)
    assert re.fullmatch(r"startx+…x+end\.png", shown)


@pytest.mark.parametrize("name", ["<b>&amp;</b>.png", "a\nb\t\x00.png", "\u202egnp.exe", "\udcff.png", "%s)(\\.png", "x" * 5000])
def test_hostile_names_and_endless_warnings_do_no_harm(tmp_path: Path, name: str) -> None:
    pdf.write([film(name, warnings=tuple(f"{name} {n}" for n in range(40))), rejected(name, detail=name)], tmp_path / "r.pdf")
    text = text_of(tmp_path / "r.pdf")
    assert "more, which predictions.json lists" in text
    assert "Page 2 of" in text


def test_a_report_of_very_many_knees_shows_the_first_and_says_so(tmp_path: Path) -> None:
    document = pdf.Document(shown=3)
    for n in range(5):
        document.add(film(f"{n}.png", heat=False))
        document.add(rejected(f"r{n}.png"))
    (tmp_path / "r.pdf").write_bytes(document.finish())
    assert pages(tmp_path / "r.pdf") == 4
    text = text_of(tmp_path / "r.pdf")
    assert "And 2 more knees" in text
    assert "And 2 more images" in text
    assert "10 5 5 films knees images without a grade" in text


def test_a_summary_longer_than_a_page_goes_on(tmp_path: Path) -> None:
    pdf.write([rejected(f"{n}.png") for n in range(60)], tmp_path / "r.pdf")
    count = pages(tmp_path / "r.pdf")
    assert count > 1
    assert all(f"{n}.png" in text_of(tmp_path / "r.pdf") for n in (0, 59))


def test_the_report_keeps_no_film_and_is_there_only_when_whole(tmp_path: Path) -> None:
    writer = pdf.FileWriter(tmp_path / "r.pdf")
    result = film()
    pixels = weakref.ref(result.predictions[0].knee.radiograph.pixels)
    writer.add(result)
    del result
    assert pixels() is None
    assert not list(tmp_path.iterdir())
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["r.pdf"]


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "r.pdf").mkdir()
    with pytest.raises(OutputError, match="folder is where a file is meant"):
        pdf.write([film()], tmp_path / "r.pdf")


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("pdf", "reportlab", "pdf"), ("dicom-pdf", "reportlab", "pdf"), ("dicom-sr", "highdicom", "dicom")]
)
def test_a_missing_extra_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, package: str, extra: str) -> None:
    for module in list(sys.modules):
        if module.startswith(("kneexray.writers.pdf", "kneexray.writers.dicom", package)):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    assert WRITERS[name].extra == extra
    with pytest.raises(MissingExtraError, match=rf"{package}.* is missing.*pip install '\.\[{extra}\]'"):
        FolderWriter(tmp_path, formats=(name,))
