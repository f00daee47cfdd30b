"""The search for knees on images that show more than a film: canvases, letterboxes, screenshots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kneexray.read import read_file
from kneexray.roi import find_knees
from kneexray.roi.localiser import Joint, iou
from kneexray.roi.search import content_of, look, surroundings
from kneexray.synthetic import draw_knee
from kneexray.types import Radiograph


def bilateral(side: int) -> tuple[np.ndarray, list[tuple[float, float, float, float]]]:
    """A drawn film of two knees ``side`` px wide, on black, and their boxes."""
    film = np.full((side * 2, round(side * 2.8)), 0.04, np.float32)
    boxes = []
    for number, x in enumerate((0.2, 1.5)):
        knee = draw_knee(1 + number, seed=number, size=side)
        x0, y0 = round(x * side), side // 2
        film[y0 : y0 + side, x0 : x0 + side] = knee[:, ::-1] if number else knee
        boxes.append((float(x0), float(y0), float(x0 + side), float(y0 + side)))
    return film, boxes


def placed(film: np.ndarray, *, height: int, width: int, x: int, y: int, ground: float = 0.0) -> np.ndarray:
    canvas = np.full((height, width), ground, np.float32)
    canvas[y : y + film.shape[0], x : x + film.shape[1]] = film
    return canvas


@pytest.mark.parametrize("ground", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("height", "width", "x", "y"), [(1000, 1920, 620, 260), (1920, 1920, 60, 1200), (700, 2600, 1800, 100)])
def test_small_knees_are_found_on_large_canvases_at_their_places(ground: float, height: int, width: int, x: int, y: int):
    film, boxes = bilateral(220)
    found = look(placed(film, height=height, width=width, x=x, y=y, ground=ground)).joints
    assert len(found) == 2
    for joint, (x0, y0, x1, y1) in zip(found, boxes, strict=True):
        assert iou(joint.box, (x0 + x, y0 + y, x1 + x, y1 + y)) > 0.75


def test_content_is_what_uniform_borders_leave():
    film, _ = bilateral(100)
    film = film + np.random.default_rng(0).random(film.shape, dtype=np.float32) * 0.1
    x0, y0, x1, y1 = content_of(placed(film, height=500, width=900, x=200, y=150, ground=0.3))
    assert (x0, y0, x1, y1) == pytest.approx((200, 150, 480, 350), abs=4)
    assert content_of(np.zeros((40, 60), np.float32)) == (0, 0, 60, 40)


def test_markers_are_looked_for_around_the_knees_of_a_larger_image_only():
    joint = Joint("ap", (900, 400, 1100, 600), 0.0, 0.0, 0.9)
    assert surroundings(np.zeros((1080, 1920), np.float32), [joint]) == (720, 40, 1280, 960)
    assert surroundings(np.zeros((700, 560), np.float32), [Joint("ap", (180, 200, 400, 420), 0.0, 0.0, 0.9)]) is None


def test_a_knee_that_is_seen_and_not_surely_found_is_a_refusal_of_its_own(monkeypatch: pytest.MonkeyPatch):
    from kneexray import roi
    from kneexray.roi.search import Looked

    film, boxes = bilateral(300)
    sure, seen = (Joint("ap", box, 0.0, 0.0, 0.9) for box in boxes)
    monkeypatch.setattr(roi, "look", lambda pixels: Looked((sure,), (seen,)))
    found = find_knees(Radiograph(film, "film.png"))
    assert [knee.side for knee in found.knees] == ["R"]  # by place: the other stands at its right
    assert [r.reason for r in found.rejections] == ["not_graded"]
    assert "film's right" in found.rejections[0].detail


def test_every_knee_of_the_public_films_is_told_of(shared_data: Path):
    (film,) = read_file(shared_data / "wani" / "osteoporosis" / "OS14.jpg").radiographs
    found = find_knees(film)
    assert len(found.knees) + len(found.rejections) == 2
    assert [knee.side for knee in found.knees] == ["R"]
