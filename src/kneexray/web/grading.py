"""From an upload to a film of a visit: read, look whether the same bytes were answered before, grade, remember."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from kneexray.errors import OutputError, ReadError
from kneexray.read import Source
from kneexray.read.reader import rejected
from kneexray.types import FilmResult, Rejection
from kneexray.web.batcher import Busy, Engine
from kneexray.web.cache import Cache
from kneexray.web.history import History
from kneexray.web.problems import Problem, busy
from kneexray.web.settings import Settings
from kneexray.web.telemetry import Telemetry
from kneexray.web.visits import Visit, VisitFilm, Visits, renamed, without_pixels

logger = logging.getLogger(__name__)

AHEAD = 4
"""How many films of one request are in hand at a time, so that one with many leaves room for others."""


class Grading:
    """Grades films for every way in which they may come, and remembers the visits. ``on_visit`` is called with each, on a thread."""

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Settings,
        telemetry: Telemetry,
        cache: Cache,
        visits: Visits,
        history: History | None = None,
        on_visit: Callable[[Visit], None] | None = None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._telemetry = telemetry
        self._cache = cache
        self._visits = visits
        self._history = history
        self._on_visit = on_visit
        options = [engine.predictor.model_ids, settings.tasks, settings.coverage, settings.max_megapixels]
        self._options = hashlib.sha256(json.dumps(options).encode()).hexdigest()

    async def visit(self, sources: Iterable[Source]) -> Visit:
        """Return a new visit with the films of ``sources``. Raises :class:`~kneexray.web.problems.Problem`: then nothing is kept."""
        visit = self._visits.create()
        async with aclosing(self.fill(visit, sources)) as films:
            return replace(visit, films=tuple([film async for film in films]))

    async def fill(self, visit: Visit, sources: Iterable[Source], *, go_on: bool = False) -> AsyncGenerator[VisitFilm, None]:
        """Yield the films of ``sources`` graded, in order, and add each to ``visit``.

        A film that the server has no time for raises :class:`~kneexray.web.problems.Problem`, and nothing is kept; if it is to ``go_on``,
        that film is a rejection.
        """
        done = []
        try:
            async with aclosing(self._grade_all(sources, go_on=go_on)) as films:
                async for film in films:
                    done.append(film)
                    with suppress(KeyError):  # a visit larger than all that may be held is answered, but not kept
                        self._visits.add(visit.id, film)
                    yield film
        except Problem:
            with suppress(KeyError):
                self._visits.delete(visit.id)
            raise
        await run_in_threadpool(self._keep, replace(visit, films=tuple(done)))

    def _keep(self, visit: Visit) -> None:
        if self._history is not None:
            try:
                self._history.add(visit)
            except OutputError:
                logger.exception("a visit was answered, but not kept in the history")
        if self._on_visit is not None:
            try:
                self._on_visit(visit)
            except Exception:  # whatever others do with a visit, the client gets its answer
                logger.exception("a visit was answered, but not handed on")

    async def _grade_all(self, sources: Iterable[Source], *, go_on: bool) -> AsyncGenerator[VisitFilm, None]:
        grade = self._grade_or_reject if go_on else self.grade
        waiting: deque[asyncio.Task[VisitFilm]] = deque()
        iterator: Iterator[Source] = iter(sources)
        try:
            while (source := await run_in_threadpool(next, iterator, None)) is not None:
                waiting.append(asyncio.create_task(grade(source)))
                if len(waiting) >= AHEAD:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def grade(self, source: Source) -> VisitFilm:
        """Return one film graded. Raises :class:`~kneexray.web.problems.Problem` where the server has no room or time for it."""
        try:
            data = await run_in_threadpool(source.load)
        except ReadError as error:
            return VisitFilm(source.name, FilmResult(source.name, rejections=rejected(source.name, error).rejections))
        digest = await run_in_threadpool(lambda: hashlib.sha256(data).hexdigest())
        key = f"{digest} {self._options}"
        result = self._cache.get(key)
        self._telemetry.cache(hit=result is not None)
        if result is None:  # the film goes under its hash: its name would be logged where grading fails
            result = without_pixels(await self._ask(Source(f"film {digest[:12]}", lambda: data, source.limits)))
            if not any(rejection.reason == "failed" for rejection in result.rejections):
                self._cache.put(key, result)
        self._telemetry.film(result)
        return VisitFilm(source.name, renamed(result, source.name), data)

    async def _grade_or_reject(self, source: Source) -> VisitFilm:
        try:
            return await self.grade(source)
        except Problem as problem:
            refusal = Rejection(source.name, "failed", f"{problem.detail}. {problem.remedy}")
            return VisitFilm(source.name, FilmResult(source.name, rejections=(refusal,)))

    async def _ask(self, source: Source) -> FilmResult:
        seconds = self._settings.film_seconds
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._engine.submit(source)), seconds)
        except Busy:
            raise busy(self._engine.wait_seconds, "the server has as many films in hand as it takes") from None
        except TimeoutError:
            raise busy(self._engine.wait_seconds, f"a film was not graded within {seconds:g} s") from None
