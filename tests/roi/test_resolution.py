"""Knees enlarged from few pixels are told from knees that have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneexray.read import read_file
from kneexray.roi import find_knees
from kneexray.roi.resolution import SOFT_WARNING, detail, is_soft, resolution_objection
from kneexray.types import Radiograph


def enlarged(pixels: np.ndarray, side: int, kind: Image.Resampling) -> np.ndarray:
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS).resize(image.size, kind)).clip(0, 1)


def whole(pixels: np.ndarray) -> tuple[float, float, float, float]:
    return (0, 0, float(pixels.shape[1]), float(pixels.shape[0]))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_detail_goes_by_the_knee_not_by_the_pixels(times: int) -> None:
    texture = np.random.default_rng(3).random((300, 300), np.float32)
    for side, kept in ((300, True), (60, False)):
        image = Image.fromarray(texture).resize((side, side), Image.Resampling.LANCZOS)
        pixels = np.asarray(image.resize((300 * times, 300 * times), Image.Resampling.BICUBIC))
        assert (resolution_objection(detail(pixels, whole(pixels))) is None) is kept


def test_nothing_is_said_of_what_shows_nothing() -> None:
    flat = np.full((300, 300), 0.5, np.float32)
    assert detail(flat, whole(flat)) is None
    assert detail(flat, (0, 0, 40, 40)) is None
    assert resolution_objection(None) is None
    assert not is_soft(None)


@pytest.mark.parametrize("kind", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
def test_enlarged_crops(shared_data: Path, kind: Image.Resampling) -> None:
    paths = sorted((shared_data / "chen2018" / "val").glob("*/*.*"))[::60]
    originals = [read_file(path).radiographs[0].pixels for path in paths]
    for pixels in originals:
        levels = detail(pixels, whole(pixels))
        assert resolution_objection(levels) is None
        assert not is_soft(levels)
    for side, least in ((64, 0.9), (96, 0.6)):
        refused = [resolution_objection(detail(small, whole(small))) is not None for small in (enlarged(p, side, kind) for p in originals)]
        assert np.mean(refused) >= least
    softened = [enlarged(p, 96, kind) for p in originals]
    assert np.mean([is_soft(detail(small, whole(small))) for small in softened]) >= 0.9
    found = find_knees(Radiograph(enlarged(originals[0], 64, kind), "film"))
    assert found.rejections[0].reason == "low_resolution"
    asked = find_knees(Radiograph(enlarged(originals[0], 64, kind), "film"), mode="whole")
    assert SOFT_WARNING in asked.knees[0].warnings
