"""Side markers: what is read on a film, and whose knees that makes the knees on it."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw, ImageFont

from kneexray.inference.bundle import sha256_of
from kneexray.read import read_file
from kneexray.roi import find_knees
from kneexray.roi.blobs import blobs
from kneexray.roi.localiser import Joint
from kneexray.roi.markers import NETWORK, Marker, find_markers
from kneexray.roi.sides import BY_MARKER, BY_PLACE, CONTRADICTORY, DISAGREES, MIRRORED, REVERSED, UNKNOWN, sides_of
from kneexray.synthetic import draw_knee
from kneexray.types import Radiograph

FONT = Path(str(resources.files("kneexray"))) / "writers" / "fonts" / "Roboto-Bold.ttf"
WIDTH = 900


def film(*letters: tuple[str, float], plate: bool = False, turn: float = 0, behind: bool = False) -> np.ndarray:
    """A drawn film (600, WIDTH) of both knees, with letters 42 px high at shares of its width, near its upper edge."""
    knee = draw_knee(1, seed=1, size=300)
    pixels = np.full((600, WIDTH), 0.05, np.float32)
    pixels[200:500, 100:400], pixels[200:500, 500:800] = knee, knee[:, ::-1]
    canvas = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    for text, share in letters:
        mask = Image.new("L", (40 * len(text) + 60, 90))
        ImageDraw.Draw(mask).text((mask.width // 2, 66), text, fill=255, font=ImageFont.truetype(FONT, 58), anchor="ms")
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if behind else mask
        tile = Image.new("L", mask.size, 210 if plate else 13)
        tile.paste(60 if plate else 235, (0, 0), mask)
        if plate:
            tile = tile.crop((mask.width // 2 - 26, 14, mask.width // 2 + 26, 78))
        tile = tile.rotate(turn, Image.Resampling.BILINEAR, fillcolor=210 if plate else 13)
        canvas.paste(tile, (round(share * WIDTH) - tile.width // 2, 30))
    return np.asarray(canvas, np.float32) / 255


def read(pixels: np.ndarray) -> list[tuple[str, float]]:
    return [(marker.letter, round(marker.x / WIDTH, 1)) for marker in find_markers(np.ascontiguousarray(pixels, dtype=np.float32))]


def marker(letter: str, x: float) -> Marker:
    return Marker(letter, (x - 15, 20, x + 15, 60), 1.0)


def joint(left: float, right: float) -> Joint:
    return Joint("ap", (left, 200, right, 200 + right - left), 0.0, 0.0, 0.9)


def told(*letters: tuple[str, float], knees: int = 2, laterality: str | None = None) -> list[tuple[str | None, tuple[str, ...]]]:
    """The sides of knees on a film 1000 px wide that bears letters there."""
    joints = [joint(150, 350), joint(650, 850)] if knees == 2 else [joint(350, 650)]
    radiograph = Radiograph(np.zeros((800, 1000), np.float32), source="x", laterality=laterality)
    return [(one.side, one.warnings) for one in sides_of(joints, radiograph, [marker(*letter) for letter in letters])]


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_blobs_are_the_connected_parts(mask: np.ndarray):
    ndimage = pytest.importorskip("scipy.ndimage")
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    expected = [
        (x.start, y.start, x.stop, y.stop, int((labels[y, x] == i + 1).sum())) for i, (y, x) in enumerate(ndimage.find_objects(labels))
    ]
    found = blobs(mask)
    assert len(found.areas) == count
    assert sorted((*box, area) for box, area in zip(found.boxes.tolist(), found.areas.tolist(), strict=True)) == sorted(expected)


@pytest.mark.parametrize("turn", [0, -8, 8])
@pytest.mark.parametrize("plate", [False, True])
def test_letters_are_read_on_the_film_and_on_its_inverse(plate: bool, turn: float):
    pixels = film(("R", 0.1), ("L", 0.9), plate=plate, turn=turn)
    assert read(pixels) == read(1 - pixels) == [("R", 0.1), ("L", 0.9)]


def test_small_letters_on_a_large_film_are_read():
    small = film(("L", 0.9))
    large = np.full((1800, 2250), 0.05, np.float32)
    reduced = Image.fromarray(small[30:130]).resize((round(WIDTH * 0.45), 45), Image.Resampling.BILINEAR)
    large[100:145, 200 : 200 + reduced.width] = np.asarray(reduced)
    assert [marker.letter for marker in find_markers(large)] == ["L"]


def test_the_small_plate_of_a_real_film_is_read(shared_data: Path):
    (radiograph,) = read_file(shared_data / "dicom" / "knee-5.dcm").radiographs
    assert [marker.letter for marker in find_markers(radiograph.pixels)] == ["L"]


def test_a_letter_seen_from_behind_is_called_mirrored():
    assert read(film(("R", 0.1), behind=True)) == [("mirrored", 0.1)]


@pytest.mark.parametrize("text", ["B", "K", "8", "T", "E", "PORTABLE", "UPRIGHT", "LATERAL", "ERECT"])
def test_other_letters_and_words_are_no_marker(text: str):
    assert read(film((text, 0.5))) == []


def test_a_film_without_a_letter_has_none():
    assert read(film()) == []
    assert read(np.zeros((300, WIDTH))) == []


def test_two_knees_lie_as_their_markers_say():
    by_marker = [("R", (BY_MARKER,)), ("L", (BY_MARKER,))]
    assert told(("R", 60)) == told(("L", 960)) == told(("R", 60), ("L", 960)) == by_marker
    assert told(("R", 60), ("L", 420)) == by_marker  # both beside the knee at the left: their order tells
    assert told(("L", 60)) == told(("L", 60), ("R", 960)) == [("L", (BY_MARKER, REVERSED)), ("R", (BY_MARKER, REVERSED))]


def test_two_knees_lie_as_usual_where_no_marker_tells():
    assert told() == told(("R", 520)) == [("R", (BY_PLACE,)), ("L", (BY_PLACE,))]


def test_contradictory_or_mirrored_markers_tell_nothing():
    assert told(("R", 60), ("R", 960)) == told(("R", 60), ("L", 500), ("R", 960)) == [(None, (CONTRADICTORY,))] * 2
    assert told(("mirrored", 60)) == [(None, (UNKNOWN, MIRRORED))] * 2
    assert told(("R", 60), ("L", 960), knees=1) == [(None, (CONTRADICTORY,))]
    assert told(("mirrored", 60), knees=1) == [(None, (UNKNOWN, MIRRORED))]


def test_one_knee_has_the_side_of_its_marker_unless_the_film_states_it():
    assert told(("R", 60), knees=1) == [("R", (BY_MARKER,))]
    assert told(("R", 60), knees=1, laterality="R") == [("R", ())]
    assert told(("R", 60), knees=1, laterality="L") == [(None, (DISAGREES,))]
    assert told(("mirrored", 60), knees=1, laterality="L") == [("L", (MIRRORED,))]
    assert told(knees=1) == [(None, (UNKNOWN,))]


def test_a_marker_does_not_name_a_lone_knee_at_the_films_side():
    radiograph = Radiograph(np.zeros((800, 1000), np.float32), source="x")
    (found,) = sides_of([joint(650, 850)], radiograph, [marker("R", 60)])
    assert (found.side, found.warnings) == (None, (UNKNOWN,))


def test_what_lies_in_the_joint_is_no_marker():
    radiograph = Radiograph(np.zeros((800, 1000), np.float32), source="x")
    inside = Marker("R", (490, 300, 510, 330), 1.0)
    (found,) = sides_of([joint(400, 600)], radiograph, [inside])
    assert (found.side, found.warnings) == (None, (UNKNOWN,))


def test_a_drawn_film_hung_the_other_way_has_its_sides_changed():
    answer = find_knees(Radiograph(film(("L", 0.06)), source="x"))
    assert [(knee.side, knee.mirrored) for knee in answer.knees] == [("L", False), ("R", True)]  # medial faces medial
    assert all({BY_MARKER, REVERSED} <= set(knee.warnings) for knee in answer.knees)


def test_the_card_is_of_the_network():
    card = json.loads(NETWORK.with_name("card.json").read_text(encoding="utf-8"))
    assert card["sha256"] == sha256_of(NETWORK)
    assert NETWORK.stat().st_size < 500_000


@pytest.mark.parametrize(
    ("name", "sides"), [("normal/N18.jpg", "L"), ("osteopenia/OP58.jpg", "L"), ("osteopenia/OP54.jpg", "RL"), ("osteopenia/OP14.jpg", "RL")]
)
def test_markers_of_real_films_name_their_knees(shared_data: Path, name: str, sides: str):
    (radiograph,) = read_file(shared_data / "wani" / name).radiographs
    answer = find_knees(radiograph)
    assert [knee.side for knee in answer.knees] == list(sides)
    assert all(BY_MARKER in knee.warnings for knee in answer.knees)


def test_the_letters_that_people_saw_lie_on_films(shared_data: Path):
    data = pytest.importorskip("kneexray.makers.side_marker.data")
    entries = data.films(shared_data)
    assert sum(len(entry.marks) for entry in entries) == len(data.BOXES.read_text(encoding="utf-8").splitlines()) - 1
    assert {mark.letter for entry in entries for mark in entry.marks} == {"R", "L", "mirrored", "?"}
