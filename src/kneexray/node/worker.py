"""Grades the films that were received, and makes the objects that the archive gets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from kneexray import provenance
from kneexray.errors import OutputError
from kneexray.node.faults import described
from kneexray.node.queue import MOST_STARTS, Film, Queue
from kneexray.node.spool import Spool
from kneexray.predict import Predictor
from kneexray.read import read_bytes
from kneexray.read.dicom_header import parse
from kneexray.read.limits import DEFAULT_LIMITS
from kneexray.version import __version__
from kneexray.writers import WRITERS, RunFacts

logger = logging.getLogger(__name__)


class Worker:
    """Takes films from the queue, and puts results into it.

    Raises :class:`~kneexray.errors.MissingExtraError` where a format's extra is not installed.
    """

    def __init__(self, queue: Queue, spool: Spool, predictor: Predictor, *, formats: Sequence[str], quiet: float, keep_days: float) -> None:
        self._queue = queue
        self._spool = spool
        self._predictor = predictor
        self._writers = [WRITERS[name].load() for name in formats]
        self._quiet = quiet
        self._keep_days = keep_days
        self._models = predictor.model_facts()
        self._versions = {"kneexray": __version__, **provenance.environment()["packages"]}

    def work(self) -> bool:
        """Grade the next film; where there is none, remove what is past keeping and return False."""
        film = self._queue.start(quiet=self._quiet)
        if film is None:
            for old in self._queue.old(days=self._keep_days):
                self._spool.remove(old.id, old.file)
                self._queue.forget(old)
            return False
        if film.starts > MOST_STARTS:
            self._queue.failed(film)
            logger.error("film %d took the node down %d times; it is not tried again", film.id, MOST_STARTS)
            return True
        try:
            results = self._results(film)
        except OutputError:
            self._queue.postpone(film)
            raise
        except Exception as error:  # one film must not stop the others
            self._queue.failed(film)
            logger.error("film %d cannot be graded; send it again to have it tried again: %s", film.id, described(error))
            return True
        self._queue.graded(film, results)
        logger.info("film %d is graded: %d result(s) to send", film.id, len(results))
        return True

    def _results(self, film: Film) -> list[tuple[str, str, str]]:
        """Write the results of a film to the disk; return the SOP class, UID and file of each."""
        data = (self._spool.folder / film.file).read_bytes()
        answer = self._predictor.predict_study(read_bytes(data, source=f"film-{film.id}.dcm"))
        folder = self._spool.results_folder(film.id)
        run = RunFacts(started=datetime.now(UTC), models=self._models, versions=self._versions)
        for open_writer in self._writers:
            with open_writer(folder, run=run) as writer:
                writer.add(answer)
                for note in writer.notes:
                    logger.warning("film %d: %s", film.id, note)
        results = []
        for name in self._spool.settle(folder):
            header = parse((self._spool.folder / name).read_bytes(), limits=DEFAULT_LIMITS).header
            results.append((header.text("SOPClassUID"), header.text("SOPInstanceUID"), name))
        return results
