"""DICOM: files that break the rules, those that pydicom ships, and real ones."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from support.dicoms import BIG, DEFLATED, EXPLICIT, IMPLICIT, UID_TEXT, dicom, one, ramp, refused

from kneexray.read import Limits, read_file
from kneexray.read.dicom_frames import Frame, frames, pixel_format
from kneexray.read.dicom_header import parse


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
def test_files_without_preamble_or_meta(syntax: str) -> None:
    data = dicom(ramp(8), syntax=syntax)
    meta_length = 132 + 12 + int.from_bytes(data[140:144], "little")
    expected = one(data).pixels
    for cut, warned in ((data[132:], False), (data[128:], False), (data[meta_length:], True)):
        radiograph = one(cut)
        np.testing.assert_array_equal(radiograph.pixels, expected)
        assert bool(radiograph.warnings) == warned


def test_tiff_in_the_preamble() -> None:
    data = dicom(ramp(8))
    np.testing.assert_array_equal(one(b"II*\0" + data[4:]).pixels, one(data).pixels)


def test_wrong_transfer_syntax() -> None:
    data = dicom(ramp(8), syntax=IMPLICIT).replace(b"UI\x12\x001.2.840.10008.1.2\x00", b"UI\x14\x001.2.840.10008.1.2.1\x00")
    radiograph = one(data)
    np.testing.assert_allclose(radiograph.pixels, ramp(8) / 255, atol=1e-7)
    assert "transfer syntax" in radiograph.warnings[0]


def test_broken_values_and_character_sets_do_not_warn() -> None:
    long_uid = "1.2.826.0.1.3680043.8.498." + "7" * 60 + ".x"
    data = dicom(ramp(8), SpecificCharacterSet="ISO_IR 100", WindowCenter="128", WindowWidth="256", PixelSpacing=["0.1", "0.1"])
    data = data.replace(b"ISO_IR 100", b"iso-weird!").replace(b"0.1\\0.1 ", b"0,2\\0,2 ").replace(b"128 ", b"12x ")
    data = data.replace(
        b"\x08\x00\x18\x00UI\x0a\x00" + UID_TEXT.encode() + b"\0",
        b"\x08\x00\x18\x00UI" + struct.pack("<H", len(long_uid)) + long_uid.encode(),
    )
    radiograph = one(data)
    assert radiograph.sop_instance_uid == long_uid
    assert radiograph.pixel_spacing == (0.2, 0.2)
    assert "no number" in radiograph.warnings[0]


def test_deflated_bombs_and_stumps() -> None:
    data = dicom(np.zeros((1000, 1000), np.uint8), syntax=DEFLATED)
    assert refused(data, limits=Limits(max_bytes=100_000)).reason == "too_large"
    assert refused(data[:-60]).reason == "truncated"
    start = 144 + int.from_bytes(data[140:144], "little")
    assert len(zlib.decompress(data[start:], -15)) > 1_000_000


def _shipped() -> Iterator[Path]:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def test_every_file_that_pydicom_ships() -> None:
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        studies = {path.name: read_file(path, source=path.name) for path in _shipped()}
    assert not leaked, [str(w.message) for w in leaked]
    assert all(study.radiographs or study.rejections for study in studies.values())
    reasons = {name: study.rejections[0].reason for name, study in studies.items() if study.rejections}
    assert reasons["CT_small.dcm"] == reasons["MR_small_RLE.dcm"] == reasons["examples_palette.dcm"] == "unsupported"
    assert reasons["rtplan.dcm"] == reasons["test-SR.dcm"] == reasons["DICOMDIR"] == reasons["waveform_ecg.dcm"] == "no_pixels"
    assert len([name for name in studies if name.startswith("SC_") and name not in reasons]) == 27


@pytest.mark.parametrize(
    "name", ["JPGExtended.dcm", "JPEG2000.dcm", "693_J2KI.dcm", "MR_small_RLE.dcm", "MR_truncated.dcm", "examples_palette.dcm"]
)
def test_shipped_files_as_if_they_were_radiographs(name: str) -> None:
    data = (Path(pydicom.__file__).parent / "data" / "test_files" / name).read_bytes()
    for modality in (b"NM", b"CT", b"MR", b"US"):
        data = data.replace(b"\x08\x00\x60\x00CS\x02\x00" + modality, b"\x08\x00\x60\x00CS\x02\x00OT")
    if name == "MR_truncated.dcm":
        assert refused(data).reason == "truncated"
    else:
        assert 0.001 < one(data).pixels.mean() < 0.99


def test_shipped_stream_that_mistakes_the_sign() -> None:
    data = (Path(pydicom.__file__).parent / "data" / "test_files" / "J2K_pixelrep_mismatch.dcm").read_bytes()
    parsed = parse(data, limits=Limits())
    form, _ = pixel_format(parsed.header, limits=Limits())
    assert parsed.pixel_data is not None
    (frame,) = frames(parsed.pixel_data, form, parsed.header, transfer_syntax=parsed.transfer_syntax)
    assert isinstance(frame, Frame)
    assert (frame.values.min(), frame.values.max()) == (-2000, 1896)


def test_real_films(shared_data: Path) -> None:
    for name, view in (("knee-5.dcm", "AP"), ("knee-7.dcm", "LL")):
        data = (shared_data / "dicom" / name).read_bytes()
        radiograph = one(data)
        assert radiograph.pixels.shape == (1970, 1625)
        assert radiograph.pixel_spacing == (0.148, 0.148)
        assert radiograph.pixel_spacing_source == "PixelSpacing"
        assert radiograph.view_position == view
        assert radiograph.laterality is None  # U: unpaired
        assert radiograph.sop_instance_uid is not None
        assert radiograph.warnings == ()
        stored = np.frombuffer(data[-1970 * 1625 - 1970 * 1625 % 2 :], np.uint8)[: 1970 * 1625].reshape(1970, 1625)
        np.testing.assert_allclose(radiograph.pixels, stored / 255, atol=1e-6)  # its window is 128/256
