"""Sends results to the archive, and again later where that fails."""

from __future__ import annotations

import logging

from kneexray.node.destinations import Outcome, StoreArchive, StowArchive
from kneexray.node.queue import Queue, Result
from kneexray.node.spool import Spool

logger = logging.getLogger(__name__)


class Sender:
    """Takes results from the queue, and tells it what the archive said."""

    def __init__(self, queue: Queue, spool: Spool, archive: StoreArchive | StowArchive) -> None:
        self._queue = queue
        self._spool = spool
        self._archive = archive

    def work(self) -> bool:
        """Send what is due; False where nothing was."""
        results = self._queue.due()
        away: list[Result] = []
        for answer in self._archive.send(results, self._spool.folder) if results else ():
            if answer.outcome is Outcome.STORED:
                self._queue.sent(answer.result)
                logger.info("result %d of film %d was sent", answer.result.id, answer.result.film)
            elif answer.outcome is Outcome.AWAY:
                away.append(answer.result)
                detail = answer.detail
            elif self._queue.refused(answer.result):
                logger.error("the archive refused result %d for good: %s", answer.result.id, answer.detail)
            else:
                logger.warning("the archive refused result %d: %s", answer.result.id, answer.detail)
        if away:
            wait = self._queue.put_off(away)
            logger.warning("the archive took none of %d result(s) (%s); the next attempt is in %.0f s", len(away), detail, wait)
        return bool(results)
