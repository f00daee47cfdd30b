"""The one preprocessing function: geometry, mirroring, antialiasing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneexray.geometry import resample
from kneexray.inference.preprocess import Geometry, batch, preprocess
from kneexray.roi import whole_knee
from kneexray.types import Knee, Radiograph


def radiograph(height: int = 60, width: int = 60, *, seed: int = 0) -> Radiograph:
    return Radiograph(pixels=np.random.default_rng(seed).random((height, width), dtype=np.float32), source="drawn")


def test_identity_geometry_returns_the_pixels_themselves():
    film = radiograph()
    np.testing.assert_array_equal(preprocess(whole_knee(film), Geometry(size=60))[0], film.pixels)


@settings(deadline=None, max_examples=30)
@given(size=st.integers(16, 80), zoom=st.floats(0.5, 1.2), shift=st.floats(-0.1, 0.1), seed=st.integers(0, 99))
def test_mirrored_film_with_swapped_side_gives_the_same_input(size: int, zoom: float, shift: float, seed: int):
    film = radiograph(seed=seed)
    flipped = Radiograph(pixels=np.ascontiguousarray(film.pixels[:, ::-1]), source="drawn")
    geometry = Geometry(size=size, zoom=zoom, shift_y=shift)
    right, left = preprocess(whole_knee(film, side="R"), geometry), preprocess(whole_knee(flipped, side="L"), geometry)
    np.testing.assert_allclose(right, left, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(x=st.floats(-40, 40), y=st.floats(-40, 40), side=st.floats(10, 120), size=st.integers(8, 64))
def test_boxes_anywhere_give_values_within_the_films_range(x: float, y: float, side: float, size: int):
    film = radiograph()
    seen = preprocess(Knee(film, box=(x, y, x + side, y + side)), Geometry(size=size))
    assert seen.shape == (1, size, size)
    assert seen.dtype == np.float32
    assert film.pixels.min() - 1e-6 <= seen.min() <= seen.max() <= film.pixels.max() + 1e-6


def test_outside_the_film_the_edge_is_repeated():
    film = Radiograph(pixels=np.full((10, 10), 0.3, np.float32), source="drawn")
    np.testing.assert_allclose(preprocess(Knee(film, box=(-5, -5, 15, 15)), Geometry(size=20)), 0.3, atol=1e-6)


def test_downscaling_averages_instead_of_picking():
    checks = np.indices((256, 256)).sum(axis=0) % 2
    small = resample(checks.astype(np.float32), (0, 0, 256, 256), size=(16, 16))
    np.testing.assert_allclose(small, 0.5, atol=0.02)


def test_the_same_film_at_twice_the_resolution_gives_nearly_the_same_input():
    coarse = resample(radiograph().pixels, (0, 0, 60, 60), size=(120, 120))
    fine = resample(coarse, (0, 0, 120, 120), size=(480, 480))
    geometry = Geometry(size=64, zoom=0.9)
    a, b = (preprocess(whole_knee(Radiograph(p, source="drawn")), geometry) for p in (coarse, fine))
    assert np.abs(a - b).max() < 0.05


def test_an_oblong_image_is_not_stretched():
    knee = whole_knee(radiograph(40, 60))
    assert knee.box == (0.0, -10.0, 60.0, 50.0)


@pytest.mark.parametrize(
    ("side", "laterality", "mirrored"), [("L", None, True), ("R", None, False), (None, "L", True), (None, "B", False), ("R", "L", False)]
)
def test_left_knees_are_mirrored(side: str | None, laterality: str | None, mirrored: bool):
    film = Radiograph(pixels=np.zeros((5, 5), np.float32), source="drawn", laterality=laterality)
    assert whole_knee(film, side=side).mirrored is mirrored


def test_a_batch_is_its_knees_one_by_one():
    knees = [whole_knee(radiograph(seed=s), side=side) for s, side in ((1, "L"), (2, "R"))]
    geometry = Geometry(size=48, zoom=0.92, shift_y=0.02)
    np.testing.assert_array_equal(batch(knees, geometry), np.stack([preprocess(k, geometry) for k in knees]))
