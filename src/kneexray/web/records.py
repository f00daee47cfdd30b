"""Results as JSON: the records of ``predictions.json``, and the models that OpenAPI describes them with."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from kneexray.predict import Grader
from kneexray.version import __version__
from kneexray.web.visits import Visit, VisitFilm
from kneexray.writers.base import prediction_record, rejection_record
from kneexray.writers.json import VERSION


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ChangeRecord(_Record):
    """How a number differs from that of an earlier film of the knee."""

    days: int
    before: float
    now: float
    noise: float | None
    exceeds_noise: bool | None


class GradeChangeRecord(ChangeRecord):
    """The same of the expected grade."""

    probabilities_before: list[float]


class MeasurementRecord(_Record):
    """A length: in mm, or (unit 1) as a share of the condyles' width; ``line`` is where on the film it was taken."""

    name: str
    value: float
    unit: Literal["mm", "1"]
    line: tuple[float, float, float, float] | None
    change: ChangeRecord | None


class SideSourceRecord(_Record):
    """What spoke for the side of a knee, what it said, and whether it was used."""

    source: str
    said: str
    used: bool


class KneeRecord(_Record):
    """Where a knee is: ``box`` is (x0, y0, x1, y1) in pixels of the film."""

    side: Literal["L", "R"] | None
    box: tuple[float, float, float, float]
    mirrored: bool
    score: float
    measurements: list[MeasurementRecord]
    pixel_spacing_source: str | None
    side_sources: list[SideSourceRecord] = []


class PredictionRecord(_Record):
    """A task's answer for one knee. ``grade`` and ``prediction_set`` index ``labels``; ``heatmap`` is the address of a picture."""

    file: str
    sop_instance_uid: str | None
    knee: KneeRecord
    task: str
    grade: int
    label: str
    labels: list[str]
    probabilities: list[float]
    prediction_set: list[int]
    coverage: float
    change: GradeChangeRecord | None
    heatmap: str | None
    warnings: list[str]
    model_id: str


class RejectionRecord(_Record):
    """An image that got no grade, and why."""

    file: str
    reason: str
    detail: str


class Document(_Record):
    """What was answered about all films of a visit."""

    version: Literal[1]
    model_ids: list[str]
    predictions: list[PredictionRecord]
    rejections: list[RejectionRecord]
    visit: str


class FilmLine(_Record):
    """A line of a streamed answer: one film, numbered from 0, of ``of`` (null where an archive may hold several)."""

    film: int
    of: int | None
    file: str
    predictions: list[PredictionRecord]
    rejections: list[RejectionRecord]
    visit: str


class Model(_Record):
    """A model in use. ``tasks`` are those it answers; ``accuracy`` was measured on ``scores_on``, with a 95 % interval."""

    model_id: str
    tasks: list[str]
    labels: list[str]
    licence: str
    sha256: str
    accuracy: dict[str, float]
    scores_on: str
    intended_use: str
    limitations: list[str]


class Health(_Record):
    """Whether the server is there, and how much waits."""

    status: Literal["ok"] = "ok"
    version: str = __version__
    model_ids: list[str]
    waiting: int


def model_record(grader: Grader) -> Model:
    """Return what is said about a model."""
    card = grader.bundle.card
    return Model(
        model_id=card.model_id,
        tasks=[task.name for task in grader.tasks],
        labels=list(card.labels),
        licence=card.licence,
        sha256=card.sha256,
        accuracy=card.scores["accuracy"],
        scores_on=card.scores_on,
        intended_use=card.intended_use,
        limitations=list(card.limitations),
    )


def document(visit: Visit) -> dict[str, Any]:
    """Return a :class:`Document`."""
    films = [film_records(film, number=number, visit=visit.id) for number, film in enumerate(visit.films)]
    predictions = [record for film in films for record in film["predictions"]]
    return {
        "version": VERSION,
        "model_ids": list(dict.fromkeys(record["model_id"] for record in predictions)),
        "predictions": predictions,
        "rejections": [record for film in films for record in film["rejections"]],
        "visit": visit.id,
    }


def film_line(film: VisitFilm, *, number: int, of: int | None, visit: str) -> dict[str, Any]:
    """Return a :class:`FilmLine`."""
    return {"film": number, "of": of, "file": film.name, **film_records(film, number=number, visit=visit), "visit": visit}


def film_records(film: VisitFilm, *, number: int, visit: str) -> dict[str, list[dict[str, Any]]]:
    """Return the predictions and rejections of the film at ``number`` of a visit."""
    knees = list(film.result.by_knee())
    predictions = []
    for prediction in film.result.predictions:
        place = f"/api/v1/visits/{visit}/films/{number}/knees/{knees.index(prediction.knee)}/heatmap.png"
        predictions.append(prediction_record(prediction, heatmap_path=None if prediction.heatmap is None else place))
    return {"predictions": predictions, "rejections": [dict(rejection_record(r)) for r in film.result.rejections]}
