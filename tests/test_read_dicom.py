"""DICOM: grayscale pipeline by golden values, compression, odd real-life headers, kinds of objects, and damage."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from kneexray.read import Limits, read_bytes, read_file
from kneexray.read.codestream import inspect
from kneexray.read.dicom_frames import Frame, frames, pixel_format
from kneexray.read.dicom_header import parse
from kneexray.types import Radiograph, Rejection

quick = settings(max_examples=25, deadline=None)

EXPLICIT, IMPLICIT, BIG, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
BASELINE, EXTENDED, LOSSLESS, LOSSLESS_SV1 = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
JPEG_LS, JPEG_LS_NEAR, J2K_LOSSLESS, J2K, HTJ2K, RLE = (f"1.2.840.10008.1.2.{n}" for n in ("4.80", "4.81", "4.90", "4.91", "4.201", "5"))
DX = "1.2.840.10008.5.1.4.1.1.1.1"
UID_TEXT = "1.2.3.4.5"
SECRET = "Doe^Jane"


def dicom(
    values: np.ndarray | None, *, bits: int = 0, syntax: str = EXPLICIT, streams: list[bytes] | None = None, **attributes: Any
) -> bytes:
    """A DX image of ``values`` (H, W[, 3]), compressed ``streams`` in its place where given; None leaves an attribute out."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality, dataset.PatientName = DX, UID_TEXT, "DX", SECRET
    if values is not None:
        allocated = values.dtype.itemsize * 8
        dataset.Rows, dataset.Columns = values.shape[-3:-1] if values.ndim == 4 or values.shape[-1] == 3 else values.shape[-2:]
        dataset.SamplesPerPixel = 3 if values.shape[-1] == 3 else 1
        dataset.PhotometricInterpretation = "RGB" if dataset.SamplesPerPixel == 3 else "MONOCHROME2"
        if dataset.SamplesPerPixel == 3:
            dataset.PlanarConfiguration = 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, bits or allocated, (bits or allocated) - 1
        dataset.PixelRepresentation = int(values.dtype.kind == "i")
        order = ">" if syntax == BIG else "<"
        raw = values.astype(values.dtype.newbyteorder(order)).tobytes()
        dataset.PixelData = encapsulate(streams) if streams is not None else raw + bytes(len(raw) % 2)
        dataset["PixelData"].VR = "OB" if allocated == 8 or streams is not None else "OW"
        dataset["PixelData"].is_undefined_length = streams is not None
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = (
        UID(dataset.get("SOPClassUID", DX)),
        UID(UID_TEXT),
    )
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def lut(first: int, table: list[int], bits: int) -> list[Dataset]:
    item = Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(table), first, bits])
    item.add_new(0x00283006, "OW", np.array(table, "<u2").tobytes())
    return [item]


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def films(data: bytes, **options: Any) -> tuple[Radiograph, ...]:
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        study = read_bytes(data, source="x.dcm", **options)
    assert not leaked, [str(w.message) for w in leaked]
    assert not study.rejections, study.rejections
    for radiograph in study.radiographs:
        assert radiograph.pixels.dtype == np.float32
        assert radiograph.pixels.ndim == 2
        assert 0 <= radiograph.pixels.min() <= radiograph.pixels.max() <= 1
    return study.radiographs


def one(data: bytes, **options: Any) -> Radiograph:
    (radiograph,) = films(data, **options)
    return radiograph


def refused(data: bytes, **options: Any) -> Rejection:
    study = read_bytes(data, source="x.dcm", **options)
    assert not study.radiographs
    assert SECRET not in str(study)
    return study.rejections[0]


def ramp(bits: int, *, shape: tuple[int, int] = (24, 32)) -> np.ndarray:
    values = np.linspace(0, 2**bits - 1, shape[0] * shape[1]).reshape(shape)
    return np.rint(values).astype(np.uint8 if bits <= 8 else np.uint16)


def smooth(bits: int, *, shape: tuple[int, int] = (61, 67)) -> np.ndarray:
    """Something that lossy codecs keep well."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    values = (np.sin(y / 9) * np.cos(x / 7) + 1) / 2 * (2**bits - 1)
    return np.rint(values).astype(np.uint8 if bits <= 8 else np.uint16)


# --- the grayscale pipeline ---------------------------------------------------------------------------------------------------


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


# --- compression --------------------------------------------------------------------------------------------------------------


def packbits(segment: bytes) -> bytes:
    """PS3.5 Annex G by literal runs alone: long, but valid."""
    runs = b"".join(bytes([len(run) - 1]) + run for run in (segment[i : i + 128] for i in range(0, len(segment), 128)))
    return runs + bytes(len(runs) % 2)


def rle(values: np.ndarray) -> bytes:
    samples = values[..., np.newaxis] if values.ndim == 2 else values
    planes = [samples[..., s].astype(f">u{values.dtype.itemsize}").tobytes() for s in range(samples.shape[-1])]
    segments = [packbits(plane[b :: values.dtype.itemsize]) for plane in planes for b in range(values.dtype.itemsize)]
    offsets = np.cumsum([64, *map(len, segments)])[:-1]
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def jpeg(values: np.ndarray, **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(values, **options))


EXACT = [
    (RLE, 8, rle),
    (RLE, 16, rle),
    (LOSSLESS_SV1, 8, lambda v: jpeg(v, lossless=True)),
    (LOSSLESS_SV1, 12, lambda v: jpeg(v, lossless=True, bitspersample=12)),
    (LOSSLESS, 16, lambda v: jpeg(v, lossless=True, predictor=4, bitspersample=16)),
    (JPEG_LS, 8, lambda v: bytes(imagecodecs.jpegls_encode(v))),
    (JPEG_LS, 16, lambda v: bytes(imagecodecs.jpegls_encode(v))),
    (J2K_LOSSLESS, 8, lambda v: bytes(imagecodecs.jpeg2k_encode(v, codecformat="j2k", level=0, reversible=True))),
    (J2K_LOSSLESS, 12, lambda v: bytes(imagecodecs.jpeg2k_encode(v, codecformat="j2k", level=0, reversible=True, bitspersample=12))),
    (J2K_LOSSLESS, 16, lambda v: bytes(imagecodecs.jpeg2k_encode(v, codecformat="jp2", level=0, reversible=True))),
    (HTJ2K, 12, lambda v: bytes(imagecodecs.htj2k_encode(v))),
]
LOSSY = [
    (BASELINE, 8, lambda v: jpeg(v, level=95)),
    (EXTENDED, 12, lambda v: jpeg(v, level=95, bitspersample=12)),
    (JPEG_LS_NEAR, 12, lambda v: bytes(imagecodecs.jpegls_encode(v, level=3))),
    (J2K, 16, lambda v: bytes(imagecodecs.jpeg2k_encode(v, codecformat="j2k", level=60))),
]


@pytest.mark.parametrize(("syntax", "bits", "encode"), EXACT)
def test_lossless_compression_equals_raw(syntax: str, bits: int, encode: Any) -> None:
    values = smooth(bits)
    raw = one(dicom(values, bits=bits)).pixels
    compressed = one(dicom(values, bits=bits, syntax=syntax, streams=[encode(values)]))
    np.testing.assert_array_equal(compressed.pixels, raw)
    assert compressed.warnings == ()


@pytest.mark.parametrize(("syntax", "bits", "encode"), LOSSY)
def test_lossy_compression_is_close_to_raw(syntax: str, bits: int, encode: Any) -> None:
    values = smooth(bits)
    compressed = one(dicom(values, bits=bits, syntax=syntax, streams=[encode(values)])).pixels
    np.testing.assert_allclose(compressed, values / (2**bits - 1), atol=0.02)


@pytest.mark.parametrize(("syntax", "bits", "encode"), EXACT[:1] + EXACT[2:3] + EXACT[5:6] + EXACT[7:8])
def test_compressed_colour(syntax: str, bits: int, encode: Any) -> None:
    rgb = np.stack([smooth(8), smooth(8) // 2, smooth(8) // 3], axis=-1)
    np.testing.assert_array_equal(one(dicom(rgb, syntax=syntax, streams=[encode(rgb)])).pixels, one(dicom(rgb)).pixels)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL_422"])
def test_jpeg_colour_by_markers_or_photometric_interpretation(photometric: str) -> None:
    rgb = np.stack([smooth(8), smooth(8) // 2, smooth(8) // 3], axis=-1)
    space = "RGB" if photometric == "RGB" else "YCBCR"
    marked = jpeg(rgb, level=100, colorspace="RGB", outcolorspace=space)
    unmarked = marked[:2] + marked[4 + int.from_bytes(marked[4:6], "big") :]  # without its first marker segment, JFIF or Adobe
    expected = one(dicom(rgb)).pixels
    for stream in (marked, unmarked):
        pixels = one(dicom(rgb, syntax=BASELINE, streams=[stream], PhotometricInterpretation=photometric)).pixels
        np.testing.assert_allclose(pixels, expected, atol=0.02)


def test_signed_compressed_pixels() -> None:
    values = smooth(12).astype(np.int16) - 2048
    expected = one(dicom(values, bits=12)).pixels
    twos_complement = values.astype(np.uint16) & 0x0FFF
    plain = bytes(imagecodecs.jpeg2k_encode(twos_complement, codecformat="j2k", level=0, reversible=True, bitspersample=12))
    signed = bytes(imagecodecs.jpeg2k_encode(values, codecformat="j2k", level=0, reversible=True))
    for stream, syntax in ((plain, J2K_LOSSLESS), (signed, J2K_LOSSLESS), (rle(values.astype(np.uint16)), RLE)):
        np.testing.assert_array_equal(one(dicom(values, bits=12, syntax=syntax, streams=[stream])).pixels, expected)


def test_compressed_frames_that_do_not_fit() -> None:
    values = smooth(8)
    stream = bytes(imagecodecs.jpegls_encode(values))
    wrong_size = refused(dicom(values, syntax=JPEG_LS, streams=[stream], Rows=60))
    assert wrong_size.reason == "corrupt"
    assert "60" in wrong_size.detail
    assert refused(dicom(values, syntax=JPEG_LS, streams=[stream[:-200]])).reason == "truncated"
    assert refused(dicom(values, syntax=BASELINE, streams=[jpeg(values)[:-200]])).reason == "truncated"
    assert refused(dicom(values, syntax=RLE, streams=[rle(values)[:-2000]])).reason in ("truncated", "corrupt")
    assert refused(dicom(values, syntax=RLE, streams=[b"short"])).reason == "truncated"
    huge = bytearray(imagecodecs.jpeg2k_encode(values, codecformat="j2k"))
    huge[8:16] = struct.pack(">II", 2**31, 2**31)
    assert refused(dicom(values, syntax=J2K, streams=[bytes(huge)])).reason == "corrupt"
    video = refused(dicom(values, syntax="1.2.840.10008.1.2.4.100", streams=[b"\x00\x00\x01\xb3" + bytes(60)]))
    assert video.reason == "unsupported"
    assert "MPEG2" in video.detail


def test_codestream_headers() -> None:
    for syntax, bits, encode in EXACT + LOSSY:
        if syntax == RLE:
            continue
        stream = inspect(encode(smooth(bits)))
        assert stream is not None
        assert (stream.rows, stream.columns, stream.samples) == (61, 67, 1)
        assert stream.precision in (bits, 16)  # some encoders ignore the depth they are told
    assert inspect(b"no stream") is None


# --- frames, geometry, kinds ---------------------------------------------------------------------------------------------------


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


def test_rectangular_pixels_are_pointed_out() -> None:
    radiograph = one(dicom(ramp(8), PixelSpacing=["0.2", "0.1"]))
    assert radiograph.pixel_spacing == (0.2, 0.1)
    assert "not square" in radiograph.warnings[0]


@pytest.mark.parametrize(
    ("attributes", "side"),
    [
        ({"ImageLaterality": "L", "Laterality": "R"}, "L"),
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


# --- odd files ------------------------------------------------------------------------------------------------------------------


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
