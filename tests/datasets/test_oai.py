"""Import of the Osteoarthritis Initiative's tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneexray.cli.app import run
from kneexray.datasets import manifest, oai
from kneexray.errors import DataError
from kneexray.synthetic import draw_knee
from kneexray.train import answers

GRADES = "ID|SIDE|V00XRKL|V00XROSFM|V00XRJSM|V00XRJSL|V00XRSCFM\n9000001|1|2|1|1|0|.\n9000001|2|0||0|0|\n9000002|1|4: Severe|3|3|0|2\n"
WIDTHS = "ID|SIDE|V00CFWDTH|V00MCMJSW|V00XMJSW|V00JSW150|V00LJSW850\n9000001|1|80.0|4.0|0.12|4.4|6.0\n9000002|1||||\n"


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path, Path]:
    images = tmp_path / "images"
    for name, split in (("9000001R", "train"), ("9000001L", "train"), ("9000002R", "val"), ("9000009R", "val")):
        (images / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray((draw_knee(2, seed=1, size=80) * 255).astype(np.uint8)).save(images / split / f"{name}.png")
    grades, widths = tmp_path / "kxr_sq_bu00.txt", tmp_path / "kxr_qjsw_duryea00.txt"
    grades.write_text(GRADES)
    widths.write_text(WIDTHS)
    return grades, widths, images


def test_its_own_tables_become_a_manifest_and_lengths(tables: tuple[Path, Path, Path], tmp_path: Path):
    grades, widths, images = tables
    out = tmp_path / "out"
    assert run(["data", "prepare", str(grades), "--images", str(widths), "--images", str(images), "--out", str(out)]) == 0
    kl = manifest.load(out / manifest.NAME, task="kl")
    assert {(e.patient_id, e.side, e.label, e.split) for e in kl.examples} == {
        ("9000001", "R", "2", "train"),
        ("9000001", "L", "0", "train"),
        ("9000002", "R", "4", "val"),
    }
    osteophytes = manifest.load(out / manifest.NAME, task="osteophyte_fm")
    assert {(e.side, e.label) for e in osteophytes.examples} == {("R", "1"), ("R", "3")}  # the left knee was not read for them
    lengths = answers.lengths(str(out / oai.LENGTHS_FILE))
    assert set(lengths) == {("9000001", "R")}
    assert lengths["9000001", "R"][:2] == pytest.approx([4.0 / 80, 4.4 / 80])


def test_unread_osteophytes_of_kl_0_are_none_where_asked(tables: tuple[Path, Path, Path]):
    grades, _, images = tables
    known = oai.readings([grades])
    found = {(e.side, e.task): e.label for e in oai.join(known, images, unread_is_none=True).examples if e.patient_id == "9000001"}
    assert found["L", "osteophyte_fm"] == "0"
    assert ("L", "sclerosis_fm") not in found


def test_a_side_that_is_none_is_named(tmp_path: Path):
    table = tmp_path / "kxr_sq_bu00.txt"
    table.write_text("ID|SIDE|V00XRKL|V00XROSFM\n9000001|3|2|1\n")
    with pytest.raises(DataError, match=r"row 2: .*1 for right or 2 for left"):
        oai.readings([table])


def test_no_image_of_a_knee_in_the_table_is_an_error(tables: tuple[Path, Path, Path], tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no image is of a knee"):
        oai.import_readings([tables[0]], [empty], unread_is_none=False)
