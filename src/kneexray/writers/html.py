"""``report.html``: a report to read, print and forward, in one file that needs nothing else and sends nothing anywhere.

The summary stands at the top but is known last, so cards grow in a partial file beside the report and are copied in at the end. Only
the first knees and rejections are shown, which bounds the file's size; the CSV and the JSON hold all.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from kneexray import __version__
from kneexray.tasks import TASKS
from kneexray.types import REASONS, FilmResult, Knee, Prediction
from kneexray.writers import words
from kneexray.writers.base import DISCLAIMER, NO_FACTS, RunFacts, Writer, all_warnings
from kneexray.writers.card import STEPS, knee_card, step
from kneexray.writers.output import OutputFile

SHOWN = 1000
"""How many knees, and how many rejected images, a report shows."""


class FileWriter(Writer):
    """Writes ``report.html``."""

    def __init__(self, path: Path, *, run: RunFacts = NO_FACTS, shown: int = SHOWN) -> None:
        self._file = OutputFile(path)
        self._cards = OutputFile(path.with_suffix(".cards.html"))
        self._run = run
        self._shown = shown
        self._count: Counter[str] = Counter()
        self._grades: dict[tuple[str, tuple[str, ...]], Counter[int]] = {}  # of each task and its labels
        self._names: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        self._models: dict[str, None] = {}
        self._rejections: list[str] = []

    def add(self, result: FilmResult) -> None:
        """Append a card for each knee of the film, and a row for each rejection."""
        knees: dict[Knee, list[Prediction]] = {}
        for prediction in result.predictions:
            knees.setdefault(prediction.knee, []).append(prediction)
            self._tally(prediction)
        room = self._shown - self._count["knees"]
        cards = "".join(knee_card(predictions) for predictions in list(knees.values())[: max(room, 0)])
        if cards:
            self._cards.write(cards)
        self._count["films"] += 1
        self._count["graded"] += bool(knees)
        self._count["knees"] += len(knees)
        self._count["warned"] += sum(any(map(all_warnings, predictions)) for predictions in knees.values())
        self._count["rejected"] += len(result.rejections)
        for rejection in result.rejections[: max(self._shown - len(self._rejections), 0)]:
            self._rejections.append(
                f'<tr><td class="name"><bdi>{escape(rejection.source)}</bdi></td><td>{escape(REASONS[rejection.reason])}</td>'
                f"<td>{escape(rejection.detail)}</td></tr>\n"
            )

    def _tally(self, prediction: Prediction) -> None:
        key = (prediction.task, prediction.labels)
        if key not in self._grades:
            self._grades[key] = Counter()
            self._names[key] = [words.display(prediction, grade) for grade in range(len(prediction.labels))]
        self._grades[key][prediction.grade] += 1
        self._models[prediction.model_id] = None

    def _finish(self) -> None:
        page = Template(_asset("report.html")).substitute(
            style=_asset("report.css"),
            script=_asset("report.js"),
            script_hash=base64.b64encode(hashlib.sha256(_asset("report.js").encode()).digest()).decode(),
            disclaimer=DISCLAIMER,
            made=self._made(),
            figures=self._figures(),
            spread="".join(self._spread()),
            shown=self._said_of_the_rest(),
            cards="\0",
            rejections=self._rejected(),
            colophon="".join(self._colophon()),
        )
        before, after = page.split("\0")
        with self._file, self._cards:
            self._file.write(before)
            for chunk in self._cards.chunks():
                self._file.write(chunk)
            self._file.write(after)
            self._file.finish()
            self._cards.discard()

    def _made(self) -> str:
        when = f"{self._run.started:%Y-%m-%d %H:%M %Z}".strip() if self._run.started else ""
        return " · ".join(escape(part) for part in (when, *self._models) if part)

    def _figures(self) -> str:
        named = (("films", "films"), ("graded", "films graded"), ("knees", "knees"), ("warned", "knees with warnings"), ("rejected", "images rejected"))
        return "".join(f"<div><dd>{self._count[key]:,}</dd><dt>{name}</dt></div>" for key, name in named)

    def _spread(self) -> Iterator[str]:
        for (task, labels), tally in self._grades.items():
            names = self._names[task, labels]
            bar = "".join(
                f'<i class="g{step(grade, len(names))}" style="flex-grow:{tally[grade]}"></i>' for grade in range(len(names)) if tally[grade]
            )
            legend = "".join(
                f'<li><i class="g{step(grade, len(names))}"></i>{escape(name)} <b>{tally[grade]:,}</b></li>' for grade, name in enumerate(names)
            )
            yield f'<section class="spread"><h2>{escape(words.title(task))}</h2><div class="stack">{bar}</div><ul>{legend}</ul></section>\n'

    def _said_of_the_rest(self) -> str:
        if self._count["knees"] <= self._shown:
            return ""
        return (
            f'<p class="rest">This report shows the first {self._shown:,} of {self._count["knees"]:,} knees; predictions.csv and '
            "predictions.json hold all of them.</p>"
        )

    def _rejected(self) -> str:
        if not self._rejections:
            return ""
        rest = self._count["rejected"] - len(self._rejections)
        more = f'<p class="rest">And {rest:,} more, which predictions.csv and predictions.json list.</p>' if rest else ""
        return (
            '<section class="rejected"><h2>Images without a grade</h2><table><thead><tr><th>File</th><th>Reason</th><th>Detail</th></tr></thead>'
            f"<tbody>\n{''.join(self._rejections)}</tbody></table>{more}</section>"
        )

    def _colophon(self) -> Iterator[str]:
        versions = {"kneexray": __version__, **self._run.versions}
        rows = [("Command", f"<code>{escape(self._run.command)}</code>")] if self._run.command else []
        for model, facts in {**dict.fromkeys(self._models, {}), **self._run.models}.items():
            rows.append(("Model", "<br>".join([f"<b>{escape(model)}</b>", *(f"{escape(name)}: {escape(fact)}" for name, fact in facts.items())])))
        rows.append(("Software", escape(", ".join(f"{name} {version}" for name, version in versions.items()))))
        for name, value in rows:
            yield f"<div><dt>{name}</dt><dd>{value}</dd></div>\n"


def write(results: Iterable[FilmResult], path: Path, *, run: RunFacts = NO_FACTS) -> None:
    """Write all results to a report at ``path``."""
    with FileWriter(path, run=run) as writer:
        for result in results:
            writer.add(result)


def _asset(name: str) -> str:
    return files("kneexray.writers").joinpath(name).read_text(encoding="utf-8")
