"""What shows nothing gets no grade: noise, patterns, pages and textures; and knees in noise are warned of, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from kneexray.read import read_file
from kneexray.roi import find_knees
from kneexray.roi.quality import MOST_NOISE, NOISE_SIDE, NOISE_WARNING, NOISY, noise, noise_objection
from kneexray.synthetic import draw_knee
from kneexray.types import Radiograph

WHOLE = (0.0, 0.0, float(NOISE_SIDE), float(NOISE_SIDE))
seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(100, 500), st.integers(100, 500))


def film(pixels: np.ndarray) -> Radiograph:
    return Radiograph(pixels=np.ascontiguousarray(np.clip(pixels, 0, 1), dtype=np.float32), source="x")


def grainy(strength: float, *, seed: int = 0) -> np.ndarray:
    """A drawn crop with white noise."""
    return draw_knee(2) + np.random.default_rng(seed).normal(0, strength, (299, 299))


def white(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Uniform, normal or salt-and-pepper noise."""
    kinds = (
        rng.random(shape),
        rng.normal(rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.4), shape),
        rng.random(shape) < rng.uniform(0.02, 0.98),
    )
    return np.asarray(kinds[int(rng.integers(3))], float)


def checkerboard(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.indices(shape) // rng.integers(1, 80, 2)[:, None, None]
    dark, bright = np.sort(rng.random(2) * (0.4, 0.4) + (0, 0.6))
    return np.where((rows + columns) % 2, bright, dark)


def gradient(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    angle, middle = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1, 2)
    ways = (np.cos(angle) * x + np.sin(angle) * y, np.hypot(x - middle[0], y - middle[1]))
    return 0.5 + rng.uniform(-0.5, 0.5) * ways[int(rng.integers(2))]


def page(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Lines of letters, black on white or the reverse."""
    image = Image.new("L", shape[::-1], 255)
    draw, line = ImageDraw.Draw(image), int(rng.integers(11, 24))
    for y in range(line, shape[0] - line, line):
        letters = "".join(map(chr, rng.integers(97, 123, int(rng.integers(3, max(4, shape[1] // 7))))))
        draw.text((10, y), letters, fill=0)
    written = np.asarray(image) / 255
    return 1 - written if rng.random() < 0.5 else written


def texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise with the spectrum of natural images: power falls with frequency to the power of 2 or so (Field, J Opt Soc Am A 1987;4:2379)."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / np.maximum(frequency, 1 / max(shape)) ** rng.uniform(0.7, 1.5)
    grey = np.fft.irfft2(spectrum, shape)
    return 0.5 + rng.uniform(0.05, 0.2) * (grey - grey.mean()) / grey.std()


@pytest.mark.parametrize("draw", [white, checkerboard, gradient, page, texture])
@settings(max_examples=15, deadline=None)
@given(shape=shapes, seed=seeds)
def test_what_shows_no_knee_gets_no_grade(draw, shape, seed):
    assert find_knees(film(draw(shape, np.random.default_rng(seed)))).knees == ()


@settings(deadline=None)
@given(st.floats(0.001, 0.05), seeds)
def test_white_noise_is_measured_as_large_as_it_is(strength, seed):
    even = 0.5 + np.random.default_rng(seed).normal(0, strength, (NOISE_SIDE, NOISE_SIDE))
    assert noise(even.astype(np.float32), WHOLE) == pytest.approx(strength, rel=0.05)


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_slopes_and_straight_edges_are_no_noise(across, down):
    y, x = np.mgrid[-0.5 : 0.5 : NOISE_SIDE * 1j, -0.5 : 0.5 : NOISE_SIDE * 1j]
    assert noise((0.5 + across * x + down * y).astype(np.float32), WHOLE) < 1e-4
    assert noise((x > across / 2).astype(np.float32), WHOLE) < 1e-4


def test_what_lies_beyond_the_film_has_no_noise():
    assert noise(np.ones((100, 100), np.float32), (200.0, 200.0, 300.0, 300.0)) == 0


def test_a_noisy_knee_is_warned_of_and_one_lost_in_noise_refused_unless_asked_for():
    (clean,) = find_knees(film(draw_knee(2))).knees
    assert NOISE_WARNING not in clean.warnings
    (noisy,) = find_knees(film(grainy(0.025))).knees
    assert NOISE_WARNING in noisy.warnings
    lost = film(grainy(0.07))
    assert [rejection.reason for rejection in find_knees(lost).rejections] == ["noisy"]
    (asked,) = find_knees(lost, mode="whole").knees
    assert NOISE_WARNING in asked.warnings
    assert noise_objection(MOST_NOISE) is None


def test_the_knees_of_a_noisy_film_are_warned_of_too():
    one = np.pad(draw_knee(1), ((150, 150), (80, 80)), mode="edge")
    two = np.concatenate([one, one[:, ::-1]], axis=1) * 0.9
    found = find_knees(film(two + np.random.default_rng(0).normal(0, 0.025, two.shape)))
    assert found.knees
    assert all(NOISE_WARNING in knee.warnings for knee in found.knees)


def test_real_crops_are_hardly_ever_noisy_and_become_so(shared_data: Path):
    paths = sorted((shared_data / "chen2018" / "val").rglob("*.webp"))[::20]
    rng = np.random.default_rng(0)
    for path in paths:
        pixels = read_file(path).radiographs[0].pixels
        box = (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0]))
        assert noise(pixels, box) < NOISY, path.name
        assert noise(np.clip(pixels + rng.normal(0, 0.02, pixels.shape), 0, 1).astype(np.float32), box) > NOISY, path.name
