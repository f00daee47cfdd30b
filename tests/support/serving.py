"""A server with a grader that needs no network, for the tests of serving."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the serve extra is not installed")

from starlette.testclient import TestClient

from kneexray.predict import Readable
from kneexray.roi import whole_knee
from kneexray.synthetic import draw_knee
from kneexray.types import FilmResult, Prediction
from kneexray.web.app import create_app
from kneexray.web.settings import Settings


class Grades:
    """Grades every film that can be read as KL 2, once ``open`` is set; ``batches`` tells which came together."""

    model_ids = ("fake",)
    graders = ()

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.batches: list[list[str]] = []

    def load(self) -> None:
        pass

    def model_facts(self) -> dict[str, dict[str, str]]:
        return {}

    def grade_sources(self, sources: Sequence[Readable]) -> list[FilmResult]:
        self.batches.append([source.name for source in sources])
        self.open.wait(20)
        return [self._grade(source) for source in sources]

    def _grade(self, source: Readable) -> FilmResult:
        study = source.read()
        predictions = tuple(
            Prediction(
                task="kl",
                labels=("0", "1", "2", "3", "4"),
                probabilities=np.array([0, 0.25, 0.5, 0.25, 0]),
                grade=2,
                prediction_set=(1, 2, 3),
                coverage=0.9,
                knee=whole_knee(radiograph),
                model_id="fake",
                heatmap=np.eye(64, dtype=np.float32),
            )
            for radiograph in study.radiographs
        )
        return FilmResult(source.name, predictions, study.rejections)


@contextmanager
def serving(grades: Any = None, **settings: Any) -> Iterator[TestClient]:
    """A client of a running server; ``grades`` None is the real predictor."""
    app = create_app(Settings(**{"workers": 1, **settings}), predictor=grades)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def png(seed: int = 0, *, size: int = 96) -> bytes:
    """A drawn knee."""
    data = io.BytesIO()
    Image.fromarray((draw_knee(2, seed=seed, size=size) * 255).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()


def form(*films: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """Films as the field of a form."""
    return [("files", film) for film in films]


def wait_until(true: Callable[[], object], *, seconds: float = 60) -> None:
    """Return as soon as ``true`` is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
