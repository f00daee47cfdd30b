"""DICOM: every compression, and streams that do not fit their header."""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest
from support.dicoms import (
    BASELINE,
    BIG,
    DEFLATED,
    EXACT,
    EXPLICIT,
    IMPLICIT,
    J2K,
    J2K_LOSSLESS,
    JPEG_LS,
    LOSSY,
    RLE,
    dicom,
    jpeg,
    one,
    refused,
    rle,
    smooth,
)

from kneexray.read.codestream import inspect
from kneexray.read.dicom import TRANSFER_SYNTAXES


@pytest.mark.parametrize(("syntax", "bits", "encode"), EXACT)
def test_lossless_compression_equals_raw(syntax: str, bits: int, encode: Any) -> None:
    values = smooth(bits)
    raw = one(dicom(values, bits=bits)).pixels
    compressed = one(dicom(values, bits=bits, syntax=syntax, streams=[encode(values)]))
    np.testing.assert_array_equal(compressed.pixels, raw)
    assert compressed.warnings == ()


def test_what_is_decoded_is_what_is_announced() -> None:
    assert {syntax for syntax, *_ in EXACT + LOSSY} | {EXPLICIT, IMPLICIT, BIG, DEFLATED} <= set(TRANSFER_SYNTAXES)


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
    unlike = bytearray(imagecodecs.jpeg2k_encode(np.dstack([values] * 3), codecformat="j2k", mct=False))
    unlike[unlike.find(b"\xff\x4f\xff\x51") + 45] ^= 0x80  # the second component is signed, the others are not
    mixed = refused(dicom(np.dstack([values] * 3), syntax=J2K, streams=[bytes(unlike)]))
    assert mixed.reason == "unsupported"
    assert "JPEG 2000" in mixed.detail
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


@pytest.mark.parametrize(("syntax", "bits", "encode"), EXACT + LOSSY)
def test_zeros_after_a_codestream(syntax: str, bits: int, encode: Any) -> None:
    """Some writers send fragments of a fixed size."""
    stream = encode(smooth(bits))
    endings = (bytes(len(stream) % 2), bytes(6000 + len(stream) % 2))
    plain, padded = (one(dicom(smooth(bits), bits=bits, syntax=syntax, streams=[stream + ending])).pixels for ending in endings)
    np.testing.assert_array_equal(plain, padded)
