"""The parts of a node, and the threads that they run on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from kneexray.node.destinations import open_archive
from kneexray.node.faults import described
from kneexray.node.queue import Queue
from kneexray.node.scp import Receiver
from kneexray.node.sender import Sender
from kneexray.node.settings import NodeSettings
from kneexray.node.spool import Spool
from kneexray.node.worker import Worker
from kneexray.predict import Predictor

logger = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds between two looks at an empty queue."""
RECOVERY = 10.0
"""Seconds before the next attempt after an error, such as a full disk."""


class Node:
    """Receives films, grades them, sends results: what :func:`start` started. As a context manager it stops at the end.

    ``port`` is where it listens.
    """

    def __init__(self, settings: NodeSettings, predictor: Predictor) -> None:
        spool = Spool(settings.spool)
        self._queue = Queue(settings.spool)
        self._stopped = threading.Event()
        try:
            spool.sweep(self._queue.files())
            worker = Worker(self._queue, spool, predictor, formats=settings.formats, quiet=settings.quiet, keep_days=settings.keep_days)
            sender = Sender(self._queue, spool, open_archive(settings.archive, aet=settings.aet))
            self._receiver = Receiver(settings, self._queue, spool)
            self.port = self._receiver.start()
        except BaseException:
            self._queue.close()
            raise
        self._threads = [
            threading.Thread(target=self._repeat, args=(part.work,), name=f"node-{name}", daemon=True)
            for name, part in (("grading", worker), ("sending", sender))
        ]
        for thread in self._threads:
            thread.start()
        logger.info("the DICOM node %s listens on %s port %d; results go to %s", settings.aet, settings.host, self.port, settings.archive)

    def counts(self) -> dict[str, int]:
        """Return how many films and results are in each state (:meth:`kneexray.node.queue.Queue.counts`)."""
        return self._queue.counts()

    def stop(self) -> None:
        """Listen no more, finish the film and the result in hand, and let go of the spool. The rest waits for the next start."""
        self._receiver.stop()
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._queue.close()

    def _repeat(self, work: Callable[[], bool]) -> None:
        while not self._stopped.is_set():
            try:
                pause = 0.0 if work() else PAUSE
            except Exception as error:  # the thread must outlive a full disk, and whatever one object does to it
                logger.error("the next attempt is in %.0f s: %s", RECOVERY, described(error))
                pause = RECOVERY
            self._stopped.wait(pause)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
