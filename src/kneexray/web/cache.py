"""Answers to bytes that came before: for a while, and never more than so many bytes of them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from kneexray.types import FilmResult
from kneexray.web.visits import result_size


class Cache:
    """Results without pixels and names, by what decides them: the film's hash, the models and the options.

    Each is forgotten after ``minutes``, since a DICOM film's result holds what the film says of its patient; the one that was not asked for
    longest goes where ``max_bytes`` are full.
    """

    def __init__(self, *, minutes: float, max_bytes: int) -> None:
        self._seconds = minutes * 60
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._results: OrderedDict[str, tuple[FilmResult, float]] = OrderedDict()
        self.size = 0

    def get(self, key: str) -> FilmResult | None:
        """Return the result under ``key``, or None."""
        with self._lock:
            if key not in self._results:
                return None
            result, since = self._results[key]
            if time.monotonic() - since > self._seconds:
                self._drop(key)
                return None
            self._results.move_to_end(key)
            return result

    def put(self, key: str, result: FilmResult) -> None:
        """Remember a result."""
        with self._lock:
            if key in self._results:
                self._drop(key)
            self._results[key] = result, time.monotonic()
            self.size += result_size(result)
            while self.size > self._max_bytes:
                self._drop(next(iter(self._results)))

    def expire(self) -> None:
        """Forget the results whose time is over."""
        with self._lock:
            oldest = time.monotonic() - self._seconds
            for key in [key for key, (_, since) in self._results.items() if since < oldest]:
                self._drop(key)

    def _drop(self, key: str) -> None:
        self.size -= result_size(self._results.pop(key)[0])
