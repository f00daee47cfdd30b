"""DICOM: frames, geometry, side and view, and which kinds of objects are refused."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import pytest
from support.dicoms import JPEG_LS, SECRET, UID_TEXT, dicom, films, item, one, ramp, refused

from kneexray.read import Limits, read_bytes


def test_frames() -> None:
    values = np.stack([ramp(8), ramp(8) // 2, ramp(8) // 4])
    for data in (
        dicom(values, NumberOfFrames=3),
        dicom(values, NumberOfFrames=3, syntax=JPEG_LS, streams=[bytes(imagecodecs.jpegls_encode(v)) for v in values]),
    ):
        radiographs = films(data)
        assert [r.frame for r in radiographs] == [0, 1, 2]
        for radiograph, expected in zip(radiographs, values, strict=True):
            np.testing.assert_allclose(radiograph.pixels, expected / 255, atol=1e-7)
    assert refused(dicom(values, NumberOfFrames=3), limits=Limits(max_frames=2)).reason == "too_large"
    assert refused(dicom(values, NumberOfFrames=3), limits=Limits(max_pixels=2000)).reason == "too_large"
    short = read_bytes(dicom(values[:2], NumberOfFrames=3), source="x")
    assert len(short.radiographs) == 2
    assert [r.reason for r in short.rejections] == ["truncated"]
    assert "frame 2" in short.rejections[0].detail
    streams = [bytes(imagecodecs.jpegls_encode(v)) for v in values]
    streams[1] = streams[1][:100]
    mixed = read_bytes(dicom(values, NumberOfFrames=3, syntax=JPEG_LS, streams=streams), source="x")
    assert [r.frame for r in mixed.radiographs] == [0, 2]
    assert mixed.rejections[0].sop_instance_uid == UID_TEXT


def test_functional_groups() -> None:
    window = item(FrameVOILUTSequence=[item(WindowCenter="64", WindowWidth="129")])
    shared = item(PixelMeasuresSequence=[item(PixelSpacing=["0.2", "0.2"])], FrameAnatomySequence=[item(FrameLaterality="R")])
    data = dicom(
        np.stack([ramp(8), ramp(8)]),
        NumberOfFrames=2,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[window, item()],
    )
    first, second = films(data)
    np.testing.assert_allclose(first.pixels, np.clip((ramp(8) - 63.5) / 128 + 0.5, 0, 1), atol=1e-6)
    np.testing.assert_allclose(second.pixels, ramp(8) / 255, atol=1e-6)
    assert first.pixel_spacing == second.pixel_spacing == (0.2, 0.2)
    assert first.laterality == "R"


@pytest.mark.parametrize(
    ("attributes", "spacing", "source"),
    [
        ({"PixelSpacing": ["0.1", "0.1"], "ImagerPixelSpacing": ["0.148", "0.148"]}, (0.1, 0.1), "PixelSpacing"),
        (
            {"ImagerPixelSpacing": ["0.148", "0.148"], "EstimatedRadiographicMagnificationFactor": "1.2"},
            (0.148, 0.148),
            "ImagerPixelSpacing",
        ),
        ({"NominalScannedPixelSpacing": ["0.05", "0.05"]}, (0.05, 0.05), "NominalScannedPixelSpacing"),
        ({"PixelSpacing": ["0", "0"], "ImagerPixelSpacing": ["0.2", "0.2"]}, (0.2, 0.2), "ImagerPixelSpacing"),
        ({"PixelSpacing": "0.2"}, None, None),
        ({}, None, None),
    ],
)
def test_pixel_spacing(attributes: dict[str, Any], spacing: tuple[float, float] | None, source: str | None) -> None:
    radiograph = one(dicom(ramp(8), **attributes))
    assert radiograph.pixel_spacing == spacing
    assert radiograph.pixel_spacing_source == source
    ignored = attributes.get("PixelSpacing") in (["0", "0"], "0.2")
    assert bool(radiograph.warnings) == ignored


def test_rectangular_pixels_are_made_square_and_pointed_out() -> None:
    radiograph = one(dicom(ramp(8), PixelSpacing=["0.2", "0.1"]))
    assert radiograph.pixel_spacing == (0.1, 0.1)
    assert radiograph.pixels.shape == (2 * ramp(8).shape[0], ramp(8).shape[1])
    assert "not square" in radiograph.warnings[0]


@pytest.mark.parametrize(
    ("attributes", "side"),
    [
        ({"ImageLaterality": "L", "Laterality": "R"}, None),
        ({"ImageLaterality": "U", "Laterality": "R"}, "R"),
        ({"ImageLaterality": "B"}, "B"),
        ({"ImageLaterality": "U"}, None),
        ({"AnatomicRegionSequence": [item(AnatomicRegionModifierSequence=[item(CodeValue="7771000")])]}, "L"),
        ({}, None),
    ],
)
def test_laterality(attributes: dict[str, Any], side: str | None) -> None:
    assert one(dicom(ramp(8), **attributes)).laterality == side


def test_view() -> None:
    assert one(dicom(ramp(8), ViewPosition="AP")).view_position == "AP"
    assert one(dicom(ramp(8), ViewCodeSequence=[item(CodeMeaning="antero-posterior")])).view_position == "antero-posterior"
    assert one(dicom(ramp(8))).view_position is None


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        (dicom(None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR"), "no_pixels", "SR Storage"),
        (dicom(None, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5", Modality="RTPLAN"), "no_pixels", "RT Plan"),
        (dicom(None, Rows=4, Columns=4), "truncated", "pixel data"),
        (dicom(ramp(8), Modality="MR"), "unsupported", "'MR'"),
        (dicom(ramp(8), Modality="MG"), "unsupported", "'MG'"),
        (dicom(ramp(8), ManufacturerModelName="KneeXRay"), "unsupported", "a result of KneeXRay"),
        (dicom(ramp(8), Rows=0), "corrupt", "0"),
        (dicom(ramp(8), BitsAllocated=12), "unsupported", "12"),
        (dicom(ramp(8), SamplesPerPixel=4), "unsupported", "4"),
        (dicom(ramp(8), Columns=None), "corrupt", "Columns"),
        (dicom(ramp(8), Rows=60_000, Columns=60_000), "too_large", "60000"),
        (dicom(ramp(8))[:-100], "truncated", "668 of the 768"),
    ],
)
def test_refusals(data: bytes, reason: str, said: str) -> None:
    rejection = refused(data)
    assert rejection.reason == reason, rejection
    assert said in rejection.detail
    assert rejection.sop_instance_uid == UID_TEXT


@pytest.mark.parametrize("modality", ["CR", "DX", "RF", "OT", None])
def test_modalities_of_radiographs(modality: str | None) -> None:
    assert one(dicom(ramp(8), Modality=modality)).pixels.shape == (24, 32)


def test_gaps_are_filled() -> None:
    radiograph = one(
        dicom(ramp(8), PhotometricInterpretation=None, PixelRepresentation=None, HighBit=None, BitsStored=None, SamplesPerPixel=None)
    )
    np.testing.assert_allclose(radiograph.pixels, ramp(8) / 255, atol=1e-7)
    assert any("Photometric" in w for w in radiograph.warnings)
    raw = one(dicom(ramp(8), PresentationIntentType="FOR PROCESSING"))
    assert any("raw detector data" in w for w in raw.warnings)
    odd = one(dicom(ramp(8), BitsStored=12, HighBit=3))
    assert len(odd.warnings) == 2


def test_no_patient_in_results() -> None:
    study = read_bytes(dicom(ramp(8), PatientID="12345-secret"), source="x")
    assert SECRET not in str(study)
    assert "secret" not in str(study)
