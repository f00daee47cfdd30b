"""``report.pdf``: a report to print and file, A4, a page a knee, behind a summary where there is more than one knee or a refusal.

Made with ReportLab (BSD): of the well-kept libraries it is the one under a permissive licence that draws directly (fpdf2 is LGPL;
WeasyPrint needs Pango). Fonts are embedded. It writes no structure tree, so the PDF is not a tagged one.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kneexray.files import make_folder, write_whole
from kneexray.render import wording
from kneexray.types import REASONS, FilmResult, Prediction, Rejection
from kneexray.version import __version__
from kneexray.writers.base import DISCLAIMER, NO_FACTS, RunFacts, Writer, all_warnings
from kneexray.writers.pdf_knee import knee_page
from kneexray.writers.pdf_pen import HEIGHT, MARGIN, NOTE_LINE, QUIET, RIGHT, WIDTH, Pen, fitted, legible, width_of, wrapped

if TYPE_CHECKING:
    from kneexray.render.knee_pictures import Album

SHOWN = 500
"""How many knees, and how many rejected images, a report shows: it is held in memory until it is written."""

_FOOT = HEIGHT - 34
_ANSWERS = MARGIN + 215


@dataclass(frozen=True, slots=True)
class _Row:
    """What the summary says of a knee."""

    source: str
    side: str
    answers: tuple[tuple[str, str], ...]
    warned: bool
    models: tuple[str, ...]


class Document:
    """A report that grows by films. Each knee's page is drawn at once, so that no film is kept."""

    def __init__(self, *, run: RunFacts = NO_FACTS, shown: int = SHOWN) -> None:
        self._data = io.BytesIO()
        self._pen = Pen(self._data)
        self._canvas = self._pen.canvas
        self._run = run
        self._shown = shown
        self._count = Counter({"films": 0, "knees": 0, "images without a grade": 0})
        self._rows: list[_Row] = []
        self._rejections: list[Rejection] = []
        self._y = 0.0

    def add(self, result: FilmResult) -> None:
        """Draw the pages of a film's knees."""
        knees = result.by_knee()
        self._count += Counter({"films": 1, "knees": len(knees), "images without a grade": len(result.rejections)})
        self._rejections += result.rejections[: max(self._shown - len(self._rejections), 0)]
        for predictions in list(knees.values())[: max(self._shown - len(self._rows), 0)]:
            frame = predictions[0].knee.radiograph.frame
            self._canvas.beginForm(_page_name(len(self._rows)), 0, 0, WIDTH, HEIGHT)
            knee_page(self._pen, predictions, knees_of_film=[knee for knee in knees if knee.radiograph.frame == frame])
            self._canvas.endForm()
            self._rows.append(_row(predictions))

    def finish(self) -> bytes:
        """Return the PDF."""
        canvas = self._canvas
        canvas.setTitle("Knee radiograph report")
        canvas.setAuthor("KneeXRay")
        canvas.setCreator(f"KneeXRay {__version__}")
        canvas.setSubject(DISCLAIMER)
        if len(self._rows) != 1 or self._rejections:
            self._summary()
        for number, row in enumerate(self._rows):
            canvas.bookmarkPage(_page_name(number))
            canvas.addOutlineEntry(legible(f"{row.side}, {row.source}"), _page_name(number))
            canvas.doForm(_page_name(number))
            self._end_page(f"Model: {', '.join(row.models)}")
        canvas.beginForm("pages", 0, 0, WIDTH, HEIGHT)
        self._pen.text(RIGHT - 18, _FOOT, f"of {canvas.getPageNumber() - 1}", size=7.5, colour=QUIET)
        canvas.endForm()
        canvas.save()
        return self._data.getvalue()

    def _end_page(self, note: str) -> None:
        pen = self._pen
        pen.text(MARGIN, 36, DISCLAIMER, size=8.5, bold=True)
        pen.text(RIGHT, 36, _made(self._run), size=8.5, colour=QUIET, right=True)
        pen.rule(44)
        pen.rule(_FOOT - 13)
        pen.text(MARGIN, _FOOT, fitted(note, width=RIGHT - MARGIN - 80, size=7.5), size=7.5, colour=QUIET)
        pen.text(RIGHT - 20, _FOOT, f"Page {self._canvas.getPageNumber()}", size=7.5, colour=QUIET, right=True)
        self._canvas.doForm("pages")
        self._canvas.showPage()

    def _room(self, height: float) -> None:
        """Begin another summary page where the current one has no ``height`` left."""
        if self._y + height > _FOOT - 20:
            self._end_page(f"KneeXRay {__version__}")
            self._y = 64.0

    def _summary(self) -> None:
        pen = self._pen
        pen.text(MARGIN, 88, "Knee radiograph report", size=24, bold=True)
        for number, (name, count) in enumerate(self._count.items()):
            pen.text(MARGIN + 130 * number, 126, f"{count:,}", size=20, bold=True)
            pen.text(MARGIN + 130 * number, 140, name, size=8.5, colour=QUIET)
        self._y = 160.0
        for number, row in enumerate(self._rows):
            self._knee(number, row)
        if self._count["knees"] > len(self._rows):
            self._said(f"And {self._count['knees'] - len(self._rows):,} more knees, which predictions.csv and predictions.json hold.")
        if self._rejections:
            self._room(70)
            self._y += 26
            pen.text(MARGIN, self._y, "Images without a grade", size=12, bold=True)
            self._y += 6
        for rejection in self._rejections:
            self._refusal(rejection)
        if self._count["images without a grade"] > len(self._rejections):
            rest = self._count["images without a grade"] - len(self._rejections)
            self._said(f"And {rest:,} more images, which predictions.csv and predictions.json list.")
        self._colophon()
        self._end_page(f"KneeXRay {__version__}")

    def _knee(self, number: int, row: _Row) -> None:
        pen, height = self._pen, 12.5 * max(len(row.answers), 2 + row.warned) + 9
        self._room(height)
        pen.rule(self._y)
        pen.text(MARGIN, self._y + 14, row.side, bold=True)
        pen.text(MARGIN, self._y + 26.5, fitted(row.source, width=_ANSWERS - MARGIN - 14, size=8.5), size=8.5, colour=QUIET)
        if row.warned:
            pen.text(MARGIN, self._y + 39, "with warnings", size=8.5, colour=NOTE_LINE)
        for line, (name, value) in enumerate(row.answers):
            y = self._y + 14 + 12.5 * line
            pen.text(_ANSWERS, y, name, size=8.5, colour=QUIET)
            space = RIGHT - _ANSWERS - width_of(name, size=8.5) - 10
            pen.text(RIGHT, y, fitted(value, width=space, size=9), right=True)
        self._canvas.linkRect("", _page_name(number), (MARGIN, HEIGHT - self._y - height, RIGHT, HEIGHT - self._y))
        self._y += height

    def _refusal(self, rejection: Rejection) -> None:
        pen, width = self._pen, RIGHT - MARGIN - 210
        texts = (REASONS[rejection.reason], rejection.detail)
        self._room(11 * sum(len(wrapped(text, width=width, size=8.5)) for text in texts) + 14)
        pen.rule(self._y)
        pen.text(MARGIN, self._y + 15, fitted(rejection.source, width=195, size=9))
        y = pen.paragraph(MARGIN + 210, self._y + 5, texts[0], width=width, size=8.5, bold=True)
        self._y = pen.paragraph(MARGIN + 210, y, texts[1], width=width, size=8.5, colour=QUIET) + 6

    def _colophon(self) -> None:
        used = dict.fromkeys(model for row in self._rows for model in row.models)
        self._said("")
        for model in used | dict.fromkeys(self._run.models):
            facts = (f"{name}: {value}" for name, value in self._run.models.get(model, {}).items())
            self._said(". ".join((f"Model {model}", *facts)))
        if self._run.command:
            self._said(f"Command: {self._run.command}")

    def _said(self, text: str) -> None:
        width = RIGHT - MARGIN
        self._room(10 * len(wrapped(text, width=width, size=7.5)) + 10)
        self._y = self._pen.paragraph(MARGIN, self._y + 5, text, width=width, size=7.5, colour=QUIET)


class FileWriter(Writer):
    """Writes ``report.pdf``."""

    def __init__(self, path: Path, *, run: RunFacts = NO_FACTS) -> None:
        self._path = path
        self._document = Document(run=run)
        make_folder(path.parent)

    def add(self, result: FilmResult, *, album: Album | None = None) -> None:
        """Add the pages of a film."""
        self._document.add(result)

    def _finish(self) -> None:
        write_whole(self._path, self._document.finish())


def write(results: Iterable[FilmResult], path: Path, *, run: RunFacts = NO_FACTS) -> None:
    """Write all results to a PDF at ``path``."""
    with FileWriter(path, run=run) as writer:
        for result in results:
            writer.add(result)


def _row(predictions: Sequence[Prediction]) -> _Row:
    first = predictions[0]
    answers = (
        (
            wording.title(p.task),
            f"{wording.display(p, p.grade)}, {wording.percent(float(p.probabilities[p.grade]))} (set: {wording.set_in_words(p)})",
        )
        for p in predictions
    )
    return _Row(
        source=first.source,
        side=wording.SIDES[first.knee.side],
        answers=(*answers, *map(wording.measured, first.knee.measurements)),
        warned=any(map(all_warnings, predictions)),
        models=tuple(dict.fromkeys(prediction.model_id for prediction in predictions)),
    )


def _made(run: RunFacts) -> str:
    return f"{run.started:%Y-%m-%d %H:%M %Z}".strip() if run.started else ""


def _page_name(number: int) -> str:
    return f"knee-{number}"
