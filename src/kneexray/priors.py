"""Two visits: what changed in a knee since an earlier film of it, and whether that is more than repeating the film would give.

Which films belong together says the DICOM header (PatientID with its issuer, StudyDate) or, for ordinary images, a table. Films are not
compared where their headers' names, birth dates or sexes differ, nor where the ID is a placeholder (``ANON``, ``0``). These names and
dates stay in memory: reports get the days between two films.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np

from kneexray import geometry
from kneexray.errors import DataError
from kneexray.identity import Person, is_placeholder, text_of
from kneexray.inference.bundle import sha256_of
from kneexray.measure import joint_space
from kneexray.predict import Predictor, Readable
from kneexray.roi.sides import with_table_side
from kneexray.tables import read_table, side_of
from kneexray.types import Change, FilmResult, Knee, Measurement, Prediction, Radiograph, Side, Study

REQUIRED = ("path", "patient_id", "date")
REPEATABILITY = "repeatability.json"
"""Beside a network, made by :mod:`kneexray.evaluation.repeatability`: how much its answers differ between two films of one knee."""
OTHER_PERSON = "an earlier film of the same patient ID was given, and its name, birth date or sex differ: it was not compared"


@dataclass(frozen=True, slots=True)
class Visit:
    """Of whom a film is and when it was taken. ``patient`` is (issuer, id), or None where that names nobody; ``side`` helps where the film
    does not state it."""

    patient: tuple[str, str] | None
    day: date
    side: Side | None = None
    person: Person = field(default_factory=Person)


class Visits:
    """Knows of films whose and when they are: by rows of a table, else by their DICOM headers."""

    def __init__(self, rows: Mapping[str, Visit] = MappingProxyType({})) -> None:
        self._rows = rows  # by the real path of the file

    @classmethod
    def read(cls, tables: Iterable[Path]) -> Visits:
        """Return what CSV or Parquet files with the columns ``path, patient_id, date`` and perhaps ``side`` say.

        Paths are relative to the table's folder, dates ``2024-05-31`` or ``20240531``. Raises :class:`DataError` naming row and remedy.
        """
        return cls({os.path.realpath(table.parent / path): visit for table in tables for path, visit in _rows(table)})

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that the tables list, resolved."""
        return tuple(map(Path, self._rows))

    def of(self, radiograph: Radiograph) -> Visit | None:
        """Return whose film it is and when it was taken; None where nothing says so."""
        if row := self._rows.get(os.path.realpath(radiograph.source)):
            return replace(row, person=Person.of(radiograph.dicom))
        context = radiograph.dicom
        if context is None:
            return None
        issuer, patient, day = (text_of(context, keyword) for keyword in ("IssuerOfPatientID", "PatientID", "StudyDate"))
        if not patient or (when := _day(day)) is None:
            return None
        who = None if is_placeholder(patient) else ("" if is_placeholder(issuer) else issuer, patient)
        return Visit(who, when, person=Person.of(context))

    def told(self, sources: Iterable[Readable]) -> Iterator[Readable]:
        """Yield ``sources`` with the sides that the table knows (:func:`kneexray.roi.sides.with_table_side`)."""
        for source in sources:
            row = self._rows.get(os.path.realpath(source.name))
            yield _Told(source, row.side) if row and row.side else source


@dataclass(frozen=True, slots=True)
class _Told:
    source: Readable
    side: Side

    @property
    def name(self) -> str:
        return self.source.name

    def read(self) -> Study:
        return with_table_side(self.source.read(), self.side)


@dataclass(frozen=True, slots=True, eq=False)
class _Film:
    """What was said of a knee at a visit, without its pixels."""

    day: date
    person: Person
    probabilities: Mapping[tuple[str, str], np.ndarray]  # by task and model
    lengths: Mapping[str, Measurement]


class History:
    """Earlier films, and what changed since. ``counts`` says of how many knees, and why others could not be compared."""

    def __init__(self, visits: Visits, *, noise: Mapping[tuple[str, str], float] = MappingProxyType({})) -> None:
        """Take ``noise`` by the name of what varies and the model's id (empty for lengths): see :func:`noise_of`."""
        self._visits = visits
        self._noise = noise
        self._films: dict[tuple[tuple[str, str], Side], list[_Film]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, result: FilmResult) -> None:
        """Remember what was said of the knees of a film."""
        for knee, predictions in result.by_knee().items():
            visit = self._visits.of(knee.radiograph)
            if visit and visit.patient and knee.side:
                probabilities = {(p.task, p.model_id): p.probabilities for p in predictions}
                film = _Film(visit.day, visit.person, probabilities, {m.name: m for m in knee.measurements})
                self._films.setdefault((visit.patient, knee.side), []).append(film)

    def compared(self, result: FilmResult) -> FilmResult:
        """Return ``result`` with what changed in each knee since the last film of it that was taken on an earlier day."""
        changed = {knee: self._changed(knee, predictions) for knee, predictions in result.by_knee().items()}
        following = {knee: iter(predictions) for knee, predictions in changed.items()}
        return replace(result, predictions=tuple(next(following[p.knee]) for p in result.predictions))

    def _changed(self, knee: Knee, predictions: list[Prediction]) -> list[Prediction]:
        visit = self._visits.of(knee.radiograph)
        if visit is None:
            self.counts["no patient or date is known"] += 1
            return predictions
        if knee.side is None:
            self.counts["the side is not known"] += 1
            return predictions
        if visit.patient is None:
            self.counts["the patient ID is a placeholder, which names nobody"] += 1
            return predictions
        earlier = [film for film in self._films.get((visit.patient, knee.side), ()) if film.day < visit.day]
        others = [film for film in earlier if not film.person.may_be(visit.person)]
        earlier = [film for film in earlier if film not in others]
        if others and not earlier:
            self.counts["same patient ID, but another name, birth date or sex"] += 1
            return [replace(p, warnings=(*p.warnings, OTHER_PERSON)) for p in predictions]
        if not earlier:
            self.counts["no earlier film"] += 1
            return predictions
        self.counts["compared"] += 1
        film = max(earlier, key=lambda film: film.day)
        days = (visit.day - film.day).days
        now = replace(knee, measurements=tuple(self._length(m, knee, film, days) for m in knee.measurements))
        return [self._grade(replace(p, knee=now), film, days) for p in predictions]

    def _grade(self, prediction: Prediction, film: _Film, days: int) -> Prediction:
        before = film.probabilities.get((prediction.task, prediction.model_id))
        if before is None:
            return prediction
        noise = self._noise.get((prediction.task, prediction.model_id))
        change = Change(days, expected_grade(before), expected_grade(prediction.probabilities), noise)
        return replace(prediction, change=change, earlier=before)

    def _length(self, length: Measurement, knee: Knee, film: _Film, days: int) -> Measurement:
        before = film.lengths.get(length.name)
        if before is None or before.unit != length.unit:
            return length
        noise = self._noise.get((length.name, ""))
        spacing = knee.radiograph.pixel_spacing
        if noise is not None and length.unit == "mm" and spacing:
            noise *= geometry.CONDYLES * (knee.box[2] - knee.box[0]) * spacing[1]  # it is known in widths of the condyles
        return replace(length, change=Change(days, before.value, length.value, noise))


def expected_grade(probabilities: np.ndarray) -> float:
    """Return the mean of the grades 0 .. K-1 under ``probabilities`` (K,)."""
    return float(probabilities @ np.arange(len(probabilities)))


def noise_of(predictor: Predictor) -> dict[tuple[str, str], float]:
    """Return the repeat noise of a predictor's models and of the joint space's lengths, as far as it was measured on these networks."""
    noise = {(name, ""): value for name, value in _measured(joint_space.FOLDER, sha256_of(joint_space.NETWORK)).items()}
    for grader in predictor.graders:
        card = grader.bundle.card
        noise |= {(name, card.model_id): value for name, value in _measured(grader.bundle.folder, card.sha256).items()}
    return noise


def _measured(folder: Path, sha256: str) -> dict[str, float]:
    """Return the noise that stands beside the network of hash ``sha256``; nothing where it was measured on another."""
    try:
        record = json.loads((folder / REPEATABILITY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {name: found["value"] for name, found in record["noise"].items()} if record["sha256"] == sha256 else {}


def _rows(table: Path) -> Iterator[tuple[str, Visit]]:
    for number, row in enumerate(read_table(table), start=2):
        lacking = [name for name in REQUIRED if name not in row]
        if lacking:
            raise DataError(f"{table}: no column {', '.join(lacking)}. Give the columns {', '.join(REQUIRED)} and, where known, side.")
        yield row["path"], _visit(row, f"{table}, row {number}")


def _visit(row: Mapping[str, str], where: str) -> Visit:
    day, side = _day(row["date"]), side_of(row.get("side"))
    if day is None:
        raise DataError(f"{where}: '{row['date']}' is no date. Write it as 2024-05-31.")
    if side is None and row.get("side", "").strip():
        raise DataError(f"{where}: '{row['side']}' is no side. Write L or R, or leave it empty.")
    if not row["patient_id"].strip():
        raise DataError(f"{where}: no patient_id. Any name will do that is the same for all films of a patient.")
    patient = row["patient_id"].strip()
    return Visit(None if is_placeholder(patient, number=True) else ("", patient), day, side)


def _day(text: str) -> date | None:
    for form in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(text.strip(), form).date()
        except ValueError:
            continue
    return None
