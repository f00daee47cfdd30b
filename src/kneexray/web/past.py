"""A visit of the history as results again: what was answered, without films and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kneexray.types import FilmResult, Knee, Measurement, Prediction, Radiograph, Rejection
from kneexray.web.history import Entry
from kneexray.web.visits import Visit, VisitFilm


def past_visit(entry: Entry) -> Visit:
    """Return the visit that ``entry`` tells of; films of one name are one film in it."""
    films = tuple(VisitFilm(name, _result(name, entry.document)) for name in dict.fromkeys(entry.names))
    return Visit(entry.id, entry.created, films)


def _result(name: str, document: Mapping[str, Any]) -> FilmResult:
    radiograph = Radiograph(np.zeros((0, 0), np.float32), source=name)
    knees: dict[str, Knee] = {}
    predictions = []
    for record in document["predictions"]:
        if record["file"] != name:
            continue
        place = record["knee"]
        knee = knees.setdefault(repr(place), _knee(place, radiograph))
        predictions.append(
            Prediction(
                task=record["task"],
                labels=tuple(record["labels"]),
                probabilities=np.array(record["probabilities"]),
                grade=record["grade"],
                prediction_set=tuple(record["prediction_set"]),
                coverage=record["coverage"],
                knee=knee,
                model_id=record["model_id"],
                warnings=tuple(record["warnings"]),
            )
        )
    rejections = tuple(Rejection(name, r["reason"], r["detail"]) for r in document["rejections"] if r["file"] == name)
    return FilmResult(name, tuple(predictions), rejections)


def _knee(place: Mapping[str, Any], radiograph: Radiograph) -> Knee:
    lengths = tuple(Measurement(length["name"], length["value"], length["unit"]) for length in place["measurements"])
    radiograph = replace(radiograph, pixel_spacing_source=place["pixel_spacing_source"])
    return Knee(radiograph, tuple(place["box"]), place["side"], place["mirrored"], place["score"], measurements=lengths)
