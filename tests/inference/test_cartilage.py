"""The cartilage band found by grey density."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneexray.geometry import resample
from kneexray.inference.cartilage import BAND, ROWS, cartilage_band, valley
from kneexray.roi import whole_knee
from kneexray.synthetic import draw_knee
from kneexray.types import Radiograph


@pytest.mark.parametrize("grade", range(5))
def test_the_band_of_a_drawn_knee_lies_about_the_joint_line(grade: int):
    x0, y0, x1, y1 = cartilage_band(draw_knee(grade, seed=1), (0, 0, 299, 299))
    assert (x0, x1) == (0, 299)
    assert y1 - y0 == pytest.approx(BAND * 299)
    assert 0.52 < (y0 + y1) / 2 / 299 < 0.68


def test_the_band_scales_with_the_film_and_ignores_exposure():
    knee = draw_knee(1)
    band = cartilage_band(knee, (0, 0, 299, 299))
    double = resample(knee, (0, 0, 299, 299), size=(598, 598))
    np.testing.assert_allclose(np.array(cartilage_band(double, (0, 0, 598, 598))) / 2, band, atol=2 * 299 / ROWS)
    np.testing.assert_allclose(cartilage_band(knee * 0.5 + 0.1, (0, 0, 299, 299)), band, atol=2 * 299 / ROWS)


def test_an_even_image_has_its_band_where_joints_are_expected():
    assert valley(np.full((ROWS, ROWS), 0.5, np.float32), joint_line=0.5) == ROWS // 2


@pytest.mark.parametrize("grade", range(5))
def test_a_film_cut_about_the_joint_has_its_band_in_the_middle(grade: int):
    strip = draw_knee(grade, seed=1)[101:252]
    _, y0, _, y1 = whole_knee(Radiograph(strip, source="strip.png")).box
    _, top, _, bottom = cartilage_band(strip, (0, y0, 299, y1))
    assert abs((top + bottom) / 2 - (0.59 * 299 - 101)) < 0.07 * 299


def test_the_band_holds_the_joint_space_that_people_drew(shared_data: Path):
    errors = []
    for mask in sorted((shared_data / "joint-space-masks" / "Train_Y").iterdir()):
        film = next((shared_data / "joint-space-masks" / "Train_X").glob(f"{mask.stem.removesuffix('_mask')}.*"), None)
        rows = np.nonzero(np.asarray(Image.open(mask).convert("L")) > 127)[0]
        if film is None or not len(rows):
            continue
        pixels = np.asarray(Image.open(film).convert("L"), np.float32) / 255
        _, y0, _, y1 = cartilage_band(pixels, (0, 0, pixels.shape[1], pixels.shape[0]))
        errors.append(abs((y0 + y1) / 2 - np.median(rows)) / pixels.shape[0])
    assert np.median(errors) < 0.025
    assert np.percentile(errors, 95) < 0.06
