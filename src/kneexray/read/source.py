"""Something that can be read into a study, later and on any thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kneexray.errors import ReadError
from kneexray.read.limits import Limits
from kneexray.read.reader import read_bytes, rejected
from kneexray.types import Study


@dataclass(frozen=True, slots=True)
class Source:
    """One file or archive member. ``load`` fetches its bytes, or raises :class:`ReadError` saying why that is impossible.

    ``name`` is the path as given or found; a member is ``a.zip!/dir/b.png``, one of a nested archive ``a.zip!/b.zip!/c.png``.
    """

    name: str
    load: Callable[[], bytes]
    limits: Limits

    def read(self) -> Study:
        """Return the study; never raises for bad content."""
        try:
            data = self.load()
        except ReadError as error:
            return rejected(self.name, error)
        return read_bytes(data, source=self.name, limits=self.limits)


def failing(name: str, error: ReadError, limits: Limits) -> Source:
    """Return a source whose study is the rejection ``error``."""
    return Source(name, partial(_fail, error.reason, error.detail), limits)


def _fail(reason: str, detail: str) -> bytes:
    raise ReadError(reason, detail)
