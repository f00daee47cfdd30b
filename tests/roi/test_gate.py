"""From a film to knees and refusals: which knees are graded, as whose, and why others are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneexray.geometry import resample
from kneexray.read import find_sources, read_file
from kneexray.roi import DOUBTFUL, INVERTED, Found, find_knees
from kneexray.roi.localiser import Joint
from kneexray.roi.quality import MOST_TILT, objection
from kneexray.roi.sides import BY_PLACE, UNKNOWN
from kneexray.synthetic import draw_knee
from kneexray.types import Radiograph

SIDE = 300


def one(seed: int = 1) -> np.ndarray:
    """A drawn film (2 SIDE, 1.5 SIDE) of one right knee in the middle."""
    film = np.zeros((2 * SIDE, SIDE * 3 // 2), np.float32)
    ramp = np.minimum(1, np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1]) / (0.08 * SIDE))
    knee = np.pad(draw_knee(seed, size=SIDE), ((SIDE // 2, SIDE // 2), (0, 0)), mode="edge")
    film[:, SIDE // 4 : SIDE // 4 + SIDE] = knee * ramp
    return film


def two() -> np.ndarray:
    """A drawn film of both knees, the right one at its left."""
    return np.concatenate([one(), one()[:, ::-1]], axis=1)


def found(pixels: np.ndarray, **facts: object) -> Found:
    return find_knees(Radiograph(pixels=np.ascontiguousarray(pixels, dtype=np.float32), source="x", **facts))


def reasons(pixels: np.ndarray) -> list[str]:
    answer = found(pixels)
    assert answer.knees == ()
    return [rejection.reason for rejection in answer.rejections]


def joint(box: tuple[float, float, float, float], **facts: object) -> Joint:
    return replace(Joint("ap", box, 0.0, 0.0, 0.9), **facts)


def test_a_crop_is_taken_whole():
    (knee,) = found(draw_knee(2)).knees
    assert knee.box == (0, 0, 299, 299)


def test_a_film_of_two_knees_has_its_right_one_at_the_left():
    answer = found(two(), laterality="B")
    assert [(knee.side, knee.mirrored) for knee in answer.knees] == [("R", False), ("L", True)]
    assert all(BY_PLACE in knee.warnings for knee in answer.knees)
    assert answer.rejections == ()
    for knee, middle in zip(answer.knees, (0.25, 0.75), strict=True):
        assert (knee.box[0] + knee.box[2]) / 2 / (3 * SIDE) == pytest.approx(middle, abs=0.03)
        assert knee.box[2] - knee.box[0] == pytest.approx(knee.box[3] - knee.box[1])


def test_the_films_laterality_decides_for_one_knee():
    (knee,) = found(one(), laterality="L").knees
    assert (knee.side, knee.mirrored) == ("L", True)
    assert not {BY_PLACE, UNKNOWN} & set(knee.warnings)


def test_one_knee_on_a_film_that_states_no_side_has_none():
    (knee,) = found(one()).knees
    assert (knee.side, knee.mirrored) == (None, False)
    assert UNKNOWN in knee.warnings


def test_an_inverted_film_is_turned_back_for_all_its_knees():
    answer = found(1 - two())
    assert len(answer.knees) == 2
    assert all(INVERTED in knee.warnings for knee in answer.knees)
    np.testing.assert_allclose(answer.knees[0].radiograph.pixels, two(), atol=1e-6)
    assert answer.knees[0].radiograph is answer.knees[1].radiograph


def test_a_film_may_hold_a_knee_to_grade_and_one_with_an_implant():
    film = two()
    x, line = SIDE * 3 // 2 + SIDE // 4, SIDE // 2 + round(0.59 * SIDE)
    film[line - 90 : line - 6, x + 30 : x + 270] = 1.0
    film[line - 30 : line - 6, x + 130 : x + 170] = 0.4
    film[line + 6 : line + 22, x + 30 : x + 270] = 1.0
    film[line + 22 : line + 100, x + 135 : x + 165] = 1.0
    answer = found(film)
    assert [knee.side for knee in answer.knees] == ["R"]
    assert [rejection.reason for rejection in answer.rejections] == ["implant"]
    assert "at the film's right" in answer.rejections[0].detail


def test_films_that_lie_wrong_are_told_how_to_turn():
    for quarters, remedy in ((1, "90 degrees clockwise"), (2, "180 degrees"), (3, "90 degrees counter-clockwise")):
        answer = found(np.rot90(one(), quarters))
        assert [r.reason for r in answer.rejections] == ["rotated"]
        assert remedy in answer.rejections[0].detail


def test_a_tilted_leg_is_refused_and_a_leaning_one_is_not():
    def tilted(degrees: float) -> np.ndarray:
        film = np.pad(one(), ((0, 0), (SIDE // 4, SIDE // 4)))
        return np.asarray(Image.fromarray(film).rotate(-degrees, Image.Resampling.BILINEAR))

    assert len(found(tilted(8)).knees) == 1
    assert reasons(tilted(38)) == ["rotated"]


def test_rules_name_what_is_wrong_with_a_joint():
    even = np.random.default_rng(0).uniform(0.3, 0.7, (400, 400)).astype(np.float32)
    box = (50.0, 50.0, 350.0, 350.0)
    assert objection(even, joint(box)) is None

    def reason(pixels: np.ndarray, **facts: object) -> str:
        answer = objection(pixels, replace(joint(box), **facts))
        assert answer is not None
        return answer[0]

    assert reason(even, kind="implant") == "implant"
    assert reason(even, kind="lateral") == "not_ap"
    assert reason(even, box=(0.0, 0.0, 60.0, 60.0)) == "too_small"
    assert reason(even, tilt=MOST_TILT + 1) == reason(even, tilt=-MOST_TILT - 1) == "rotated"
    assert reason(even, box=(50.0, 220.0, 350.0, 520.0)) == "cut_off"
    assert reason(np.where(even > 0.5, 1, even)) == reason(np.where(even > 0.5, 0, even)) == "clipped"
    assert reason(0.5 + even / 100) == "too_dark"


def test_small_blank_and_strange_images_are_refused():
    rng = np.random.default_rng(0)
    assert reasons(np.full((300, 300), 0.5)) == ["blank"]
    assert reasons(rng.random((300, 200))) == ["not_a_knee"]
    assert reasons(draw_knee(2, size=60)) == ["too_small"]
    film = one()
    assert reasons(resample(film, (0, 0, film.shape[1], film.shape[0]), size=(160, 120))) == ["too_small"]


def photographs() -> list[Image.Image]:
    """Return the drawn film as a phone would save it: with the camera's facts, and in the colours of a light box."""
    grey = Image.fromarray((one() * 255).round().astype(np.uint8))
    phone, tinted = grey.copy(), Image.merge("RGB", [grey.point(lambda v: v // 2), grey, grey])
    facts = Image.Exif()
    facts.get_ifd(0x8769)[0x829A] = 0.02  # exposure time
    phone.info["exif"] = facts.tobytes()
    return [phone, tinted]


@pytest.mark.parametrize("number", [0, 1])
def test_a_photograph_of_a_film_is_refused_unless_asked_for(number: int, tmp_path: Path):
    picture, path = photographs()[number], tmp_path / "photo.jpg"
    picture.save(path, exif=picture.info.get("exif", b""))
    (radiograph,) = read_file(path).radiographs
    assert radiograph.photograph
    assert [r.reason for r in find_knees(radiograph).rejections] == ["photograph"]
    assert len(find_knees(radiograph, mode="whole").knees) == 1


def test_a_marked_radiograph_is_no_photograph(tmp_path: Path):
    marked = Image.fromarray((one() * 255).round().astype(np.uint8)).convert("RGB")
    marked.paste((255, 0, 0), (10, 10, 60, 60))
    marked.save(tmp_path / "marked.png")
    (radiograph,) = read_file(tmp_path / "marked.png").radiographs
    assert not radiograph.photograph


def in_colours(size: tuple[int, int], tone: float, *, uneven: float = 0.0) -> Image.Image:
    """Return the drawn film at ``size`` (width, height) in a faint blue tone, by ``uneven`` levels another at its sides."""
    grey = np.asarray(Image.fromarray((one() * 200 + 20).astype(np.uint8)).resize(size), np.float32)
    blue = tone + np.linspace(-uneven, uneven, size[0]) * (grey > 0)
    return Image.fromarray(np.stack([grey - blue, grey, grey + blue], axis=-1).round().astype(np.uint8))


@pytest.mark.parametrize(
    ("size", "tone", "uneven", "expected"),
    [
        ((1200, 900), 0, 0, False),
        ((1200, 900), 3, 0, True),  # tinged all over, and as a camera frames
        ((960, 1280), 3, 0, True),
        ((400, 300), 3, 0, False),  # too small for a camera's picture
        ((1100, 900), 3, 0, False),  # a film scanned in one tone
        ((1100, 900), 3, 6, True),  # as lamps and glare would light it
    ],
)
def test_a_faint_tinge_is_a_photographs_where_it_is_uneven_or_framed_by_a_camera(size, tone, uneven, expected, tmp_path: Path):
    in_colours(size, tone, uneven=uneven).save(tmp_path / "film.png")
    (radiograph,) = read_file(tmp_path / "film.png").radiographs
    assert radiograph.photograph is expected


def test_real_films_are_no_photographs(shared_data: Path):
    films = [*sorted((shared_data / "wani").rglob("*.jp*g"))[::10], *sorted((shared_data / "mixed-knee-films").glob("*.*g"))]
    assert len(films) > 20
    assert [film.name for film in films for r in read_file(film).radiographs if r.photograph] == []


def test_whole_takes_the_callers_word():
    film = Radiograph(pixels=one(), source="x")
    (knee,) = find_knees(film, mode="whole").knees
    assert DOUBTFUL in knee.warnings


def test_three_knees_are_several_exposures():
    assert reasons(np.concatenate([two(), one()], axis=1)) == ["several_views"]


def test_real_films_that_show_no_knee_are_refused(shared_data: Path):
    for kind in ("bone-fracture", "chest-nih", "spine-dxa"):
        paths = sorted((shared_data / "not-knees" / kind).iterdir())[:8]
        for source in find_sources(paths):
            assert find_knees(source.read().radiographs[0]).knees == (), source.name
