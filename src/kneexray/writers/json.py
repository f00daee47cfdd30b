"""``predictions.json``: every prediction and rejection, for programs.

One record a line, so that the partial file of a killed run can be read as well: ``]}`` appended to it makes it whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneexray.files import OutputFile
from kneexray.render.reading import record as reading_record
from kneexray.types import FilmResult
from kneexray.writers.base import NO_FACTS, RunFacts, Writer, heatmap_paths, prediction_record, rejection_record

if TYPE_CHECKING:
    from kneexray.render.knee_pictures import Album

VERSION = 1
"""Of the layout; it grows when a key changes its meaning or goes."""


class FileWriter(Writer):
    """Writes ``predictions.json``."""

    def __init__(self, path: Path, *, run: RunFacts = NO_FACTS) -> None:
        self._file = OutputFile(path)
        self._rejections = OutputFile(path.with_suffix(".rejections.json"))  # they come later, and memory is not to grow with them
        self._readings = OutputFile(path.with_suffix(".readings.json"))
        self._model_ids: dict[str, None] = {}

    def add(self, result: FilmResult, *, album: Album | None = None) -> None:
        """Append the film's predictions, and keep its rejections for the end."""
        records = [
            prediction_record(prediction, heatmap_path=path)
            for prediction, path in zip(result.predictions, heatmap_paths(result), strict=True)
        ]
        if records:
            self._write(_lines(records, first=self._file.size == 0))
            self._model_ids |= dict.fromkeys(record["model_id"] for record in records)
        readings = [found for predictions in result.by_knee().values() if (found := reading_record(predictions))]
        if readings:
            self._readings.write(_lines(readings, first=self._readings.size == 0))
        if result.rejections:
            self._rejections.write(_lines(map(rejection_record, result.rejections), first=self._rejections.size == 0))

    def _write(self, text: str) -> None:
        self._file.write(text if self._file.size else f'{{"version": {VERSION}, "predictions": [{text}')

    def _finish(self) -> None:
        with self._file, self._rejections, self._readings:
            self._write('\n], "rejections": [')
            for chunk in self._rejections.chunks():
                self._file.write(chunk)
            self._file.write('\n], "readings": [')
            for chunk in self._readings.chunks():
                self._file.write(chunk)
            self._file.write(f'\n], "model_ids": {json.dumps(list(self._model_ids), ensure_ascii=False)}}}\n')
            self._file.finish()
            self._rejections.discard()
            self._readings.discard()


def write(results: Iterable[FilmResult], path: Path) -> None:
    """Write all results to a JSON file at ``path``."""
    with FileWriter(path) as writer:
        for result in results:
            writer.add(result)


def _lines(records: Iterable[Mapping[str, Any]], *, first: bool) -> str:
    lines = ",\n".join(json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records)
    return f"\n{lines}" if first else f",\n{lines}"
