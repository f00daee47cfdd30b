"""What a run writes: one file an output format, and the table of them.

Each format is a class that takes one film's result at a time, so that memory does not grow with the number of films::

    with FolderWriter(folder, formats=("csv", "json", "html"), run=RunFacts(command="kneexray predict films")) as writer:
        for result in results:
            writer.add(result)

To add a format, add a module with a :class:`~kneexray.writers.base.Writer` called ``FileWriter``, and a row to :data:`WRITERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from kneexray.errors import ConfigError, choices
from kneexray.writers.base import NO_FACTS
from kneexray.writers.base import RunFacts as RunFacts
from kneexray.writers.base import Writer as Writer
from kneexray.writers.output import make_folder

if TYPE_CHECKING:
    from kneexray.types import FilmResult
    from kneexray.writers.pictures import Album


@dataclass(frozen=True, slots=True)
class Format:
    """An output format: what it is for, its file or folder inside the output folder, and the module that writes it."""

    title: str
    output: str
    module: str

    def load(self) -> type[Writer]:
        """Import the module and return its writer."""
        return cast("type[Writer]", importlib.import_module(self.module).FileWriter)


WRITERS: MappingProxyType[str, Format] = MappingProxyType(
    {
        "csv": Format("one row a prediction, for pandas, R and spreadsheets", "predictions.csv", "kneexray.writers.csv"),
        "json": Format("every prediction and rejection, for programs", "predictions.json", "kneexray.writers.json"),
        "html": Format("a report to read, print and forward, in one file", "report.html", "kneexray.writers.html"),
    }
)

_HEATMAPS = Format("one picture a prediction, which the other formats name", "heatmaps", "kneexray.writers.heatmaps")


class FolderWriter(Writer):
    """Several formats into one folder, and the heatmaps that they name.

    Raises :class:`~kneexray.errors.ConfigError` for an unknown format, :class:`~kneexray.errors.OutputError` where nothing can be written.
    """

    def __init__(self, path: Path, *, run: RunFacts = NO_FACTS, formats: Iterable[str] = tuple(WRITERS)) -> None:
        chosen = [_format(name) for name in dict.fromkeys(formats)]
        make_folder(path)
        with ExitStack() as stack:  # closes each that was opened, whatever happens to the others
            self._writers = [stack.enter_context(one.load()(path / one.output, run=run)) for one in (_HEATMAPS, *chosen)]
            self._stack = stack.pop_all()

    def add(self, result: FilmResult, *, album: Album | None = None) -> None:
        """Hand the result to every format."""
        from kneexray.writers.pictures import Album

        album = album or Album()
        for writer in self._writers:
            writer.add(result, album=album)

    def _finish(self) -> None:
        self._stack.close()


def _format(name: str) -> Format:
    try:
        return WRITERS[name]
    except KeyError:
        raise ConfigError(choices("format", name, WRITERS)) from None
