"""One model, many requests: films that come within a few milliseconds are graded together."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from kneexray.cores import available_cores
from kneexray.predict import Predictor, Readable
from kneexray.types import FilmResult

logger = logging.getLogger(__name__)

Job = tuple[Readable, "Future[FilmResult]"]


class Busy(Exception):
    """The queue is full, or the engine is stopping."""


class Engine:
    """Grades films on ``workers`` threads that share one predictor (0: one a core).

    A thread takes the first film that waits and those that come within ``window`` seconds, ``batch_films`` at most. At most
    ``queue_films`` wait. ``on_batch`` is told the number of films in each batch and its seconds.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        queue_films: int,
        workers: int = 0,
        window: float = 0.004,
        batch_films: int = 8,
        on_batch: Callable[[int, float], None] = lambda films, seconds: None,
    ) -> None:
        self.predictor = predictor
        self.workers = workers or available_cores()
        self._window = window
        self._batch_films = batch_films
        self._on_batch = on_batch
        self._queue: queue.Queue[Job | None] = queue.Queue(queue_films)
        self._collecting = threading.Lock()  # two threads would share out what is to be graded together
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._seconds_a_film = 0.1

    def start(self) -> None:
        """Load the models and start the threads. Raises :class:`~kneexray.errors.BundleError` for a model that does not load."""
        self.predictor.load()
        self._threads = [threading.Thread(target=self._work, name=f"kneexray-{n}", daemon=True) for n in range(self.workers)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take no more films, grade those that were taken, and end the threads."""
        self._stopping = True
        self._queue.put(None)  # each thread hands it on to the next
        for thread in self._threads:
            thread.join()

    def submit(self, source: Readable) -> Future[FilmResult]:
        """Return the result that ``source`` will have; cancel it if it is wanted no more. Raises :class:`Busy`."""
        if self._stopping:
            raise Busy
        future: Future[FilmResult] = Future()
        try:
            self._queue.put_nowait((source, future))
        except queue.Full:
            raise Busy from None
        return future

    @property
    def waiting(self) -> int:
        """How many films wait."""
        return self._queue.qsize()

    @property
    def wait_seconds(self) -> int:
        """About how long it takes to grade what waits: at least 1, at most 60."""
        return min(max(round(self.waiting * self._seconds_a_film / self.workers), 1), 60)

    def _work(self) -> None:
        while True:
            with self._collecting:
                batch, is_last = self._collect()
            live = [(source, future) for source, future in batch if future.set_running_or_notify_cancel()]
            if live:
                self._grade(live)
            if is_last:
                self._queue.put(None)
                return

    def _collect(self) -> tuple[list[Job], bool]:
        """Return the films to grade together, and whether no more will come."""
        batch: list[Job] = []
        end = 0.0
        while len(batch) < self._batch_films:
            try:
                job = self._queue.get(timeout=max(end - time.monotonic(), 0) if batch else None)
            except queue.Empty:
                break
            if job is None:
                return batch, True
            if not batch:
                end = time.monotonic() + self._window
            batch.append(job)
        return batch, False

    def _grade(self, jobs: Sequence[Job]) -> None:
        began = time.perf_counter()
        try:
            results = self.predictor.grade_sources([source for source, _ in jobs])
        except BaseException as error:  # the thread must outlive whatever one batch does to it
            logger.exception("grading %d film(s) failed", len(jobs))
            for _, future in jobs:
                future.set_exception(error)
            return
        seconds = time.perf_counter() - began
        self._seconds_a_film += 0.1 * (seconds / len(jobs) - self._seconds_a_film)
        for (_, future), result in zip(jobs, results, strict=True):
            future.set_result(result)
        self._on_batch(len(jobs), seconds)
