"""What is remembered of a visit: films as they came and what was answered, in memory only, for a while.

Of decoded films nothing is kept: a film is decoded again when a picture or a report of it is asked for.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from kneexray.read import Limits
from kneexray.read.reader import read_bytes
from kneexray.roi import INVERTED
from kneexray.types import FilmResult, Knee, Radiograph, Study


@dataclass(frozen=True, slots=True, eq=False)
class VisitFilm:
    """One film of a visit: ``name`` is the client's, for display only; ``result`` what was answered, and ``data`` the film as it came.

    The radiographs in ``result`` have their true shape, but blank pixels: :meth:`opened` returns the result with pixels.
    """

    name: str
    result: FilmResult
    data: bytes = field(default=b"", repr=False)

    def study(self, limits: Limits) -> Study:
        """Return the film decoded anew; empty, with a rejection, where it could not be read the first time either."""
        return read_bytes(self.data, source=self.name, limits=limits)

    def opened(self, limits: Limits) -> FilmResult:
        """Return the result with the pixels of its films."""
        if not self.result.predictions:
            return self.result
        pixels = {radiograph.frame: radiograph.pixels for radiograph in self.study(limits).radiographs}

        def with_pixels(knee: Knee) -> Knee:
            seen = pixels[knee.radiograph.frame]
            return replace(knee, radiograph=replace(knee.radiograph, pixels=1 - seen if INVERTED in knee.warnings else seen))

        return _with_knees(self.result, {p.knee: with_pixels(p.knee) for p in self.result.predictions})


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """The films that were sent together, in order."""

    id: str
    created: datetime
    films: tuple[VisitFilm, ...] = ()


class Visits:
    """The visits of the last while, in at most ``max_bytes``: past that the one that was not looked at for longest goes."""

    def __init__(self, *, minutes: float, max_bytes: int) -> None:
        self._lifetime = timedelta(minutes=minutes)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._visits: OrderedDict[str, tuple[Visit, int]] = OrderedDict()
        self._bytes = 0

    @property
    def size(self) -> int:
        """How many bytes are held."""
        return self._bytes

    def create(self) -> Visit:
        """Return a new, empty visit under an identifier that nobody can guess."""
        visit = Visit(secrets.token_urlsafe(18), datetime.now(UTC))
        with self._lock:
            self._put(visit, size_of(()))
        return visit

    def add(self, id: str, film: VisitFilm) -> Visit:
        """Append a film; raises KeyError for a visit that is unknown, expired, or larger than all that may be held."""
        with self._lock:
            visit, size = self._found(id)
            visit = replace(visit, films=(*visit.films, film))
            self._put(visit, size + size_of((film,)))
            self._found(id)
        return visit

    def get(self, id: str) -> Visit:
        """Return a visit; raises KeyError for one that is unknown or expired."""
        with self._lock:
            visit, size = self._found(id)
            self._put(visit, size)
        return visit

    def delete(self, id: str) -> None:
        """Forget a visit; raises KeyError for one that is unknown or expired."""
        with self._lock:
            self._found(id)
            self._drop(id)

    def expire(self) -> None:
        """Forget the visits whose time is over."""
        with self._lock:
            now = datetime.now(UTC)
            for id in [id for id, (visit, _) in self._visits.items() if now - visit.created > self._lifetime]:
                self._drop(id)

    def _found(self, id: str) -> tuple[Visit, int]:
        visit, size = self._visits[id]
        if datetime.now(UTC) - visit.created > self._lifetime:
            self._drop(id)
            raise KeyError(id)
        return visit, size

    def _put(self, visit: Visit, size: int) -> None:
        if visit.id in self._visits:
            self._drop(visit.id)
        self._visits[visit.id] = (visit, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._visits)))

    def _drop(self, id: str) -> None:
        self._bytes -= self._visits.pop(id)[1]


def size_of(films: tuple[VisitFilm, ...]) -> int:
    """Return about how many bytes a visit with ``films`` holds."""
    return 1000 + sum(len(film.data) + result_size(film.result) for film in films)


def result_size(result: FilmResult) -> int:
    """Return about how many bytes a result without pixels holds."""
    heat = {id(p.heatmap): p.heatmap.nbytes for p in result.predictions if p.heatmap is not None}
    contexts = {id(c): c for c in (*(p.knee.radiograph.dicom for p in result.predictions), *(r.dicom for r in result.rejections)) if c}
    tags = sum(len(value) + 100 for context in contexts.values() for value in context.attributes.values())
    return 2000 * (1 + len(result.predictions) + len(result.rejections)) + sum(heat.values()) + tags


def without_pixels(result: FilmResult) -> FilmResult:
    """Return a result whose films have their true shape but take no memory."""

    def blank(knee: Knee) -> Knee:
        radiograph = knee.radiograph
        return replace(knee, radiograph=replace(radiograph, pixels=np.broadcast_to(np.float32(0), radiograph.pixels.shape)))

    return _with_knees(result, {p.knee: blank(p.knee) for p in result.predictions})


def renamed(result: FilmResult, name: str) -> FilmResult:
    """Return a result whose film is called ``name``."""

    def called(radiograph: Radiograph) -> Radiograph:
        return replace(radiograph, source=name)

    knees = {p.knee: replace(p.knee, radiograph=called(p.knee.radiograph)) for p in result.predictions}
    rejections = tuple(replace(rejection, source=name) for rejection in result.rejections)
    return replace(_with_knees(result, knees), source=name, rejections=rejections)


def _with_knees(result: FilmResult, knees: dict[Knee, Knee]) -> FilmResult:
    return replace(result, predictions=tuple(replace(p, knee=knees[p.knee]) for p in result.predictions))
