"""The width of the joint space: its geometry on drawn bands, the network that ships, and what reports show of it."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kneexray.geometry import CONDYLES, JOINT_LINE
from kneexray.measure.joint_space import FOLDER, HEIGHT, IMPLAUSIBLE, NETWORK, WIDTH, joint_space, measure, window
from kneexray.read import read_file
from kneexray.render.film import draw_joint, joint_lines
from kneexray.roi import find_knees, whole_knee
from kneexray.tasks import MEASUREMENTS
from kneexray.types import Change, FilmResult, Knee, Measurement, Prediction, Radiograph
from kneexray.writers import FolderWriter

PIXEL = (1.0, 1.0)


def band(left: float, right: float, *, slope: float = 0.0, first: int = 14, last: int = 210) -> np.ndarray:
    """A band whose vertical height runs from ``left`` to ``right`` pixels, its middle line tilted by ``slope``: (HEIGHT, WIDTH)."""
    rows = np.arange(HEIGHT)[:, None]
    x = np.arange(WIDTH)
    half = np.linspace(left, right, WIDTH) / 2
    middle = HEIGHT / 2 + slope * (x - WIDTH / 2)
    shares = np.minimum(rows + 1, middle + half) - np.maximum(rows, middle - half)  # of each pixel
    shares = np.clip(shares, 0, 1)
    shares[:, (x < first) | (x > last)] = 0
    return shares.astype(np.float32)


@pytest.fixture(scope="module")
def real_knee(shared_data: Path) -> Knee:
    """A left knee of the public crops with its medial compartment narrowed."""
    path = shared_data / "joint-space-masks" / "Train_X" / "9975485L.png"
    return whole_knee(read_file(path).radiographs[0], side="L")


@given(st.floats(3, 14), st.floats(-0.25, 0.25))
def test_width_of_an_even_band_is_its_height_across_its_tilt(height, slope):
    space = joint_space(band(height, height, slope=slope), pixel=PIXEL)
    assert space is not None
    for width in (space.left, space.right):
        assert width.value == pytest.approx(height * math.cos(math.atan(slope)), rel=0.02)
        x0, y0, x1, y1 = width.line
        assert math.hypot(x1 - x0, y1 - y0) == pytest.approx(width.value, rel=1e-6)
        assert (x1 - x0) * 1 + (y1 - y0) * slope == pytest.approx(0, abs=0.05 * height)  # across the middle line


def test_each_compartment_has_its_own_minimum():
    space = joint_space(band(4, 12), pixel=PIXEL)
    assert space is not None
    for width, share in ((space.left, 0.15), (space.right, 0.70)):
        x = WIDTH * (0.5 - CONDYLES / 2 + CONDYLES * share)
        assert width.value == pytest.approx(np.interp(x, [0, WIDTH - 1], [4, 12]), abs=0.1)


@given(st.floats(0.05, 0.3), st.floats(0.05, 0.3))
def test_pixels_that_are_not_square(down, across):
    flat = joint_space(band(8, 8), pixel=(down, across))
    tilted = joint_space(band(8, 8, slope=0.2), pixel=(down, across))
    assert flat is not None
    assert tilted is not None
    assert flat.left.value == pytest.approx(8 * down)
    assert tilted.left.value == pytest.approx(8 * down * math.cos(math.atan(0.2 * down / across)), rel=0.02)


@pytest.mark.parametrize(
    "shares",
    [
        np.zeros((HEIGHT, WIDTH), np.float32),
        np.full((HEIGHT, WIDTH), 0.5, np.float32),
        band(8, 8, first=80, last=150),
        band(8, 8) * (np.arange(WIDTH) % 50 > 25),
        band(8, 8) * np.float32(0.6),
    ],
    ids=["nothing", "grey", "too short", "with gaps", "unsure"],
)
def test_what_is_no_joint_space_is_not_measured(shares):
    assert joint_space(shares.astype(np.float32), pixel=PIXEL) is None


def leaving(at: float, *, rise: float, length: int = 8) -> np.ndarray:
    """A band that turns up (``rise`` < 0) or down at column ``at`` by ``rise`` pixels within ``length`` columns: (HEIGHT, WIDTH)."""
    rows, x = np.arange(HEIGHT)[:, None], np.arange(WIDTH)
    outward = np.clip((at - x if at < WIDTH / 2 else x - at) / length, 0, 1)
    middle = HEIGHT / 2 + rise * outward
    shares = np.clip(np.minimum(rows + 1, middle + 4) - np.maximum(rows, middle - 4), 0, 1)
    shares[:, (x < 10) | (x > 214)] = 0
    return shares.astype(np.float32)


@pytest.mark.parametrize("at", [24, 40, 190, 204])
@pytest.mark.parametrize("rise", [-40.0, -18.0, 18.0, 40.0])
def test_a_line_that_leaves_the_joint_is_refused(at, rise):
    """As down the fibula, or up the outer side of a condyle."""
    assert joint_space(leaving(at, rise=rise), pixel=PIXEL) is None
    assert joint_space(leaving(at, rise=rise / 10), pixel=PIXEL) is not None


def test_a_spike_in_a_compartment_is_refused():
    shares = band(8, 8)
    shares[:, 182:188] = np.roll(shares[:, 182:188], 20, axis=0)
    assert joint_space(shares, pixel=PIXEL) is None


def test_a_band_cut_by_the_view_is_refused():
    shares = np.zeros((HEIGHT, WIDTH), np.float32)
    shares[HEIGHT // 2 - 2 :] = band(8, 8)[: HEIGHT // 2 + 2]
    assert joint_space(shares, pixel=PIXEL) is None


def test_a_steep_joint_is_refused():
    assert joint_space(band(8, 8, slope=0.4), pixel=PIXEL) is None


def test_a_joint_that_ends_where_bone_lies_on_bone_is_measured():
    space = joint_space(band(8, 8, first=14, last=140), pixel=PIXEL)
    assert space is not None
    assert space.right.value == pytest.approx(0)


@pytest.mark.parametrize("name", ["wani/normal/N10.jpg", "mixed-knee-films/stage_1-0.jpg"])
def test_films_whose_line_left_the_joint(shared_data: Path, name: str):
    knees = measure(find_knees(read_file(shared_data / name).radiographs[0]).knees)
    assert len(knees) == 2
    for knee in knees:
        assert IMPLAUSIBLE in knee.warnings
        assert knee.measurements == ()


def test_bone_on_bone_is_zero():
    shares = band(6, 6)
    shares[:, 60:70] = 0
    space = joint_space(shares, pixel=PIXEL)
    assert space is not None
    assert space.left.value == pytest.approx(0)
    assert space.right.value == pytest.approx(6)


def test_window_is_about_the_joint_line():
    x0, y0, x1, y1 = window((10, 20, 210, 220))
    assert (x0, x1) == (10, 210)
    assert (y0 + y1) / 2 == pytest.approx(20 + JOINT_LINE * 200)
    assert (y1 - y0) / (x1 - x0) == pytest.approx(HEIGHT / WIDTH)


def test_card_is_of_the_network():
    card = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))
    assert card["sha256"] == hashlib.sha256(NETWORK.read_bytes()).hexdigest()
    assert NETWORK.stat().st_size < 2_000_000
    assert card["input"] == {"width": WIDTH, "height": HEIGHT, "joint_line": JOINT_LINE}
    assert card["scores"]["dice"]["low"] > 0.8
    assert card["command"].startswith("python -m kneexray.")


def test_noise_is_of_the_network():
    record = json.loads((FOLDER / "repeatability.json").read_text(encoding="utf-8"))
    assert record["sha256"] == hashlib.sha256(NETWORK.read_bytes()).hexdigest()
    assert record["command"].startswith("python -m kneexray.evaluation.repeatability ")


def test_a_narrowed_medial_compartment(real_knee: Knee):
    (knee,) = measure([real_knee])
    widths = {m.name: m for m in knee.measurements}
    assert set(widths) == {"jsw_medial", "jsw_lateral"}
    assert widths["jsw_medial"].value < 0.6 * widths["jsw_lateral"].value
    assert {m.unit for m in knee.measurements} == {"1"}
    medial, lateral = widths["jsw_medial"].line, widths["jsw_lateral"].line
    assert medial is not None
    assert lateral is not None
    assert medial[0] < 112 < lateral[0]  # a left knee's medial side lies at its film's left
    for length in knee.measurements:
        x0, y0, x1, y1 = length.line or (0, 0, 0, 0)
        assert math.hypot(x1 - x0, y1 - y0) == pytest.approx(CONDYLES * 224 * length.value, rel=1e-3)


def test_mirroring_a_film_and_its_side_changes_nothing(real_knee: Knee):
    film = replace(real_knee.radiograph, pixels=np.ascontiguousarray(real_knee.radiograph.pixels[:, ::-1]))
    (left,) = measure([real_knee])
    (right,) = measure([replace(real_knee, radiograph=film, side="R", mirrored=False)])
    assert [m.name for m in left.measurements] == [m.name for m in right.measurements]
    assert [m.value for m in left.measurements] == pytest.approx([m.value for m in right.measurements], abs=1e-6)


def test_mm_where_the_spacing_is_known(real_knee: Knee):
    (shares,) = measure([real_knee])
    film = replace(real_knee.radiograph, pixel_spacing=(0.5, 0.5), pixel_spacing_source="ImagerPixelSpacing")
    (lengths,) = measure([replace(real_knee, radiograph=film)])
    for share, length in zip(shares.measurements, lengths.measurements, strict=True):
        assert length.unit == "mm"
        assert length.value == pytest.approx(share.value * CONDYLES * 224 * 0.5, rel=1e-5)


def test_no_claim_of_medial_without_a_side(real_knee: Knee):
    (knee,) = measure([replace(real_knee, side=None, mirrored=False)])
    assert {m.name for m in knee.measurements} == {"jsw_film_left", "jsw_film_right"}
    by_name = {m.name: m.value for m in knee.measurements}
    assert by_name["jsw_film_left"] < by_name["jsw_film_right"]
    assert set(by_name) <= set(MEASUREMENTS)


def test_what_shows_no_knee_gets_a_warning():
    noise = np.random.default_rng(0).random((200, 200), dtype=np.float32)
    (knee,) = measure([Knee(Radiograph(noise, "x.png"), (0, 0, 200, 200), side="R")])
    assert knee.measurements == ()
    assert knee.joint_space is None
    assert knee.warnings == (IMPLAUSIBLE,)
    assert measure([]) == []


def answered(knee: Knee) -> FilmResult:
    probabilities = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    change = Change(days=430, before=1.1, now=2.0, noise=0.4)
    earlier = np.array([0.3, 0.4, 0.2, 0.1, 0.0])
    prediction = Prediction("kl", ("0", "1", "2", "3", "4"), probabilities, 2, (1, 2), 0.9, knee, "model", change=change, earlier=earlier)
    return FilmResult(knee.radiograph.source, (prediction,))


def drawn_knee() -> Knee:
    """A knee with a joint space that is 4 mm medially, 0.8 less than 430 days before."""
    pixels = np.linspace(0, 1, 400 * 400, dtype=np.float32).reshape(400, 400)
    x = np.linspace(60, 340, 50)
    margins = np.stack([x, np.full(50, 230.0), np.full(50, 242.0)], axis=1).astype(np.float32)
    lengths = (
        Measurement("jsw_medial", 4.0, "mm", (280, 230, 280, 242), Change(days=430, before=4.8, now=4.0, noise=0.9)),
        Measurement("jsw_lateral", 6.0, "mm", (120, 230, 120, 242)),
    )
    film = Radiograph(pixels, "knee.png", pixel_spacing=(0.3, 0.3), pixel_spacing_source="ImagerPixelSpacing")
    return Knee(film, (0, 0, 400, 400), side="R", measurements=lengths, joint_space=margins)


def test_json_and_csv_hold_lengths_and_changes(tmp_path: Path):
    with FolderWriter(tmp_path, formats=("json", "csv")) as writer:
        writer.add(answered(drawn_knee()))
    (record,) = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))["predictions"]
    medial, lateral = record["knee"]["measurements"]
    assert medial == {
        "name": "jsw_medial",
        "value": 4.0,
        "unit": "mm",
        "line": [280, 230, 280, 242],
        "change": {"days": 430, "before": 4.8, "now": 4.0, "noise": 0.9, "exceeds_noise": False},
    }
    assert lateral["change"] is None
    assert record["knee"]["pixel_spacing_source"] == "ImagerPixelSpacing"
    assert record["change"] == {
        **{"days": 430, "before": 1.1, "now": 2.0, "noise": 0.4, "exceeds_noise": True},
        "probabilities_before": [0.3, 0.4, 0.2, 0.1, 0.0],
    }
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["jsw_medial"], row["jsw_lateral"], row["jsw_film_left"], row["length_unit"]) == ("4.0", "6.0", "", "mm")
    assert (row["days"], row["jsw_medial_before"], row["jsw_medial_exceeds_noise"]) == ("430", "4.8", "False")
    assert (row["expected_grade"], row["expected_grade_before"], row["expected_grade_exceeds_noise"]) == ("2.0", "1.1", "True")


def test_page_shows_lengths_changes_and_the_joint_space(tmp_path: Path):
    with FolderWriter(tmp_path, formats=("html",)) as writer:
        writer.add(answered(drawn_knee()))
        writer.add(answered(Knee(drawn_knee().radiograph, (0, 0, 400, 400))))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert page.count("<polyline") == 4
    for text in (
        "4.0 mm",
        "4.8 mm",
        "14 months earlier",
        "-0.8 mm, within noise (0.9 mm)",
        "+0.90, beyond noise (0.40)",
        "was 40 %",
    ):
        assert text in page
    assert "ImagerPixelSpacing" in page


def test_lines_lie_on_the_picture_of_the_box():
    knee = replace(drawn_knee(), box=(100, 150, 300, 350))
    femur, tibia, medial, _ = joint_lines(knee, size=100)
    assert femur[0].tolist() == pytest.approx([-20, 40])
    assert tibia[-1].tolist() == pytest.approx([120, 46])
    assert medial.tolist() == [[90, 40], [90, 46]]
    picture = Image.new("RGB", (100, 100))
    draw_joint(picture, knee, size=100)
    rows, _ = np.nonzero(np.asarray(picture).any(axis=2))
    assert (rows.min(), rows.max()) == (40, 46)
    assert joint_lines(Knee(knee.radiograph, knee.box), size=100) == []
