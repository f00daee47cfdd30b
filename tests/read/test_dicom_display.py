"""DICOM: the grayscale pipeline and colour, by golden values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.dicoms import BIG, DEFLATED, EXPLICIT, IMPLICIT, UID_TEXT, dicom, item, lut, one, ramp, refused

quick = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_stored_range_without_window(bits: int, syntax: str) -> None:
    radiograph = one(dicom(ramp(bits), bits=bits, syntax=syntax))
    np.testing.assert_allclose(radiograph.pixels, ramp(bits) / (2**bits - 1), atol=1e-7)
    assert radiograph.sop_instance_uid == UID_TEXT
    assert radiograph.warnings == ()
    assert radiograph.frame is None


def test_bits_stored_16_of_16_says_nothing() -> None:
    np.testing.assert_allclose(one(dicom(ramp(12))).pixels, ramp(12) / 4095, atol=1e-7)
    dark = ramp(12) // 8
    np.testing.assert_allclose(one(dicom(dark, bits=12)).pixels, dark / 4095, atol=1e-7)  # 12 of 16 was said on purpose


@given(hnp.arrays(np.float64, (6, 7), elements=st.floats(0, 1)))
@quick
def test_8_12_and_16_bits_of_a_film_agree(film: np.ndarray) -> None:
    film[0, 0] = 1
    eight = one(dicom(np.rint(film * 255).astype(np.uint8))).pixels
    for bits in (12, 16):
        wide = np.rint(film * (2**bits - 1)).astype(np.uint16)
        assert np.abs(one(dicom(wide, bits=bits)).pixels - eight).max() <= 0.5 / 255 + 0.5 / 4095 + 1e-6
        windowed = one(dicom(wide, bits=bits, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)).pixels
        assert np.abs(windowed - wide / (2**bits - 1)).max() < 1e-6


@given(hnp.arrays(np.uint16, (6, 7), elements=st.integers(0, 4095)), st.booleans())
@quick
def test_monochrome1_and_its_inverse_agree(values: np.ndarray, window: bool) -> None:
    attributes = {"WindowCenter": 2048, "WindowWidth": 4096} if window else {}
    normal = one(dicom(values, bits=12, **attributes)).pixels
    inverse = one(dicom(4095 - values, bits=12, PhotometricInterpretation="MONOCHROME1", **attributes)).pixels
    np.testing.assert_allclose(normal, inverse, atol=1e-6)


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME1", "INVERSE", True),  # the pair that C.8.11.3 demands: one inversion, not two
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME1", None, True),
        ("MONOCHROME2", "INVERSE", True),
    ],
)
def test_polarity(photometric: str, shape: str | None, inverted: bool) -> None:
    attributes = {"PresentationLUTShape": shape} if shape else {}
    pixels = one(dicom(ramp(8), PhotometricInterpretation=photometric, **attributes)).pixels
    expected = ramp(8) / 255
    np.testing.assert_allclose(pixels, 1 - expected if inverted else expected, atol=1e-7)


def test_windows_by_golden_values() -> None:
    """PS3.3 C.11.2.1.2.1 and C.11.2.1.3.1 by hand, at center 2048 and width 4096 where the standard gives the numbers."""
    values = np.array([[0, 1, 2047, 2048, 4095]], np.uint16)
    linear = one(dicom(values, bits=12, WindowCenter="2048", WindowWidth="4096")).pixels
    np.testing.assert_allclose(linear, values / 4095, atol=1e-6)
    exact = one(dicom(values, bits=12, WindowCenter="2048", WindowWidth="4096", VOILUTFunction="LINEAR_EXACT")).pixels
    np.testing.assert_allclose(exact, values / 4096, atol=1e-6)
    sigmoid = one(dicom(values, bits=12, WindowCenter="2048", WindowWidth="1024", VOILUTFunction="SIGMOID")).pixels
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-4 * (values - 2048.0) / 1024)), atol=1e-6)
    narrow = np.array([[99, 100, 150, 199, 200, 201]], np.uint16)
    clipped = one(dicom(narrow, bits=12, WindowCenter="150", WindowWidth="101")).pixels
    np.testing.assert_allclose(clipped, np.clip((narrow - 149.5) / 100 + 0.5, 0, 1), atol=1e-6)
    step = one(dicom(values, bits=12, WindowCenter="2048", WindowWidth="1")).pixels
    np.testing.assert_array_equal(step, [[0, 0, 0, 1, 1]])


def test_first_of_several_windows() -> None:
    several = one(dicom(ramp(12), bits=12, WindowCenter=[1000, 2048], WindowWidth=[800, 4096])).pixels
    np.testing.assert_array_equal(several, one(dicom(ramp(12), bits=12, WindowCenter=1000, WindowWidth=800)).pixels)


@pytest.mark.parametrize(("center", "width"), [("0", "0"), ("100", "-5"), ("100", "0.5")])
def test_senseless_windows_are_ignored(center: str, width: str) -> None:
    radiograph = one(dicom(ramp(12), bits=12, WindowCenter=center, WindowWidth=width))
    np.testing.assert_allclose(radiograph.pixels, ramp(12) / 4095, atol=1e-7)
    assert "window" in radiograph.warnings[0]


@pytest.mark.parametrize(("center", "width"), [("2048", "4096"), ("9000", "100"), ("-500", "10")])
def test_window_of_other_pixel_data_is_ignored(center: str, width: str) -> None:
    radiograph = one(dicom(ramp(8), WindowCenter=center, WindowWidth=width))
    np.testing.assert_allclose(radiograph.pixels, ramp(8) / 255, atol=1e-7)
    assert "does not fit" in radiograph.warnings[0]


def test_rescale_comes_before_the_window() -> None:
    values = ramp(12)
    windowed = one(dicom(values, bits=12, RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="3095.5", WindowWidth="8191"))
    np.testing.assert_allclose(windowed.pixels, values / 4095, atol=1e-3)
    plain = one(dicom(values, bits=12, RescaleSlope="2", RescaleIntercept="-1000"))
    np.testing.assert_allclose(plain.pixels, values / 4095, atol=1e-6)
    falling = one(dicom(values, bits=12, RescaleSlope="-1", RescaleIntercept="4095"))
    np.testing.assert_allclose(falling.pixels, 1 - values / 4095, atol=1e-6)
    odd = one(dicom(values, bits=12, RescaleSlope="0", RescaleIntercept="7"))
    np.testing.assert_allclose(odd.pixels, values / 4095, atol=1e-6)
    assert "slope" in odd.warnings[0]


def test_modality_and_voi_luts() -> None:
    values = np.array([[0, 1, 2, 3, 9]], np.uint16)
    modality = one(dicom(values, bits=12, ModalityLUTSequence=lut(1, [0, 100, 4095], 12))).pixels
    np.testing.assert_allclose(modality, np.array([[0, 0, 100, 4095, 4095]]) / 4095, atol=1e-6)
    voi = dicom(values, bits=12, VOILUTSequence=lut(0, [0, 10, 40, 200, 255], 8), WindowCenter="1", WindowWidth="2")
    np.testing.assert_allclose(one(voi).pixels, np.array([[0, 10, 40, 200, 255]]) / 255, atol=1e-6)  # preferred to the window
    shifted = dicom(values, bits=12, VOILUTSequence=lut(-2, [0, 10, 40, 200, 255], 8), RescaleSlope="1", RescaleIntercept="-2")
    signed = dicom(values.astype(np.int16) - 2, bits=12, VOILUTSequence=lut(-2, [0, 10, 40, 200, 255], 8))
    for data in (shifted, signed):
        np.testing.assert_allclose(one(data).pixels, np.array([[0, 10, 40, 200, 255]]) / 255, atol=1e-6)
    damaged = one(dicom(values, bits=12, VOILUTSequence=[item(LUTExplanation="no data")]))
    assert "look-up table" in damaged.warnings[0]


def test_signed_pixels() -> None:
    values = ramp(12).astype(np.int16) - 2048
    np.testing.assert_allclose(one(dicom(values, bits=12)).pixels, ramp(12) / 4095, atol=1e-7)
    np.testing.assert_allclose(one(dicom(values, bits=16)).pixels, ramp(12) / 4095, atol=1e-7)
    positive = ramp(12).astype(np.int16)
    np.testing.assert_allclose(one(dicom(positive, bits=16)).pixels, ramp(12) / 4095, atol=1e-7)
    unextended = (values.astype(np.uint16)) & 0x0FFF  # PS3.5 8.1.1: the bits above the sign need not repeat it
    np.testing.assert_allclose(one(dicom(unextended, bits=12, PixelRepresentation=1)).pixels, ramp(12) / 4095, atol=1e-7)


def test_bits_above_and_below_the_stored_ones_are_ignored() -> None:
    overlay = ramp(12) | 0xF000
    np.testing.assert_allclose(one(dicom(overlay, bits=12)).pixels, ramp(12) / 4095, atol=1e-7)
    high = (ramp(12) << 4) | 0x000F
    np.testing.assert_allclose(one(dicom(high, bits=12, HighBit=15)).pixels, ramp(12) / 4095, atol=1e-7)


def test_padding_is_black_and_outside_every_range() -> None:
    values = ramp(12) // 2
    values[:, :4] = 4095
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        pixels = one(dicom(values, bits=12, PhotometricInterpretation=photometric, PixelPaddingValue=4095)).pixels
        assert (pixels[:, :4] == 0).all()
    limit = one(dicom(values, bits=12, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095)).pixels
    assert (limit[:, :4] == 0).all()
    np.testing.assert_allclose(limit[:, 4:], values[:, 4:] / 4095, atol=1e-6)
    unsigned = np.where(values == 4095, 65535, values).astype(np.uint16)
    np.testing.assert_allclose(one(dicom(unsigned, PixelPaddingValue=65535)).pixels[:, 4:], values[:, 4:] / 4095, atol=1e-6)
    assert one(dicom(np.full((4, 4), 7, np.uint8), PixelPaddingValue=7)).pixels.max() > 0  # padding alone is no padding


def test_one_bit_and_32_bit() -> None:
    bits = np.array([[0, 1, 1, 0, 1, 0, 0, 1], [1, 1, 0, 0, 0, 0, 1, 1]], np.uint8)
    packed = np.packbits(bits, bitorder="little")[np.newaxis].reshape(1, 2)
    data = dicom(packed, Rows=2, Columns=8, BitsAllocated=1, BitsStored=1, HighBit=0)
    np.testing.assert_array_equal(one(data).pixels, bits)
    wide = ramp(16).astype(np.uint32) * 65537
    np.testing.assert_allclose(one(dicom(wide)).pixels, wide / (2**32 - 1), atol=1e-6)


# --- colour ------------------------------------------------------------------------------------------------------------------


def test_colour_becomes_luma() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    expected = rgb @ [0.299, 0.587, 0.114] / 255
    np.testing.assert_allclose(one(dicom(rgb)).pixels, expected, atol=0.5 / 255 + 1e-6)
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    planar = dicom(planes.reshape(6, 8, 3), PlanarConfiguration=1)
    np.testing.assert_allclose(one(planar).pixels, expected, atol=0.5 / 255 + 1e-6)
    grey = np.repeat(ramp(8)[..., np.newaxis], 3, axis=-1)
    np.testing.assert_allclose(one(dicom(grey)).pixels, ramp(8) / 255, atol=1e-7)
    np.testing.assert_allclose(one(dicom(grey, PhotometricInterpretation="YBR_FULL")).pixels, ramp(8) / 255, atol=1e-7)


def test_ybr_full_422() -> None:
    luma = ramp(8)
    halved = np.stack([luma[:, ::2], luma[:, 1::2], np.full_like(luma[:, ::2], 90), np.full_like(luma[:, ::2], 160)], axis=-1)
    data = dicom(luma, PhotometricInterpretation="YBR_FULL_422", SamplesPerPixel=3, PlanarConfiguration=0, PixelData=halved.tobytes())
    np.testing.assert_allclose(one(data).pixels, luma / 255, atol=1e-7)


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(bits: int) -> None:
    indices = np.array([[0, 1, 2, 3]], np.uint8)
    full = 2**bits - 1
    attributes: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [4, 0, bits]
        table = np.array([0, full // 5, full // 2, full], "<u2" if bits == 16 else "u1")
        attributes[f"{colour}PaletteColorLookupTableData"] = table.tobytes()
    pixels = one(dicom(indices, **attributes)).pixels
    np.testing.assert_allclose(pixels, np.array([[0, full // 5, full // 2, full]]) / full, atol=1e-6)
    del attributes["RedPaletteColorLookupTableData"]
    assert refused(dicom(indices, **attributes)).reason == "unsupported"


@pytest.mark.parametrize("declared", [12, 14, 16])
def test_full_scale_of_a_table_is_that_of_its_entries(declared: int) -> None:
    values = ramp(12)
    table = list(range(4096))
    for keyword in ("VOILUTSequence", "ModalityLUTSequence"):
        shown = one(dicom(values, bits=12, **{keyword: lut(0, table, declared)})).pixels
        np.testing.assert_allclose(shown, values / 4095, atol=1e-6)


@pytest.mark.parametrize("vr", ["US", "SS"])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(("signed", "intercept", "first"), [(False, -1024, -1024), (True, 34816, 32768), (False, 0, 40000), (True, 0, -3)])
def test_sign_of_a_tables_first_input_goes_by_the_output_of_the_rescale(
    vr: str, syntax: str, signed: bool, intercept: int, first: int
) -> None:
    table = [0, 10, 40, 200, 255]
    values = (np.arange(5)[np.newaxis] + first - intercept).astype(np.int16 if signed else np.uint16)
    (sequence,) = lut(0, table, 8)
    word = first & 0xFFFF
    sequence["LUTDescriptor"].VR = vr
    sequence["LUTDescriptor"].value = [5, word - 65536 if vr == "SS" and word > 32767 else word, 8]
    shown = one(dicom(values, syntax=syntax, RescaleIntercept=str(intercept), RescaleSlope="1", VOILUTSequence=[sequence])).pixels
    np.testing.assert_allclose(shown, np.array([table]) / 255, atol=1e-6)
