"""What a worker of any engine does: one shard after the other, with a predictor and the source kept open between them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from kneexray.batch.films import Film, Opener
from kneexray.batch.plan import Plan
from kneexray.batch.shards import write_shard
from kneexray.predict import Readable
from kneexray.types import FilmResult, Rejection

READERS = 2
"""Threads a process: while one waits for its film or for the network, the other decodes."""
FATAL = "the process that read or graded this file was killed, twice in a row; look at the file, and at the memory there is"


class Grades(Protocol):
    """What a worker needs of a :class:`kneexray.predict.Predictor`."""

    def load(self) -> None:
        """Load the networks."""

    def predict_sources(self, sources: Iterable[Readable], *, jobs: int, batch_size: int) -> Iterator[FilmResult]:
        """Yield a result for each of ``sources``, in order."""


class ShardGrader:
    """Grades the shards of a plan into its folder."""

    def __init__(self, plan: Plan, predictor: Grades) -> None:
        predictor.load()
        self._plan = plan
        self._predictor = predictor
        self._opener = Opener()
        self._batch_size = int(plan.options["batch_size"])

    def grade(self, shard: int, *, one_by_one: bool = False, fatal: Collection[int] = ()) -> Iterator[int]:
        """Grade and write ``shard``; yield how many of its films are done as they are.

        ``one_by_one`` begins no film before the last is done, so that the film is known at which a process dies; those at the places
        ``fatal`` are refused unread.
        """
        films = self._plan.read(shard)
        results = self._carefully(films, fatal) if one_by_one else self._together(films)
        yield from write_shard(self._plan.folder, shard, results)

    def _together(self, films: Iterable[Film]) -> Iterator[FilmResult]:
        return self._predictor.predict_sources(map(self._opener.open, films), jobs=READERS, batch_size=self._batch_size)

    def _carefully(self, films: Iterable[Film], fatal: Collection[int]) -> Iterator[FilmResult]:
        for place, film in enumerate(films):
            if place in fatal:
                yield FilmResult(film.file, rejections=(Rejection(film.file, "failed", FATAL),))
            else:
                yield from self._predictor.predict_sources([self._opener.open(film)], jobs=1, batch_size=1)
