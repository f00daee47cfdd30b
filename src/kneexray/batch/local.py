"""Worker processes on this machine, one core each. One that dies is replaced, and the film that kills it twice is refused."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

from kneexray.batch.plan import Plan
from kneexray.batch.work import Grades, ShardGrader
from kneexray.cores import available_cores
from kneexray.errors import KneeXRayError, OutputError

logger = logging.getLogger(__name__)

_MOST_DEATHS = 3
"""How often in a row workers may be killed at a shard, or while they load the model, before the run gives up."""


def grade_local(plan: Plan, predictor: Grades, shards: Iterable[int], *, jobs: int = 0) -> Iterator[int]:
    """Grade ``shards`` in ``jobs`` processes (0: one a core); yield by how much the films done grow, or shrink where a shard starts anew.

    ``predictor`` is pickled to each process. Raises :class:`OutputError` where a shard cannot be written and :class:`KneeXRayError`
    where workers fail or keep being killed; what is finished stays.
    """
    tasks = deque(_Task(shard) for shard in shards)
    workers = [_Worker(plan, predictor) for _ in range(min(jobs or available_cores(), len(tasks)))]
    try:
        for worker in workers:
            worker.begin(tasks.popleft())
        while busy := {worker.connection: worker for worker in workers if worker.task is not None}:
            for connection in wait(busy):
                worker = busy[cast("Connection", connection)]
                yield from worker.heed()
                if worker.task is None and tasks:
                    worker.begin(tasks.popleft())
    finally:
        for worker in workers:
            worker.stop()


@dataclass
class _Task:
    """A shard and what is known of the workers that died at it."""

    shard: int
    done: int = 0
    deaths: int = 0
    suspect: int | None = None
    fatal: set[int] = field(default_factory=set)

    def killed(self) -> None:
        """Note that a worker was killed. From the first time on films are graded one by one; one that kills twice in a row is refused."""
        one_by_one = self.deaths > 0
        if one_by_one and self.done == self.suspect:
            self.fatal.add(self.done)
            self.deaths, self.suspect = 1, None
        else:
            self.deaths, self.suspect = self.deaths + 1, self.done if one_by_one else None


class _Worker:
    """A process, the pipe to it, and the task that it is at."""

    def __init__(self, plan: Plan, predictor: Grades) -> None:
        self._plan = plan
        self._predictor = predictor
        self.task: _Task | None = None
        self._false_starts = 0
        self._start()

    def _start(self) -> None:
        self._ready = False
        context = multiprocessing.get_context("spawn")  # a forked engine would hang on its parent's threads
        self.connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs, self._plan, self._predictor), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, task: _Task) -> None:
        """Give the process a shard."""
        task.done = 0
        self.task = task
        try:
            self.connection.send((task.shard, task.deaths > 0, task.fatal))
        except OSError:  # it died idle: heed() finds the pipe closed
            logger.info("a worker died between two shards")

    def heed(self) -> Iterator[int]:
        """Take one message of the process, or notice its death; yield by how much the films done change."""
        task = self.task
        assert task is not None
        try:
            message: int | str | None = self.connection.recv()
        except (EOFError, OSError):
            yield -task.done
            self._replace(task)
            return
        self._ready, self._false_starts = True, 0
        if isinstance(message, int):
            yield message - task.done
            task.done = message
        elif message is None:
            self.task = None
        else:
            raise OutputError(message)

    def _replace(self, task: _Task) -> None:
        self._process.join()
        code = self._process.exitcode or 0
        if code >= 0:
            raise KneeXRayError(f"a worker failed at shard {task.shard} (exit code {code}; its error stands above). Go on with --resume.")
        name = signal.Signals(-code).name
        if self._ready:
            task.killed()
        else:
            self._false_starts += 1
        if max(self._false_starts, task.deaths) > _MOST_DEATHS:
            raise KneeXRayError(f"workers keep being killed ({name}) at shard {task.shard}. Use fewer (--jobs), and go on with --resume.")
        logger.warning("a worker was killed (%s) at shard %d; the shard begins again", name, task.shard)
        self.connection.close()
        self._start()
        self.begin(task)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(connection: Connection, plan: Plan, predictor: Grades) -> None:
    """Run a worker: take shards until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of it, and ends its workers
    try:
        grader = ShardGrader(plan, predictor)
        connection.send(0)  # the model is loaded
        while True:
            shard, one_by_one, fatal = connection.recv()
            try:
                for done in grader.grade(shard, one_by_one=one_by_one, fatal=fatal):
                    connection.send(done)
                connection.send(None)
            except KneeXRayError as error:
                connection.send(str(error))
    except (EOFError, BrokenPipeError):  # the parent is gone
        return
