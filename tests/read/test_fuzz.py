"""Whatever a file holds, reading it ends in radiographs or rejections."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from support.dicoms import DEFLATED, DX, EXACT, IMPLICIT, LOSSY, SECRET, dicom, lut, one, ramp, smooth

from kneexray.predict import Predictor
from kneexray.read import Limits, read_bytes
from kneexray.synthetic import draw_knee

_SEEDS = [
    dicom(ramp(12), bits=12, WindowCenter="2048", WindowWidth="4096", VOILUTSequence=lut(0, [0, 9, 99], 8), PixelSpacing=["0.1", "0.1"]),
    dicom(ramp(8), syntax=IMPLICIT, PixelPaddingValue=3),
    dicom(ramp(8), syntax=DEFLATED),
    *(
        dicom(smooth(bits), bits=bits, syntax=syntax, streams=[encode(smooth(bits))])
        for syntax, bits, encode in EXACT[1:3] + EXACT[6:7] + LOSSY[:1]
    ),
]


@given(
    st.sampled_from(_SEEDS),
    st.floats(0, 1),
    st.booleans(),
    st.lists(st.tuples(st.integers(128, 1000), st.integers(0, 255)), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_damage_never_raises(seed: bytes, share: float, whole: bool, edits: list[tuple[int, int]]) -> None:
    data = bytearray(seed if whole else seed[: int(len(seed) * share)])
    for position, value in edits:
        if position < len(data):
            data[position] = value
    study = read_bytes(bytes(data), source="x", limits=Limits(max_pixels=1_000_000))
    assert study.radiographs or study.rejections


@given(st.binary(max_size=400), st.sampled_from([b"", bytes(128) + b"DICM", b"\x08\x00\x05\x00CS\x0a\x00", b"\x02\x00\x00\x00UL\x04\x00"]))
@settings(max_examples=80, deadline=None)
def test_random_bytes_never_raise(tail: bytes, head: bytes) -> None:
    study = read_bytes(head + tail, source="x", limits=Limits(max_pixels=1_000_000))
    assert study.radiographs or study.rejections


def test_threads_read_alike() -> None:
    with ThreadPoolExecutor(4) as pool:
        studies = list(pool.map(lambda data: read_bytes(data, source="x"), _SEEDS * 6))
    for study, seed in zip(studies, _SEEDS * 6, strict=True):
        np.testing.assert_array_equal(study.radiographs[0].pixels, one(seed).pixels)


# --- headers that say anything ------------------------------------------------------------------------------------------------

_KNEE = np.rint(draw_knee(3, size=128) * 4095).astype(np.uint16)
_ELEMENTS: dict[str, tuple[str, bytes]] = {
    "SOPClassUID": ("UI", DX.encode() + b"\0"),
    "SOPInstanceUID": ("UI", b"1.2.3.4."),
    "Modality": ("CS", b"DX"),
    "PatientName": ("PN", SECRET.encode()),
    "Laterality": ("CS", b"R "),
    "SamplesPerPixel": ("US", struct.pack("<H", 1)),
    "PhotometricInterpretation": ("CS", b"MONOCHROME2 "),
    "PlanarConfiguration": ("US", struct.pack("<H", 0)),
    "NumberOfFrames": ("IS", b"1 "),
    "Rows": ("US", struct.pack("<H", 128)),
    "Columns": ("US", struct.pack("<H", 128)),
    "BitsAllocated": ("US", struct.pack("<H", 16)),
    "BitsStored": ("US", struct.pack("<H", 12)),
    "HighBit": ("US", struct.pack("<H", 11)),
    "PixelRepresentation": ("US", struct.pack("<H", 0)),
    "PixelSpacing": ("DS", b"0.2\\0.2 "),
    "PixelPaddingValue": ("US", struct.pack("<H", 0)),
    "WindowCenter": ("DS", b"2048"),
    "WindowWidth": ("DS", b"4096"),
    "RescaleSlope": ("DS", b"1 "),
    "RescaleIntercept": ("DS", b"0 "),
    "VOILUTSequence": ("SQ", b""),
    "PixelData": ("OW", _KNEE.tobytes()),
}
_LONG = frozenset({"OB", "OW", "OF", "SQ", "UN", "UT", "UC"})  # PS3.5 section 7.1.2: two reserved bytes, and a length of four
_odd_values = st.one_of(
    st.sampled_from([0, 1, 7, 8, 255, 4096, 32767, 65535]).map(lambda number: struct.pack("<H", number)),
    st.sampled_from(
        [
            b"",
            b"\\",
            b"NaN",
            b"-1",
            b"1e400",
            b"99999999999999999999",
            b"0.0",
            b"\xff\xff\xff",
            b"MONOCHROME1",
            b"PALETTE COLOR",
            b"YBR_FULL_422",
        ]
    ),
    st.binary(max_size=40),
)
_changes = st.lists(
    st.tuples(
        st.sampled_from(sorted(_ELEMENTS)),
        st.none() | _odd_values,  # None: the value as it is
        st.sampled_from([None, None, "US", "DS", "SQ", "UN", "OB", "PN", "??"]),
        st.sampled_from([0, 0, 0, 0, 1, -1, 2, 255, 0xFFFFFFFF]),  # what the length is wrong by
    ),
    max_size=4,
)


def odd(changes: list[tuple[str, bytes | None, str | None, int]]) -> bytes:
    """A DICOM file of 128 x 128 pixels in Explicit VR Little Endian, some elements changed: value, VR, and the length it claims."""
    made = {keyword: (vr, value, 0) for keyword, (vr, value) in _ELEMENTS.items()}
    for keyword, value, vr, wrong in changes:
        before = made[keyword]
        made[keyword] = (vr or before[0], before[1] if value is None else value, wrong)
    body = b""
    for keyword in sorted(made, key=lambda keyword: tag_for_keyword(keyword) or 0):
        vr, value, wrong = made[keyword]
        tag = tag_for_keyword(keyword) or 0
        head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
        length = len(value) + wrong
        body += head + (struct.pack("<HI", 0, length & 0xFFFFFFFF) if vr in _LONG else struct.pack("<H", length & 0xFFFF)) + value
    return bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0" + body


def test_a_value_that_swallowed_the_patients_name_is_not_told() -> None:
    study = read_bytes(odd([("SOPClassUID", None, "??", 0)]), source="x")
    assert study.rejections
    assert SECRET not in str(study)


def test_without_a_change_it_is_a_film() -> None:
    np.testing.assert_allclose(one(odd([])).pixels, _KNEE / 4095, atol=1e-6)


@given(_changes)
@settings(max_examples=300, deadline=None)
def test_odd_headers_never_raise(changes: list[tuple[str, bytes | None, str | None, int]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom, of sequences without an end
        study = read_bytes(odd(changes), source="x", limits=Limits(max_pixels=5_000_000))
    assert study.radiographs or study.rejections
    assert not any(rejection.reason == "failed" for rejection in study.rejections)
    for radiograph in study.radiographs:
        assert np.isfinite(radiograph.pixels).all()
        assert 0 <= radiograph.pixels.min() <= radiograph.pixels.max() <= 1
    if not any(keyword == "PatientName" for keyword, *_ in changes):
        assert SECRET not in str(study)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(heatmaps=False)


@given(_changes)
@settings(max_examples=25, deadline=None)
def test_odd_headers_are_answered(predictor: Predictor, changes: list[tuple[str, bytes | None, str | None, int]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = predictor.predict_study(read_bytes(odd(changes), source="x", limits=Limits(max_pixels=1_000_000)))
    assert result.predictions or result.rejections


def shipped_with_pydicom() -> Iterator[Path]:
    """The DICOM files on this disk: ``get_testdata_files`` would fetch more from the network."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".py")


@pytest.mark.slow
@pytest.mark.parametrize("modality", [None, b"OT"], ids=["as they are", "as radiographs"])
def test_every_file_that_pydicom_ships_is_answered(predictor: Predictor, modality: bytes | None) -> None:
    count = 0
    with ThreadPoolExecutor(1) as pool:
        for path in shipped_with_pydicom():
            data = path.read_bytes()
            if modality:
                data = re.sub(rb"\x08\x00\x60\x00(CS\x02\x00|\x02\x00\x00\x00)[A-Z]{2}", lambda found: found[0][:-2] + modality, data)
            answer = pool.submit(lambda data, name: predictor.predict_study(read_bytes(data, source=name)), data, path.name)
            result = answer.result(timeout=300)  # against hanging: each takes a fraction of a second
            assert result.predictions or result.rejections, path.name
            count += 1
    assert count > 70


@pytest.mark.slow
def test_the_command_takes_the_whole_folder_of_pydicom(tmp_path: Path) -> None:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    formats = "csv,json,html,dicom-sc"
    command = [sys.executable, "-m", "kneexray", "predict", str(folder), "--out", str(tmp_path / "out"), "--format", formats]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stderr
    answered = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(answered["rejections"]) > 60
    assert not any(rejection["reason"] == "failed" for rejection in answered["rejections"])
