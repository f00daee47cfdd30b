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

from kneexray.files import OutputFile
from kneexray.render import wording
from kneexray.render.knee_pictures import Album
from kneexray.tasks import FEATURES
from kneexray.types import REASONS, FilmResult, Prediction
from kneexray.version import __version__
from kneexray.writers.base import DISCLAIMER, NO_FACTS, RunFacts, Writer, all_warnings
from kneexray.writers.html_knee import knee_card, step

SHOWN = 1000
"""How many knees, and how many rejected images, a report shows."""

_FIGURES = ("films", "films graded", "knees", "knees with warnings", "images rejected")


class FileWriter(Writer):
    """Writes ``report.html``."""

    def __init__(self, path: Path, *, run: RunFacts = NO_FACTS, shown: int = SHOWN) -> None:
        self._file = OutputFile(path)
        self._cards = OutputFile(path.with_suffix(".cards.html"))
        self._run = run
        self._shown = shown
        self._count: Counter[str] = Counter()
        self._grades: dict[tuple[str, tuple[str, ...]], Counter[str]] = {}  # of each task and its labels, every label present
        self._models: dict[str, None] = {}
        self._rejections: list[str] = []

    def add(self, result: FilmResult, *, album: Album | None = None) -> None:
        """Append a card for each knee of the film, and a row for each rejection."""
        knees = result.by_knee()
        for prediction in result.predictions:
            self._tally(prediction)
        album = album or Album()
        room = max(self._shown - self._count["knees"], 0)
        cards = "".join(knee_card(predictions, album=album) for predictions in list(knees.values())[:room])
        if cards:
            self._cards.write(cards)
        self._count["films"] += 1
        self._count["films graded"] += bool(knees)
        self._count["knees"] += len(knees)
        self._count["knees with warnings"] += sum(any(map(all_warnings, predictions)) for predictions in knees.values())
        self._count["images rejected"] += len(result.rejections)
        for rejection in result.rejections[: max(self._shown - len(self._rejections), 0)]:
            self._rejections.append(
                f'<tr><td class="name"><bdi>{escape(rejection.source)}</bdi></td><td>{escape(REASONS[rejection.reason])}</td>'
                f"<td>{escape(rejection.detail)}</td></tr>\n"
            )

    def _tally(self, prediction: Prediction) -> None:
        key = (prediction.task, prediction.labels)
        if key not in self._grades:
            self._grades[key] = Counter({wording.display(prediction, grade): 0 for grade in range(len(prediction.labels))})
        self._grades[key][wording.display(prediction, prediction.grade)] += 1
        self._models[prediction.model_id] = None

    def _finish(self) -> None:
        script = _asset("report.js")
        facts = {
            "style": _asset("report.css"),
            "script": script,
            "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "disclaimer": DISCLAIMER,
            "made": self._made(),
            "figures": self._figures(),
            "spread": "".join(self._spread()),
            "shown": self._said_of_the_rest(),
            "rejections": self._rejected(),
            "colophon": "".join(self._colophon()),
        }
        before, after = (Template(part).substitute(facts) for part in _asset("report.html").split("$cards"))
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
        return "".join(f"<div><dd>{self._count[name]:,}</dd><dt>{name}</dt></div>" for name in _FIGURES)

    def _spread(self) -> Iterator[str]:
        for (task, _), tally in self._grades.items():
            if task in FEATURES:
                continue
            steps = [step(grade, len(tally)) for grade in range(len(tally))]
            bar = "".join(
                f'<i class="g{colour}" style="flex-grow:{count}"></i>' for colour, count in zip(steps, tally.values(), strict=True) if count
            )
            legend = "".join(
                f'<li><i class="g{colour}"></i>{escape(name)} <b>{count:,}</b></li>'
                for colour, (name, count) in zip(steps, tally.items(), strict=True)
            )
            title = escape(wording.title(task))
            yield f'<section class="spread"><h2>{title}</h2><div class="stack">{bar}</div><ul>{legend}</ul></section>\n'

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
        rest = self._count["images rejected"] - len(self._rejections)
        more = f'<p class="rest">And {rest:,} more, which predictions.csv and predictions.json list.</p>' if rest else ""
        return (
            '<section class="rejected"><h2>Images without a grade</h2>'
            "<table><thead><tr><th>File</th><th>Reason</th><th>Detail</th></tr></thead>"
            f"<tbody>\n{''.join(self._rejections)}</tbody></table>{more}</section>"
        )

    def _colophon(self) -> Iterator[str]:
        versions = {"kneexray": __version__, **self._run.versions}
        rows = [("Command", f"<code>{escape(self._run.command)}</code>")] if self._run.command else []
        for model in dict.fromkeys((*self._models, *self._run.models)):
            facts = (f"{escape(name)}: {escape(fact)}" for name, fact in self._run.models.get(model, {}).items())
            rows.append(("Model", "<br>".join((f"<b>{escape(model)}</b>", *facts))))
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
