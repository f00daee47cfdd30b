"""The pictures of a visit's films and knees, as PNG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneexray.read import Limits
from kneexray.render.film import film_picture
from kneexray.render.heatmap import crop_for_display
from kneexray.render.knee_pictures import layer_png
from kneexray.types import Radiograph
from kneexray.web.problems import Absent
from kneexray.web.visits import VisitFilm

FILM_SIZE, CROP_SIZE = 2000, 512


def film_png(film: VisitFilm, *, limits: Limits) -> tuple[bytes, tuple[int, int]]:
    """Return the film in grey, bone bright, at most :data:`FILM_SIZE` pixels, and the (height, width) of the film itself.

    Raises :class:`~kneexray.web.problems.Absent` for a film that cannot be read.
    """
    radiograph = _radiograph(film, limits)
    height, width = radiograph.pixels.shape
    return _png(film_picture(radiograph, size=min(FILM_SIZE, max(height, width)))), (height, width)


def crop_png(film: VisitFilm, knee: int, *, limits: Limits) -> bytes:
    """Return the knee's box as it lies on the film; raises :class:`~kneexray.web.problems.Absent` where there is no such knee."""
    _check(film, knee)
    return _png(crop_for_display(list(film.opened(limits).by_knee())[knee], size=CROP_SIZE))


def heatmap_png(film: VisitFilm, knee: int) -> bytes:
    """Return where the model looked, coloured and transparent, to be stretched over the knee's box; raises Absent likewise."""
    _check(film, knee)
    predictions = list(film.result.by_knee().values())[knee]
    heatmap = next((p.heatmap for p in predictions if p.heatmap is not None), None)
    if heatmap is None:
        raise Absent("the model gives no heatmap")
    return layer_png(heatmap)


def _radiograph(film: VisitFilm, limits: Limits) -> Radiograph:
    if film.result.predictions:
        return film.opened(limits).predictions[0].knee.radiograph
    radiographs = film.study(limits).radiographs
    if not radiographs:
        raise Absent("the film cannot be read, so there is no picture of it")
    return radiographs[0]


def _check(film: VisitFilm, knee: int) -> None:
    count = len(film.result.by_knee())
    if knee >= count:
        raise Absent(f"{count} knee(s) of the film were graded; they are numbered from 0")


def _png(pixels: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", compress_level=1)
    return data.getvalue()
