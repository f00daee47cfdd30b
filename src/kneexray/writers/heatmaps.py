"""``heatmaps/*.png``: each knee with its heatmap over it, one picture a prediction."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from kneexray.files import make_folder, output_errors
from kneexray.render.knee_pictures import Album, overlay_png
from kneexray.types import FilmResult
from kneexray.writers.base import NO_FACTS, RunFacts, Writer, heatmap_paths


class FileWriter(Writer):
    """Writes the pictures into the folder ``heatmaps``, which is made with the first of them."""

    def __init__(self, path: Path, *, run: RunFacts = NO_FACTS) -> None:
        self._folder = path
        self._made = False

    def add(self, result: FilmResult, *, album: Album | None = None) -> None:
        """Write a picture for each prediction that has a heatmap."""
        album = album or Album()
        for prediction, name in zip(result.predictions, heatmap_paths(result), strict=True):
            if prediction.heatmap is None or name is None:
                continue
            if not self._made:
                make_folder(self._folder)
                self._made = True
            path = self._folder / PurePosixPath(name).name
            picture = overlay_png(album.crop(prediction.knee), heatmap=prediction.heatmap)
            with output_errors(path):
                path.unlink(missing_ok=True)  # an earlier run: ext4 flushes what is emptied and written anew
                try:
                    path.write_bytes(picture)
                except OSError:
                    path.unlink(missing_ok=True)
                    raise

    def _finish(self) -> None:
        pass


def write(results: Iterable[FilmResult], path: Path) -> None:
    """Write the pictures of all results into the folder ``path``."""
    with FileWriter(path) as writer:
        for result in results:
            writer.add(result)
