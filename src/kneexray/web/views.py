"""What the result page shows, in the reader's language: results of films as records for the templates, nothing left to decide there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kneexray.render.film import joint_lines
from kneexray.render.reading import reading_of
from kneexray.render.wording import percent
from kneexray.tasks import FEATURES, TASKS
from kneexray.types import Knee, Prediction
from kneexray.web.translation import Words
from kneexray.web.visits import VisitFilm
from kneexray.writers.base import all_warnings
from kneexray.writers.html_knee import step

Rows = tuple[tuple[str, str], ...]
"""Names and values, to be shown one under the other."""
FOR_COMMAND_LINE = frozenset({"not_a_knee"})
"""The reasons whose detail names an option of the command line, and nothing else that is new."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The probability of one grade: ``width`` in percent of the bar, ``step`` its colour."""

    label: str
    percent: str
    width: float
    step: int
    top: bool
    in_set: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """A task's answer for one knee: its ``label``, and its meaning as one ``word`` and a sentence, either of them perhaps empty."""

    task: str
    title: str
    grade: int
    label: str
    step: int
    word: str
    meaning: str
    bars: tuple[Bar, ...]
    facts: Rows


@dataclass(frozen=True, slots=True)
class Structured:
    """A knee's reading: ``rows`` of a feature and its answers, medial and lateral, each a grade with the probability of the finding."""

    rows: tuple[tuple[str, str, str], ...]
    findings: str
    impression: str


@dataclass(frozen=True, slots=True)
class KneeView:
    """One knee: its place in pixels of the film, the short ``tag`` on its box, and what was answered.

    ``lines`` are the margins of its joint space and where widths were taken, each as the points of an SVG polyline on the film.

    A file of several frames shows the first with a knee: ``pictured`` says whether this knee is on it.
    """

    number: int
    side: str
    tag: str
    pictured: bool
    x: float
    y: float
    width: float
    height: float
    heat: str | None
    lines: tuple[str, ...]
    readings: tuple[Reading, ...]
    structured: Structured | None
    measurements: Rows
    plane: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an image, or a knee on it, got no grade, and what to send instead; ``detail`` is English, empty where it says no more."""

    code: str
    reason: str
    remedy: str
    detail: str


@dataclass(frozen=True, slots=True)
class FilmView:
    """One film of a visit. ``number`` counts from 1; ``size`` is (width, height) in pixels, None where there is no picture to show."""

    number: int
    name: str
    size: tuple[int, int] | None
    picture: str
    knees: tuple[KneeView, ...]
    refusals: tuple[Refusal, ...]
    description: str

    @property
    def has_heat(self) -> bool:
        """Whether there is a heatmap to show."""
        return any(knee.heat for knee in self.knees)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A film in the strip: what it is called, what was answered in a few words, and the address of a small picture."""

    name: str
    summary: str
    picture: str | None


def film_view(film: VisitFilm, *, number: int, size: tuple[int, int] | None, address: str, say: Words) -> FilmView:
    """Return the film at ``number`` (from 1) of a visit; its pictures lie under ``address``."""
    found = film.result.by_knee()
    frame = next((knee.radiograph.frame for knee in found), None)
    knees = tuple(
        _knee(knee, predictions, number=k, pictured=knee.radiograph.frame == frame, address=f"{address}/knees/{k}", say=say)
        for k, (knee, predictions) in enumerate(found.items())
    )
    refusals = tuple(
        Refusal(r.reason, say(f"reason.{r.reason}"), say(f"remedy.{r.reason}"), r.detail if r.reason not in FOR_COMMAND_LINE else "")
        for r in film.result.rejections
    )
    answers = [f"{knee.side}: {_first_answer(knee)}." for knee in knees] + [f"{refusal.reason}." for refusal in refusals]
    return FilmView(
        number=number,
        name=film.name,
        size=size,
        picture=f"{address}/image.png",
        knees=knees,
        refusals=refusals,
        description=" ".join([say("view.film", name=film.name), *answers]),
    )


def thumbnail(film: VisitFilm, *, address: str | None, say: Words) -> Thumbnail:
    """Return a film of the strip; its pictures lie under ``address``, if there are any."""
    knees = list(film.result.by_knee().values())
    summary = " · ".join(_tag(predictions, say) for predictions in knees) or say("view.refused_short")
    return Thumbnail(film.name, summary, f"{address}/knees/0/crop.png" if address and knees else None)


def _knee(knee: Knee, predictions: Sequence[Prediction], *, number: int, pictured: bool, address: str, say: Words) -> KneeView:
    x0, y0, x1, y1 = (round(edge, 2) for edge in knee.box)
    asked = {prediction.task for prediction in predictions}
    notes = dict.fromkeys(say.warning(warning) for prediction in predictions for warning in all_warnings(prediction))
    return KneeView(
        number=number,
        side=say.side(knee.side),
        tag=_tag(predictions, say),
        pictured=pictured,
        x=x0,
        y=y0,
        width=x1 - x0,
        height=y1 - y0,
        heat=f"{address}/heatmap.png" if any(p.heatmap is not None for p in predictions) else None,
        lines=tuple(" ".join(f"{x + x0:.1f},{y + y0:.1f}" for x, y in line) for line in joint_lines(knee, size=x1 - x0)),
        readings=tuple(_reading(p, say=say) for p in predictions if p.task not in FEATURES and not _is_derived(p, asked)),
        structured=_structured(predictions, say),
        measurements=tuple(say.measured(measurement) for measurement in knee.measurements),
        plane=say.plane(knee),
        notes=tuple(notes),
    )


def _structured(predictions: Sequence[Prediction], say: Words) -> Structured | None:
    reading = reading_of(predictions)
    if reading is None:
        return None
    rows = tuple((say.reading(row.key), _graded(row.medial), _graded(row.lateral)) for row in reading.rows)
    return Structured(rows, " ".join(reading.findings(say.reading)), " ".join(reading.impression(say.reading)))


def _graded(prediction: Prediction | None) -> str:
    return "" if prediction is None else f"{prediction.label} ({percent(float(1 - prediction.probabilities[0]))})"


def _is_derived(prediction: Prediction, asked: Iterable[str]) -> bool:
    """Say whether an answer follows from another that is shown: it is one row of that."""
    task = TASKS.get(prediction.task)
    return task is not None and task.derived is not None and task.derived[0] in asked


def _reading(prediction: Prediction, *, say: Words) -> Reading:
    word, meaning = say.meaning(prediction)
    colours = [step(grade, len(prediction.labels)) for grade in range(len(prediction.labels))]
    facts = [(say("view.set", coverage=percent(prediction.coverage)), say.grades(prediction))]
    facts += [(say.task(name), f"{answer}, {share}") for name, answer, share in say.derived(prediction)]
    return Reading(
        task=prediction.task,
        title=say.task(prediction.task),
        grade=prediction.grade,
        label=say.grade(prediction, prediction.grade),
        step=colours[prediction.grade],
        word=word,
        meaning=meaning,
        bars=tuple(
            Bar(
                label=say.grade(prediction, grade),
                percent=percent(float(probability)),
                width=round(float(probability) * 100, 1),
                step=colours[grade],
                top=grade == prediction.grade,
                in_set=grade in prediction.prediction_set,
            )
            for grade, probability in enumerate(prediction.probabilities)
        ),
        facts=tuple(facts),
    )


def _tag(predictions: Sequence[Prediction], say: Words) -> str:
    """Return what stands on a knee's box: ``R KL 2``."""
    first = predictions[0]
    return " ".join(filter(None, (first.knee.side, say.grade(first, first.grade))))


def _first_answer(knee: KneeView) -> str:
    first = knee.readings[0]
    return ", ".join(filter(None, (first.label, first.word)))
