"""Heat on the film and over the bone: scale, place, colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from kneexray.render.heatmap import (
    OPACITY,
    colours,
    crop_for_display,
    finding_map,
    heatmap_from_cam,
    indexed_overlay,
    opacities,
    overlay,
    panel,
    to_film,
)
from kneexray.types import Box, Knee, Radiograph

few = settings(max_examples=50, deadline=None)


def knee_on(pixels: NDArray[np.float32], box: Box) -> Knee:
    return Knee(Radiograph(pixels, "film.png"), box)


def gradient(height: int, width: int) -> NDArray[np.float32]:
    return np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width)).copy()


def spot(row: int, column: int, *, size: int = 7) -> NDArray[np.float32]:
    heatmap = np.zeros((size, size), np.float32)
    heatmap[row, column] = 1
    return heatmap


@given(
    st.lists(st.floats(0.001, 1), min_size=2, max_size=5).flatmap(
        lambda w: st.tuples(st.just(np.array(w) / sum(w)), arrays(np.float32, (len(w), 4, 5), elements=st.floats(-3, 3, width=32)))
    )
)
def test_a_finding_is_never_hotter_than_it_is_probable(given_maps: tuple[NDArray[np.float64], NDArray[np.float32]]) -> None:
    probabilities, cam = given_maps
    heat = finding_map(cam, probabilities)
    assert heat.shape == cam.shape[1:]
    assert 0 <= heat.min() <= heat.max() <= 1 - probabilities[0] + 1e-6


def test_the_map_of_no_finding_is_not_shown() -> None:
    cam = np.stack([np.eye(4), np.zeros((4, 4)), np.eye(4)[::-1]]).astype(np.float32)
    heat = finding_map(cam, np.array([0.4, 0.0, 0.6]))
    assert heat[0, 0] == 0
    assert heat[0, 3] == np.float32(0.6)


@few
@given(cam=arrays(np.float32, (5, 7), elements=st.floats(-1e6, 1e6, width=32)))
def test_heatmap_is_grad_cam_on_a_common_scale(cam: NDArray[np.float32]) -> None:
    heatmap = heatmap_from_cam(cam)
    assert heatmap.dtype == np.float32
    assert heatmap.shape == cam.shape
    assert not heatmap[cam <= 0].any()
    assert heatmap.max() == (1 if cam.max() > 0 else 0)
    np.testing.assert_allclose(heatmap * max(cam.max(), 0), np.maximum(cam, 0), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_told(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        heatmap_from_cam(np.array([[0.0, value]]))


def test_colours_are_inferno_and_grow_lighter() -> None:
    table = colours()
    assert table.shape == (256, 3)
    assert table[0].tolist() == [0x42, 0x0A, 0x68]
    assert table[-1].tolist() == [0xFC, 0xFF, 0xA4]
    luminance = table @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) >= 0).all()


def test_cold_regions_show_the_bone_and_hot_ones_the_colour() -> None:
    crop = np.full((77, 77), 200, np.uint8)
    picture = overlay(crop, spot(3, 1))
    assert picture.shape == (77, 77, 3)
    assert (picture[38, 60] == 200).all()
    expected = 200 * (1 - OPACITY) + colours()[255] * OPACITY
    np.testing.assert_allclose(picture[38, 16], expected, atol=3)
    assert (np.diff(opacities()) > 0).all()
    assert opacities()[64] < 0.15 * OPACITY


def test_no_heat_and_no_opacity_leave_the_crop_grey() -> None:
    crop = (gradient(64, 64) * 255).astype(np.uint8)
    grey = np.repeat(crop[..., None], 3, axis=2)
    assert (overlay(crop, np.zeros((7, 7), np.float32)) == grey).all()
    assert (overlay(crop, np.ones((7, 7), np.float32), alpha=0) == grey).all()


@few
@given(
    crop=arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))),
    heatmap=arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.floats(0, 1, width=32)),
)
def test_indexed_overlay_fits_256_colours_for_any_picture(crop: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> None:
    index, palette = indexed_overlay(crop, heatmap)
    assert index.shape == crop.shape
    assert index.dtype == palette.dtype == np.uint8
    assert index.max() < len(palette) <= 256
    assert palette.shape[1] == 3


def test_indexed_overlay_looks_like_the_overlay(shared_data: Path) -> None:
    for path in sorted((shared_data / "chen2018/val").glob("*/*.webp"))[::100]:
        with Image.open(path) as image:
            knee = knee_on(np.asarray(image.convert("L"), dtype=np.float32) / 255, (0, 0, 299, 299))
        crop = crop_for_display(knee, size=224)
        heatmap = np.outer(np.hanning(10), np.roll(np.hanning(10), 2)).astype(np.float32)
        index, palette = indexed_overlay(crop, heatmap)
        difference = np.abs(palette[index].astype(int) - overlay(crop, heatmap))
        assert difference.mean() < 3
        assert np.percentile(difference, 99) < 16


def test_heat_is_placed_where_it_lies_on_the_film() -> None:
    film = np.zeros((100, 200), np.float32)
    placed = to_film(spot(1, 0), box=(100, 20, 170, 90), shape=film.shape)
    assert placed.shape == film.shape
    assert placed.dtype == np.float32
    row, column = np.unravel_index(placed.argmax(), placed.shape)
    assert 30 <= row < 40
    assert 100 <= column < 110
    outside = placed.copy()
    outside[20:90, 100:170] = 0
    assert not outside.any()


def test_heat_beyond_the_film_is_cut_off() -> None:
    film = np.zeros((50, 50), np.float32)
    placed = to_film(spot(3, 6), box=(-35, -10, 35, 60), shape=film.shape)
    row, column = np.unravel_index(placed.argmax(), placed.shape)
    assert 20 <= row < 30
    assert 25 <= column < 35
    assert not to_film(spot(3, 6), box=(60, 60, 90, 90), shape=film.shape).any()


@few
@given(
    box=st.tuples(st.floats(-80, 80), st.floats(-80, 80), st.floats(2, 150)),
    size=st.integers(8, 64),
)
def test_any_box_gives_a_square_crop_and_a_film_of_heat(box: tuple[float, float, float], size: int) -> None:
    left, top, side = box
    knee = knee_on(gradient(60, 70), (left, top, left + side, top + side))
    assert crop_for_display(knee, size=size).shape == (size, size)
    placed = to_film(np.ones((7, 7), np.float32), box=knee.box, shape=(60, 70))
    assert placed.shape == (60, 70)
    assert set(np.unique(placed).tolist()) <= {0.0, 1.0}


def test_crop_is_black_outside_the_film_and_keeps_its_place() -> None:
    film = gradient(100, 100) + 1
    crop = crop_for_display(knee_on(film, (-50, 0, 50, 100)), size=100)
    assert not crop[:, :50].any()
    assert (np.diff(crop[50, 52:98].astype(int)) >= 0).all()
    assert crop[50, 98] > 250


def test_crop_of_a_box_that_is_not_square_keeps_its_proportions() -> None:
    assert crop_for_display(knee_on(gradient(162, 300), (0, 0, 300, 162)), size=100).shape == (54, 100)


def test_a_washed_out_film_is_legible_and_a_blank_one_does_no_harm() -> None:
    washed_out = gradient(50, 50) * 0.1 + 0.6
    crop = crop_for_display(knee_on(washed_out.astype(np.float32), (0, 0, 50, 50)), size=50)
    assert crop.min() < 10
    assert crop.max() > 245
    blank = crop_for_display(knee_on(np.full((50, 50), 0.5, np.float32), (0, 0, 50, 50)), size=50)
    assert len(np.unique(blank)) == 1


def test_a_panel_shows_the_knee_the_heat_and_every_line() -> None:
    crop = (gradient(240, 240) * 255).astype(np.uint8)
    one, two = (np.asarray(panel(crop, spot(3, 1), lines=lines)) for lines in (["a"], ["a", "Right knee: KL 3"]))
    assert one.shape[1] == two.shape[1] > 2 * 240
    assert two.shape[0] > one.shape[0] > 240
    assert (one[:240, :240] == crop[..., None]).all()
    assert (one[:240, 250:490] == overlay(crop, spot(3, 1))).all()
    assert (two[one.shape[0] :] < 128).any()  # ink of the second line
