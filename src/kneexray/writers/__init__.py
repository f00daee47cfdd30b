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

from kneexray.errors import ConfigError, MissingExtraError, choices
from kneexray.files import make_folder
from kneexray.writers.base import NO_FACTS
from kneexray.writers.base import RunFacts as RunFacts
from kneexray.writers.base import Writer as Writer

if TYPE_CHECKING:
    from kneexray.render.knee_pictures import Album
    from kneexray.types import FilmResult


@dataclass(frozen=True, slots=True)
class Format:
    """An output format: what it is for, its file or folder inside the output folder, the module that writes it, the extra it needs."""

    title: str
    output: str
    module: str
    extra: str | None = None

    def load(self) -> type[Writer]:
        """Import the module and return its writer; raises :class:`~kneexray.errors.MissingExtraError` where its extra is not installed."""
        try:
            return cast("type[Writer]", importlib.import_module(self.module).FileWriter)
        except ModuleNotFoundError as error:
            if self.extra is None:
                raise
            raise MissingExtraError(f"writing {self.title} ({error.name} is missing)", self.extra) from error


WRITERS: MappingProxyType[str, Format] = MappingProxyType(
    {
        "csv": Format("one row a prediction, for pandas, R and spreadsheets", "predictions.csv", "kneexray.writers.csv"),
        "json": Format("every prediction and rejection, for programs", "predictions.json", "kneexray.writers.json"),
        "html": Format("a report to read, print and forward, in one file", "report.html", "kneexray.writers.html"),
        "pdf": Format("a report on paper, a page a knee", "report.pdf", "kneexray.writers.pdf", extra="pdf"),
        "dicom-sr": Format("a DICOM structured report a film, in its study", "dicom", "kneexray.writers.dicom_sr", extra="dicom"),
        "dicom-sc": Format("a DICOM picture a film, in its study", "dicom", "kneexray.writers.dicom_sc"),
        "dicom-pdf": Format("the report on paper as DICOM, in the film's study", "dicom", "kneexray.writers.dicom_pdf", extra="pdf"),
    }
)

DEFAULT_FORMATS = ("csv", "json", "html")
"""What is written where nobody chose: what needs no extra and suits every film."""

_HEATMAPS = Format("one picture a prediction, which the other formats name", "heatmaps", "kneexray.writers.heatmaps")


class FolderWriter(Writer):
    """Several formats into one folder, and the heatmaps that they name.

    Raises :class:`~kneexray.errors.ConfigError` for an unknown format, :class:`~kneexray.errors.MissingExtraError` for one whose extra is
    not installed, :class:`~kneexray.errors.OutputError` where nothing can be written.
    """

    def __init__(self, path: Path, *, run: RunFacts = NO_FACTS, formats: Iterable[str] = DEFAULT_FORMATS) -> None:
        chosen = [_format(name) for name in dict.fromkeys(formats)]
        make_folder(path)
        with ExitStack() as stack:  # closes each that was opened, whatever happens to the others
            self._writers = [stack.enter_context(one.load()(path / one.output, run=run)) for one in (_HEATMAPS, *chosen)]
            self._stack = stack.pop_all()

    def add(self, result: FilmResult, *, album: Album | None = None) -> None:
        """Hand the result to every format."""
        from kneexray.render.knee_pictures import Album

        album = album or Album()
        for writer in self._writers:
            writer.add(result, album=album)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the formats left out so far."""
        return tuple(note for writer in self._writers for note in writer.notes)

    def _finish(self) -> None:
        self._stack.close()


def _format(name: str) -> Format:
    try:
        return WRITERS[name]
    except KeyError:
        raise ConfigError(choices("format", name, WRITERS)) from None


def clear_earlier(folder: Path) -> None:
    """Remove the pictures and DICOM objects that an earlier run left in ``folder``, so that none stays beside the new."""
    if not (folder / "manifest.json").is_file():
        return
    for kind, ending in (("heatmaps", "*.png"), ("dicom", "*.dcm")):
        for path in (folder / kind).glob(ending):
            path.unlink(missing_ok=True)
