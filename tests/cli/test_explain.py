"""``kneexray explain`` on drawn knees, with the model that ships."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneexray.cli.app import DONE, FAILED, WRONG_USE, run
from kneexray.synthetic import draw_knee


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "9000001R.png"
    Image.fromarray((draw_knee(3, size=200) * 255).astype(np.uint8)).save(path)
    return path


def test_a_bundle_explains_its_answer(film: Path, tmp_path: Path):
    assert run(["explain", str(film), "--out", str(tmp_path / "out")]) == DONE
    record = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (explained,) = record["outputs"]["explanations"]
    assert (explained["label"], explained["explained"], explained["method"]) == ("3", "3", "cam")
    assert explained["window"] == pytest.approx([8, 12, 192, 196])
    assert len(explained["files"]) == 4
    overlay, panel, raw, png = (tmp_path / "out" / name for name in explained["files"])
    with Image.open(overlay) as picture:
        assert (picture.size, picture.mode) == ((448, 448), "RGB")
    with Image.open(panel) as picture:
        assert picture.width > 2 * 448
    cam = np.load(raw, allow_pickle=False)
    assert cam.ndim == 2
    assert cam.dtype == np.float32
    with Image.open(png) as picture:
        values = np.asarray(picture)
        assert picture.mode == "I;16"
    assert values.shape == (200, 200)
    assert values.max() > 60_000
    assert not values[:8].any()
    places = np.unravel_index(cam.argmax(), cam.shape), np.unravel_index(values.argmax(), values.shape)
    np.testing.assert_allclose((np.array(places[0]) + 0.5) / cam.shape * 184 + [12, 8], places[1], atol=12)


def test_another_grade_has_another_map(film: Path, tmp_path: Path):
    for label in ("0", "KL4"):
        assert run(["explain", str(film), "--out", str(tmp_path), "--class", label]) == DONE
    maps = [np.load(path) for path in sorted(tmp_path.glob("*-map.npy"))]
    assert len(maps) == 2
    assert not np.allclose(*maps)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--class", "5"], WRONG_USE, "Known: 0, 1, 2, 3, 4"),
        (["--method", "grad-cam"], WRONG_USE, "--checkpoint RUN"),
        (["--model", "a", "--checkpoint", "b"], WRONG_USE, "give one of them"),
        (["--model", "absent"], FAILED, "no model bundle"),
        (["--roi", "some"], WRONG_USE, "auto, whole"),
    ],
)
def test_wrong_use_is_told(options: list[str], code: int, said: str, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["explain", str(film), "--out", str(tmp_path), *options]) == code
    assert said in capsys.readouterr().err


def test_what_is_no_knee_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)).save(noise)
    assert run(["explain", str(noise), "--out", str(tmp_path / "out")]) == DONE
    assert "noise.png: not_a_knee" in capsys.readouterr().err
    assert run(["explain", str(tmp_path / "absent.png"), "--out", str(tmp_path / "out")]) == FAILED
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]
