"""The joint localiser: its geometry, what it learns from, and the model that ships."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneexray.geometry import resample
from kneexray.makers.localiser import data
from kneexray.makers.localiser.metal import with_metal
from kneexray.makers.localiser.scenes import Scene, exposed, pasted, scene, targets
from kneexray.read import read_file
from kneexray.roi.localiser import (
    FOLDER,
    KINDS,
    NETWORK,
    SIZE,
    Joint,
    around,
    decode,
    distinct,
    find_joints,
    iou,
    view,
)
from kneexray.synthetic import draw_knee

WINDOW = (0.0, 0.0, float(SIZE), float(SIZE))

places = st.floats(-500, 500)
sides = st.floats(10, 500)
boxes = st.builds(lambda x, y, side: (x, y, x + side, y + side), places, places, sides)


def crop(seed: int = 0) -> data.Film:
    """A drawn right knee as a film of its own."""
    pixels = (draw_knee(seed % 5, seed=seed) * 255).astype(np.uint8)
    return data.Film("drawn", pixels, (data.Marking((0.0, 0.0, 299.0, 299.0), "ap", "R"),))


def bilateral(side: int = 300) -> tuple[np.ndarray, list[tuple[float, float, float, float]]]:
    """A drawn film (2 side, 3 side) of a right and a left knee, and their boxes."""
    film = np.zeros((2 * side, 3 * side), np.float32)
    ramp = np.minimum(1, np.minimum(np.arange(side), np.arange(side)[::-1]) / (0.08 * side))
    found = []
    for x, flip in ((int(0.3 * side), 1), (int(1.7 * side), -1)):
        knee = draw_knee(1, size=side)[:, ::flip]
        film[:, x : x + side] = np.pad(knee, ((side // 2, 2 * side - side - side // 2), (0, 0)), mode="edge") * ramp
        found.append((float(x), side / 2, float(x + side), side * 1.5))
    return film, found


@given(boxes, boxes)
def test_overlap_is_symmetric_between_0_and_1_and_1_for_equals(a, b):
    assert iou(a, b) == pytest.approx(iou(b, a))
    assert 0 <= iou(a, b) <= 1
    assert iou(a, a) == pytest.approx(1)


def test_boxes_that_overlap_leave_the_surest():
    joints = [
        Joint("ap", (0, 0, 100, 100), 0, 0, 0.5),
        Joint("implant", (5, 5, 105, 105), 0, 0, 0.9),
        Joint("ap", (200, 0, 300, 100), 0, 0, 0.4),
    ]
    assert [joint.score for joint in distinct(joints)] == [0.9, 0.4]


def test_a_view_is_black_outside_the_film_and_the_film_inside():
    film = np.full((100, 50), 0.5, np.float32)
    seen = view(film, (-25.0, 0.0, 75.0, 100.0))[0]
    quarter = SIZE // 4
    assert (seen[:, :quarter] == 0).all()
    assert (seen[:, -quarter:] == 0).all()
    np.testing.assert_allclose(seen[:, quarter:-quarter], 0.5, atol=1e-6)
    assert not view(film, (200.0, 200.0, 300.0, 300.0)).any()


@given(
    st.lists(
        st.tuples(st.floats(30, 160), st.floats(30, 160), st.floats(20, 150), st.sampled_from(KINDS), st.sampled_from(["L", "R"])),
        max_size=1,
    ),
    st.floats(-40, 40),
)
def test_what_targets_say_decodes_to_the_joints_that_they_were_made_of(drawn, tilt):
    marked = tuple(data.Marking((x - s / 2, y - s / 2, x + s / 2, y + s / 2), kind, side) for x, y, s, kind, side in drawn)
    heat, _, told = targets(Scene(np.zeros((SIZE, SIZE), np.float32), tilt, marked, ()))
    logits = np.log((heat + 1e-4) / (1 - heat + 1e-4))
    found = decode(np.concatenate([logits, told[:5]]), WINDOW, least=0.9)
    assert len(found) == len(marked)
    for joint, mark in zip(found, marked, strict=True):
        np.testing.assert_allclose(joint.box, mark.box, atol=0.01)
        assert joint.kind == mark.kind
        assert joint.tilt == pytest.approx(tilt, abs=0.01)
        assert joint.rightness == (1 if mark.side == "R" else -1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_boxes_follow_the_film_into_a_random_view(seed):
    pixels = np.zeros((400, 300), np.uint8)
    rows, columns = np.mgrid[:400, :300]
    pixels[(rows - 210) ** 2 + (columns - 140) ** 2 < 15**2] = 255
    film = data.Film("disc", pixels, (data.Marking((70, 140, 210, 280), "ap", "R"),))
    seen = scene(film, np.random.default_rng(seed))
    for joint in seen.joints:
        weight = seen.pixels.sum()
        x, y = ((seen.pixels * grid).sum() / weight for grid in np.mgrid[:SIZE, :SIZE][::-1] + 0.5)
        middle = ((joint.box[0] + joint.box[2]) / 2, (joint.box[1] + joint.box[3]) / 2)
        if min(*middle, SIZE - middle[0], SIZE - middle[1]) > 0.12 * (joint.box[2] - joint.box[0]):  # the disc is wholly in view
            assert math.dist((x, y), middle) < 2.0


@pytest.mark.parametrize("seed", range(4))
def test_drawn_scenes_are_images_and_metal_makes_an_implant(seed):
    rng = np.random.default_rng(seed)
    film = pasted([crop(0), crop(1)], rng)
    assert 1 <= len(film.joints) <= 2
    metal = with_metal(film, rng)
    assert sum(joint.kind == "implant" for joint in metal.joints) == 1
    image = exposed(scene(metal, rng).pixels, rng)
    assert image.shape == (SIZE, SIZE)
    assert 0 <= image.min() <= image.max() <= 1


def test_groups_fall_on_one_side_of_the_split_and_the_share_is_kept():
    held = [data.held_back(f"group {i}", 0.3) for i in range(2000)]
    assert held == [data.held_back(f"group {i}", 0.3) for i in range(2000)]
    assert 0.26 < np.mean(held) < 0.34


def test_the_shipped_network_is_the_one_on_its_card():
    card = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))
    assert hashlib.sha256(NETWORK.read_bytes()).hexdigest() == card["sha256"]
    assert NETWORK.stat().st_size < 5e6
    assert card["input"]["kinds"] == list(KINDS)
    assert card["scores"]["median_iou"] >= 0.8


def test_both_knees_of_a_drawn_film_are_found_at_any_size():
    film, drawn = bilateral()
    for factor in (0.6, 1.0, 3.0):
        height, width = round(film.shape[0] * factor), round(film.shape[1] * factor)
        found = find_joints(resample(film, (0, 0, film.shape[1], film.shape[0]), size=(height, width)))
        assert [joint.kind for joint in found] == ["ap", "ap"]
        for joint, box in zip(found, drawn, strict=True):
            assert iou(tuple(edge / factor for edge in joint.box), box) > 0.7
        assert found[0].rightness > found[1].rightness


def test_a_mirrored_film_has_mirrored_joints():
    film, _ = bilateral()
    found, mirrored = find_joints(film), find_joints(np.ascontiguousarray(film[:, ::-1]))
    for joint, other in zip(found, reversed(mirrored), strict=True):
        width = film.shape[1]
        assert iou(joint.box, (width - other.box[2], other.box[1], width - other.box[0], other.box[3])) > 0.85
        assert joint.rightness * other.rightness < 0


def test_nothing_is_found_on_nothing():
    assert find_joints(np.zeros((300, 200), np.float32)) == []
    assert find_joints(np.random.default_rng(0).random((400, 300), dtype=np.float32)) == []


def test_held_back_films_are_localised(shared_data: Path):
    films = [entry for entry in data.wani(shared_data / "wani") if entry.held_back][:12]
    overlaps = []
    for entry in films:
        found = find_joints(read_file(entry.path).radiographs[0].pixels)
        overlaps += [max((iou(mark.box, joint.box) for joint in found), default=0) for mark in entry.joints if mark.kind == "ap"]
    assert np.median(overlaps) > 0.8


def test_no_copy_of_a_wani_film_spans_the_split(shared_data: Path):
    sides: dict[str, set[bool]] = {}
    for entry in data.wani(shared_data / "wani"):
        sides.setdefault(hashlib.sha256(entry.path.read_bytes()).hexdigest(), set()).add(entry.held_back)
    assert all(len(held) == 1 for held in sides.values())


def test_close_ups_are_about_the_same_middle():
    assert around((10, 20, 30, 40), 2.0) == (0, 10, 40, 50)
