"""A visit as a file to keep: what the writers make, in memory."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from kneexray.read import Limits
from kneexray.types import FilmResult
from kneexray.web.problems import Absent
from kneexray.web.visits import Visit
from kneexray.writers import WRITERS, RunFacts

MEDIA: MappingProxyType[str, str] = MappingProxyType(
    {"pdf": "application/pdf", "json": "application/json", "csv": "text/csv; charset=utf-8", "zip": "application/zip"}
)


def pdf(visit: Visit, *, limits: Limits, run: RunFacts) -> bytes:
    """Return the report on paper; raises :class:`~kneexray.errors.MissingExtraError` where its extra is not installed."""
    return _written("pdf", _opened(visit, limits), run=run)


def csv(visit: Visit, *, run: RunFacts) -> bytes:
    """Return a row a prediction and a rejection; heatmaps are no files here, so none is named."""
    results = (replace(film.result, predictions=tuple(replace(p, heatmap=None) for p in film.result.predictions)) for film in visit.films)
    return _written("csv", results, run=run)


def dicom_zip(visit: Visit, *, run: RunFacts) -> bytes:
    """Return a ZIP of a DICOM structured report a film that came as DICOM.

    Raises :class:`~kneexray.web.problems.Absent`, with the reasons, where no film has one, and
    :class:`~kneexray.errors.MissingExtraError`.
    """
    file_writer = WRITERS["dicom-sr"].load()
    notes: list[str] = []
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, film in enumerate(visit.films, start=1):
            place = Path(folder) / str(number)  # films may share a name
            with file_writer(place, run=run) as writer:
                writer.add(film.result)
                notes.extend(writer.notes)
            for path in sorted(place.glob("*.dcm")):
                archive.write(path, f"{number:03d}-{path.name}")
        if not archive.namelist():
            raise Absent(" ".join(dict.fromkeys(notes)))
    return packed.getvalue()


def _opened(visit: Visit, limits: Limits) -> Iterator[FilmResult]:
    for film in visit.films:
        yield film.opened(limits)


def _written(name: str, results: Iterator[FilmResult], *, run: RunFacts) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WRITERS[name].output
        with WRITERS[name].load()(path, run=run) as writer:
            for result in results:
                writer.add(result)
        return path.read_bytes()
