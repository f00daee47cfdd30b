"""A predictor that costs nothing, importable by worker processes: its answers follow from the films' names."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kneexray.predict import Readable
from kneexray.tasks import TASKS
from kneexray.types import FilmResult, Knee, Prediction, Radiograph, Rejection


@dataclass(frozen=True)
class Cheap:
    """Grades a film by the length of its name's hash; refuses every fifth.

    The process is killed at a film called ``deadly`` always, and at one called ``unlucky`` the first time, of which ``notes`` keeps the
    memory; it keeps the pids of all processes too.
    """

    notes: Path | None = None
    seconds: float = 0.0

    def load(self) -> None:
        if self.notes:
            (self.notes / f"pid-{os.getpid()}").touch()

    def predict_sources(self, sources: Iterable[Readable], *, jobs: int = 1, batch_size: int = 1) -> Iterator[FilmResult]:
        for source in sources:
            if "deadly" in source.name or ("unlucky" in source.name and self._first_time()):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.seconds)
            yield answer(source.name)

    def _first_time(self) -> bool:
        assert self.notes is not None
        mark = self.notes / "unlucky"
        first = not mark.exists()
        mark.touch()
        return first


def die(*_: object) -> None:
    """Stand for a worker that is killed at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def answer(name: str) -> FilmResult:
    number = sum(name.encode("utf-8", "surrogateescape"))
    if number % 5 == 0:
        return FilmResult(name, rejections=(Rejection(name, "not_a_knee", "no knee"),))
    film = Radiograph(np.zeros((1, 1), np.float32), name)
    shares = np.roll([0.5, 0.2, 0.1, 0.1, 0.1], number)
    labels = TASKS["kl"].labels
    knee = Knee(film, (0, 0, 1, 1), "R" if number % 2 else None)
    return FilmResult(name, (Prediction("kl", labels, shares, int(shares.argmax()), (int(shares.argmax()),), 0.9, knee, "cheap"),))
