"""The side rule, and what header, markers and place make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from support.dicoms import dicom, one

from kneexray.geometry import box_under
from kneexray.predict import Predictor
from kneexray.read import read_bytes, read_file
from kneexray.read.views import kind_of_view
from kneexray.roi import find_knees, sides
from kneexray.roi.localiser import Joint
from kneexray.roi.markers import Marker
from kneexray.synthetic import draw_knee
from kneexray.types import Knee, Radiograph, Study


def coded(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodeMeaning, code.CodingSchemeDesignator = value, meaning, "SCT"
    return code


FILM = Radiograph(np.zeros((100, 200), np.float32), "film.png")


def joint(x: float) -> Joint:
    return Joint(box=(x - 30, 20, x + 30, 80), score=0.9, tilt=0.0, kind="ap", rightness=0.5)


def marker(x: float, letter: str) -> Marker:
    return Marker(letter, (x - 3, 2, x + 3, 8), 1.0)  # type: ignore[arg-type]


PAIR = [joint(50), joint(150)]


def film_of(pixels: np.ndarray, **attributes: object) -> bytes:
    return dicom((pixels * 4000).astype(np.uint16), bits=12, **attributes)


def test_two_knees_of_a_mirrored_film_change_sides_but_not_how_they_look():
    told = sides.sides_of(PAIR, replace(FILM, orientation="mirrored"), [])
    assert [(t.side, t.mirrored) for t in told] == [("L", False), ("R", True)]
    assert {s.source: s.used for s in told[0].sources} == {"PatientOrientation": True}


def test_orientation_and_markers_that_differ_leave_the_sides_unknown():
    reversed_letters = [marker(20, "L"), marker(180, "R")]
    told = sides.sides_of(PAIR, replace(FILM, orientation="usual"), reversed_letters)
    assert [t.side for t in told] == [None, None]
    assert sides.ORIENTATION_DISAGREES in told[0].warnings
    agreed = sides.sides_of(PAIR, replace(FILM, orientation="mirrored"), reversed_letters)
    assert [t.side for t in agreed] == ["L", "R"]


def test_a_single_knee_of_a_mirrored_film_is_mirrored_the_other_way():
    for side, hung, mirrored in (("L", "usual", True), ("L", "mirrored", False), ("R", "mirrored", True), ("R", None, False)):
        (told,) = sides.sides_of([joint(100)], replace(FILM, laterality=side, orientation=hung), [])  # type: ignore[arg-type]
        assert (told.side, told.mirrored) == (side, mirrored)


def test_lateralities_of_a_header_that_contradict_each_other_are_no_side_and_are_named():
    radiograph = one(dicom(np.arange(64).reshape(8, 8).astype(np.uint16), ImageLaterality="L", Laterality="R"))
    assert radiograph.laterality is None
    (told,) = sides.sides_of([joint(100)], replace(radiograph, pixels=FILM.pixels), [])
    assert (told.side, told.warnings) == (None, (sides.HEADER_CONTRADICTORY,))
    assert "ImageLaterality L" in told.sources[0].source


@pytest.mark.parametrize("letters", ["L\\F", "R\\F", "R\\H", "L\\H", "F\\R", "F\\L", "H\\R", "H\\L"])
def test_however_a_film_lies_its_knee_gets_the_same_answer_and_its_box_the_stored_pixels(letters: str):
    """The film is stored as its Patient Orientation says; what is read stands upright, and the box leads back to the stored pixels."""
    usual = draw_knee(3, size=160)
    row, column = letters.split("\\")
    stored = _hung(usual, row, column)
    radiograph = one(film_of(stored, PatientOrientation=letters, ImageLaterality="R"))
    expected = usual[:, ::-1] if radiograph.orientation == "mirrored" else usual
    np.testing.assert_allclose(radiograph.pixels, one(film_of(expected)).pixels, atol=1e-6)
    predictor = Predictor(heatmaps=False)
    (turned,) = predictor.predict_study(
        read_bytes(film_of(stored, PatientOrientation=letters, ImageLaterality="R"), source="a")
    ).predictions
    (upright,) = predictor.predict_study(read_bytes(film_of(usual, ImageLaterality="R"), source="b")).predictions
    np.testing.assert_allclose(turned.probabilities, upright.probabilities, atol=1e-5)


def _hung(usual: np.ndarray, row: str, column: str) -> np.ndarray:
    """Return a film that hangs as usual (rows to the left of the patient, columns to the feet) stored with other directions."""
    across, down = ("L", "R"), ("F", "H")
    if row in across:
        film = usual if row == "L" else usual[:, ::-1]
        return np.ascontiguousarray(film if column == "F" else film[::-1])
    film = usual.T  # rows now run to the feet, columns to the left
    film = film if row == "F" else film[:, ::-1]
    assert down
    return np.ascontiguousarray(film if column == "L" else film[::-1])


def test_pixels_that_are_not_square_are_stretched_and_boxes_lead_back():
    square = draw_knee(2, size=160)
    flat = np.ascontiguousarray(square[::2])
    for attributes in ({"PixelSpacing": ["0.4", "0.2"]}, {"PixelAspectRatio": ["2", "1"]}):
        radiograph = one(film_of(flat, **attributes))
        assert radiograph.pixels.shape == square.shape
        assert any("square" in warning for warning in radiograph.warnings)
        (knee,) = find_knees(radiograph, mode="whole").knees
        assert box_under(radiograph.stored, knee.box) == pytest.approx((0, 0, 160, 80))
        assert radiograph.pixel_spacing in (None, (0.2, 0.2))


@pytest.mark.parametrize(
    ("stated", "kind"),
    [
        *[(text, "lateral") for text in ("LL", "RL", "Lateral", "medio-lateral", "left lateral", "CROSS-TABLE LATERAL", "LAT")],
        *[(text, "skyline") for text in ("skyline", "SUNRISE", "Merchant view", "axial", "patello-femoral")],
        *[(text, "oblique") for text in ("LAO", "internal oblique")],
        *[(text, None) for text in ("AP", "PA", "antero-posterior", "postero-anterior", "bilateral AP standing", "", None, "AP BILATERAL")],
    ],
)
def test_kind_of_view(stated: str | None, kind: str | None):
    assert kind_of_view(stated) == kind


def test_a_film_that_its_header_calls_lateral_is_refused_by_name():
    knee = draw_knee(1, size=160)
    for attributes in ({"ViewPosition": "LL"}, {"PatientOrientation": "A\\F"}):
        (rejection,) = Predictor().predict_study(read_bytes(film_of(knee, **attributes), source="x")).rejections
        assert rejection.reason == "not_ap"
        assert "lateral" in rejection.detail or "sagittal" in rejection.detail


def test_the_json_says_who_told_the_side():
    knee = Knee(FILM, (0, 0, 10, 10), "R")
    assert knee.side_sources == ()
    (found,) = find_knees(one(film_of(draw_knee(2, size=160), Laterality="R")), mode="whole").knees
    assert [(s.source, s.said, s.used) for s in found.side_sources] == [("Laterality", "R", True)]


def test_a_table_completes_a_header_and_does_not_overrule_it():
    def told(laterality: str | None, table: str) -> tuple[str | None, str | None]:
        study = sides.with_table_side(Study("x", (replace(FILM, laterality=laterality, laterality_source=None),)), table)  # type: ignore[arg-type]
        (found,) = sides.sides_of([joint(100)], study.radiographs[0], [])
        return found.side, next(iter(found.warnings), None)

    assert told(None, "R") == ("R", None)
    assert told("B", "L") == ("L", None)
    assert told("L", "L") == ("L", None)
    assert told("L", "R") == (None, sides.TABLE_CONTRADICTS)


def test_a_crop_whose_sources_contradict_each_other_is_warned_of():
    film = one(film_of(draw_knee(2, size=160), ImageLaterality="L", Laterality="R"))
    (knee,) = find_knees(film, mode="whole").knees
    assert knee.side is None
    assert sides.HEADER_CONTRADICTORY in [str(warning) for warning in knee.warnings]


def test_two_knees_on_a_film_of_one_side_are_warned_of():
    told = sides.sides_of(PAIR, replace(FILM, laterality="R"), [])
    assert [t.side for t in told] == ["R", "L"]
    assert all(sides.ONE_NAMED in t.warnings for t in told)


def test_a_marker_names_no_lone_knee_that_has_others_beside_it_or_room_for_them():
    large = Joint(box=(60, 20, 130, 90), score=0.9, tilt=0.0, kind="ap", rightness=0.5)
    assert sides.sides_of([large], FILM, [marker(90, "R")])[0].side == "R"
    assert sides.sides_of([large], FILM, [marker(90, "R")], crowd=True)[0].side is None
    assert sides.sides_of([joint(100)], replace(FILM, pixels=np.zeros((100, 400), np.float32)), [marker(90, "R")])[0].side is None


@pytest.mark.parametrize(
    "attributes",
    [
        {"ViewPosition": "AP", "SeriesDescription": "Knee LAT left"},
        {"SeriesDescription": "Knee sunrise"},
        {"ViewPosition": "SKYLINE"},
        {"ViewCodeSequence": [coded("399173006", "left lateral")]},
        {"ViewPosition": "AP", "ViewCodeSequence": [coded("399067008", "")]},
        {"ViewCodeSequence": [coded("R-10236", "?")]},
    ],
)
def test_any_part_of_a_header_that_names_another_view_refuses_the_film(attributes: dict[str, object]):
    (rejection,) = find_knees(one(film_of(draw_knee(1, size=160), **attributes))).rejections
    assert rejection.reason == "not_ap"
    assert next(reversed(attributes)) in rejection.detail


@pytest.mark.parametrize(
    "attributes",
    [
        {"SeriesDescription": "Knee AP and lateral"},
        {"SeriesDescription": "bilateral standing"},
        {"ViewCodeSequence": [coded("399348003", "AP")]},
    ],
)
def test_frontal_films_are_graded_whatever_else_their_study_holds(attributes: dict[str, object]):
    assert find_knees(one(film_of(draw_knee(1, size=160), **attributes))).knees


def test_a_real_lateral_film_is_refused_by_its_header_and_by_its_picture(shared_data: Path):
    film = read_file(shared_data / "dicom" / "knee-7.dcm").radiographs[0]
    assert [r.reason for r in find_knees(film).rejections] == ["not_ap"]
    assert not find_knees(replace(film, view_position=None, views=())).knees
