"""Ordinary images: every mode and format, depth, orientation, pages, limits, and files that are broken or something else."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from kneexray.read import Limits, read_bytes, read_file
from kneexray.read.scaling import depth_for, luma
from kneexray.read.sniff import sniff
from kneexray.types import Radiograph, Rejection

quick = settings(max_examples=40, deadline=None)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def film(height: int = 12, width: int = 20, top: int = 255) -> np.ndarray:
    """A ramp that no rotation or mirroring leaves alone, from 0 to ``top``."""
    values = np.linspace(0, top, height * width).reshape(height, width)
    return np.rint(values).astype(np.uint8 if top < 256 else np.uint16)


def one(data: bytes, **options: Any) -> Radiograph:
    study = read_bytes(data, source="film", **options)
    assert not study.rejections, study.rejections
    (radiograph,) = study.radiographs
    pixels = radiograph.pixels
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    assert 0 <= pixels.min() <= pixels.max() <= 1
    return radiograph


def refused(data: bytes, **options: Any) -> Rejection:
    study = read_bytes(data, source="film", **options)
    assert not study.radiographs
    (rejection,) = study.rejections
    assert rejection.source == "film"
    assert rejection.detail.strip()
    return rejection


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WebP", {"lossless": True}),
        ("JPEG", {"quality": 100}),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_of_8_bit_is_exact(form: str, options: dict[str, Any], mode: str) -> None:
    values = film()
    radiograph = one(encoded(Image.fromarray(values).convert(mode), form, **options))
    expected = values / np.float32(255)
    np.testing.assert_allclose(radiograph.pixels, expected, atol=0.01 if form == "JPEG" else 0)
    assert radiograph.source == "film"
    assert radiograph.frame is None
    assert radiograph.pixel_spacing is None


def test_colour_is_rec_601_luma() -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    golden = one(encoded(Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))))
    np.testing.assert_allclose(golden.pixels, [[76 / 255, 150 / 255, 29 / 255]], atol=1e-7)
    expected = np.asarray(Image.fromarray(colour).convert("L")) / np.float32(255)
    np.testing.assert_array_equal(one(encoded(Image.fromarray(colour))).pixels, expected)
    np.testing.assert_array_equal(luma(colour), np.asarray(Image.fromarray(colour).convert("L")))


@given(hnp.arrays(np.uint16, (4, 5), elements=st.integers(0, 65535)))
@quick
def test_luma_of_grey_is_the_grey(values: np.ndarray) -> None:
    np.testing.assert_array_equal(luma(np.stack([values] * 3, axis=-1)), values)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_other_modes(mode: str) -> None:
    values = film()
    if mode == "1":
        values = np.where(values > 99, 255, 0).astype(np.uint8)
    image = Image.fromarray(values).convert(mode)
    form = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    np.testing.assert_allclose(one(encoded(image, form)).pixels, values / 255, atol=0.02 if mode in ("CMYK", "YCbCr") else 1e-7)


def test_cmyk_jpeg() -> None:
    values = film()
    image = Image.fromarray(values).convert("RGB").convert("CMYK")
    np.testing.assert_allclose(one(encoded(image, "JPEG", quality=100)).pixels, values / 255, atol=0.03)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize(
    ("colour", "rows", "photograph"), [((90, 90, 115), 40, True), ((90, 90, 115), 29, False), ((114, 90, 90), 40, False)]
)
def test_photographs_are_told_by_the_share_of_coloured_pixels(mode: str, colour: tuple[int, int, int], rows: int, photograph: bool) -> None:
    image = Image.new("RGB", (100, 100), (90, 90, 90))
    image.paste(colour, (0, 0, 100, rows))
    assert one(encoded(image.convert(mode), "TIFF")).photograph is photograph


def test_transparency_becomes_black() -> None:
    values = film()
    alpha = np.full_like(values, 255)
    alpha[:, :5] = 0
    alpha[:, 5:7] = 51
    expected = values / 255 * (alpha / 255)
    grey_alpha = Image.merge("LA", (Image.fromarray(values), Image.fromarray(alpha)))
    for image in (grey_alpha, grey_alpha.convert("RGBA")):
        np.testing.assert_allclose(one(encoded(image)).pixels, expected, atol=1e-6)
    palette = Image.fromarray(values).convert("P")
    cleared = one(encoded(palette, transparency=bytes([0] * 100 + [255] * 156)))
    np.testing.assert_allclose(cleared.pixels, np.where(np.asarray(palette) < 100, 0, values / 255), atol=1e-6)


@pytest.mark.parametrize(("top", "depth"), [(255, 8), (1023, 10), (3000, 12), (4095, 12), (16383, 14), (65535, 16)])
def test_depth_of_16_bit_containers(top: int, depth: int) -> None:
    values = film(top=top).astype(np.uint16)
    assert depth_for(top) == depth
    for form in ("PNG", "TIFF"):
        np.testing.assert_allclose(one(encoded(Image.fromarray(values), form)).pixels, values / (2**depth - 1), atol=1e-7)


@given(hnp.arrays(np.float64, (5, 7), elements=st.floats(0, 1)))
@quick
def test_8_12_and_16_bits_of_a_film_agree(film_values: np.ndarray) -> None:
    film_values[0, 0] = 1  # a film that uses its range
    eight = one(encoded(Image.fromarray(np.rint(film_values * 255).astype(np.uint8)))).pixels
    for depth in (12, 16):
        wide = one(encoded(Image.fromarray(np.rint(film_values * (2**depth - 1)).astype(np.uint16)))).pixels
        assert np.abs(wide - eight).max() <= 0.5 / 255 + 0.5 / 4095 + 1e-6


def test_big_endian_integer_and_float_tiff() -> None:
    values = film(top=4095)
    np.testing.assert_allclose(
        one(encoded(Image.frombytes("I;16B", (20, 12), values.astype(">u2").tobytes()), "TIFF")).pixels, values / 4095
    )
    np.testing.assert_allclose(one(encoded(Image.fromarray(values.astype(np.int32)), "TIFF")).pixels, values / 4095, atol=1e-7)
    np.testing.assert_allclose(one(encoded(Image.fromarray(values.astype(np.float32)), "TIFF")).pixels, values / 4095, atol=1e-7)
    unit = (values / 8190).astype(np.float32)
    np.testing.assert_array_equal(one(encoded(Image.fromarray(unit), "TIFF")).pixels, unit)
    signed = values.astype(np.float32) - 2000
    np.testing.assert_allclose(one(encoded(Image.fromarray(signed), "TIFF")).pixels, values / 4095, atol=1e-6)
    holed = unit.copy()
    holed[3, 3] = np.nan
    assert one(encoded(Image.fromarray(holed), "TIFF")).pixels[3, 3] == 0


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("codec", ["png", "tiff"])
def test_16_bit_colour_keeps_its_depth(codec: str, channels: int) -> None:
    values = film(top=4095)  # Pillow would keep the upper 8 bits: 16 levels of a 12-bit film
    colour = np.repeat(values[..., np.newaxis], channels, axis=-1)
    if channels == 4:
        colour[..., 3] = 65535
    data = imagecodecs.png_encode(colour) if codec == "png" else _rgb16_tiff(colour)
    np.testing.assert_allclose(one(bytes(data)).pixels, values / 4095, atol=1e-7)


def _rgb16_tiff(colour: np.ndarray) -> bytes:
    """An uncompressed little-endian TIFF with one strip, TIFF 6.0 section 6."""
    height, width, channels = colour.shape
    strip = colour.astype("<u2").tobytes()
    depths = struct.pack(f"<{channels}H", *[16] * channels)
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, 8 + len(strip)),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(strip)),
        (284, 3, 1, 1),
        *([(338, 3, 1, 2)] if channels == 4 else []),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(strip) + len(depths)) + strip + depths + directory


def tiff(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("top", [4095, 65535])
@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_colour_tiff_in_planes(top: int, samples: int, options: dict[str, Any]) -> None:
    planes = np.repeat(film(top=top)[np.newaxis], samples, 0)
    if samples == 4:
        planes[3] = 65535
    extra = {"extrasamples": ["unassalpha"]} if samples == 4 else {}
    pixels = one(tiff(planes, photometric="rgb", planarconfig="separate", **extra, **options)).pixels
    np.testing.assert_allclose(pixels, film(top=top) / top, atol=1e-6)


@pytest.mark.parametrize("kind", ["i1", "i2", "u8", "f2", "f4", "f8", ">u8", ">i2"])
def test_tiff_of_any_number(kind: str) -> None:
    values = film(top=65535).astype(np.float64) / 65535
    scale, offset = {"i1": (255, -128), "i2": (65535, -32768), "u8": (65535, 0)}.get(kind.strip(">"), (1, 0))
    stored = (values * scale + offset).round(6)
    stored = (np.rint(stored) if scale > 1 else stored).astype(kind)
    order = ">" if kind.startswith(">") else "<"
    pixels = one(tiff(stored, photometric="minisblack", byteorder=order)).pixels
    np.testing.assert_allclose(pixels, values, atol=1 / 255 if kind == "i1" else 1e-3 if kind == "f2" else 1e-4)


def test_grey_and_transparent_16_bit_tiff() -> None:
    values = np.stack([film(top=65535), np.full((12, 20), 65535, np.uint16)], -1)
    np.testing.assert_allclose(
        one(tiff(values, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])).pixels,
        film(top=65535) / 65535,
        atol=1e-6,
    )


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl", "zstd", "lerc"])
def test_tiff_of_newer_compressions(compression: str) -> None:
    study = read_bytes(tiff(film(64, 64), photometric="minisblack", compression=compression), source="film")
    if study.rejections:  # the codec is not everywhere
        assert study.rejections[0].reason == "unsupported"
    else:
        np.testing.assert_allclose(study.radiographs[0].pixels, film(64, 64) / 255, atol=0.02)


def test_pages_and_limits_of_wide_tiff() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for _ in range(3):
            writer.write(film().astype(np.float64), photometric="minisblack")
    study = read_bytes(buffer.getvalue(), source="film")
    assert [radiograph.frame for radiograph in study.radiographs] == [0, 1, 2]
    assert read_bytes(buffer.getvalue(), source="film", limits=Limits(max_frames=2)).rejections[0].reason == "too_large"
    assert refused(tiff(film().astype(np.float64)), limits=Limits(max_pixels=100)).reason == "too_large"
    assert refused(tiff(film().astype(np.complex64))).reason == "unsupported"


@pytest.mark.parametrize(
    ("bits", "encode"), [(12, imagecodecs.jpeg8_encode), (8, imagecodecs.jpegls_encode), (16, imagecodecs.jpegls_encode)]
)
def test_jpeg_of_12_bits_and_jpeg_ls(bits: int, encode: Any) -> None:
    values = film(64, 64, top=2**bits - 1)
    options = {"bitspersample": 12, "level": 98} if bits == 12 else {}
    np.testing.assert_allclose(one(bytes(encode(values, **options))).pixels, values / (2**bits - 1), atol=0.01)


def test_white_is_zero_tiff() -> None:
    values = film(top=4095)
    stored = Image.fromarray(4095 - values)
    np.testing.assert_allclose(one(encoded(stored, "TIFF", tiffinfo={262: 0})).pixels, values / 4095, atol=1e-7)
    bits = Image.fromarray(np.where(film() > 99, 255, 0).astype(np.uint8)).convert("1")
    fax = one(encoded(bits, "TIFF", compression="group4"))
    np.testing.assert_array_equal(fax.pixels, np.asarray(bits))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WebP", "TIFF"])
def test_exif_orientation(form: str, orientation: int) -> None:
    image = Image.fromarray(film(height=16, width=24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if form == "WebP" else {"quality": 100} if form == "JPEG" else {}
    data = encoded(image.convert("RGB") if form == "WebP" else image, form, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as reopened:
        expected = np.asarray(ImageOps.exif_transpose(reopened).convert("L")) / 255
    np.testing.assert_allclose(one(data).pixels, expected, atol=1e-6)
    assert expected.shape == ((16, 24) if orientation < 5 else (24, 16))


def test_orientation_of_16_bit_tiff() -> None:
    values = film(top=65535)
    np.testing.assert_allclose(
        one(encoded(Image.fromarray(values), "TIFF", tiffinfo={274: 6})).pixels, np.rot90(values, -1) / 65535, atol=1e-6
    )


def test_pages_are_frames() -> None:
    pages = [Image.fromarray(np.full((8, 9 + i), 50 * i, np.uint8)) for i in range(3)]
    study = read_bytes(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]), source="t.tif")
    assert [r.frame for r in study.radiographs] == [0, 1, 2]
    assert [r.pixels.shape for r in study.radiographs] == [(8, 9), (8, 10), (8, 11)]
    assert [round(float(r.pixels[0, 0]) * 255) for r in study.radiographs] == [0, 50, 100]
    assert not study.rejections


def test_page_limits() -> None:
    page = Image.fromarray(film())
    data = encoded(page, "TIFF", save_all=True, append_images=[page] * 4)
    assert refused(data, limits=Limits(max_frames=3)).reason == "too_large"
    assert refused(data, limits=Limits(max_pixels=4 * 240)).reason == "too_large"  # counted over all pages
    assert len(read_bytes(data, source="t", limits=Limits(max_frames=5, max_pixels=5 * 240)).radiographs) == 5


def test_thumbnail_pages_are_left_out() -> None:
    data = bytearray(
        encoded(Image.fromarray(film()), "TIFF", save_all=True, append_images=[Image.fromarray(film(6, 10))], tiffinfo={254: 0})
    )
    second = encoded(Image.fromarray(film(6, 10)), "TIFF", tiffinfo={254: 1})
    assert one(second).pixels.shape == (6, 10), "the only page is read even when it calls itself a copy"
    buffer = io.BytesIO()
    from PIL import TiffImagePlugin

    with TiffImagePlugin.AppendingTiffWriter(buffer, True) as writer:
        Image.fromarray(film()).save(writer, "TIFF")
        writer.newFrame()
        Image.fromarray(film(6, 10)).save(writer, "TIFF", tiffinfo={254: 1})
    assert one(buffer.getvalue()).pixels.shape == (12, 20)
    assert len(read_bytes(bytes(data), source="t").radiographs) == 2


def test_damaged_page_keeps_the_good_ones() -> None:
    good = film(40, 40)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    data = encoded(Image.fromarray(good), "TIFF", save_all=True, append_images=[Image.fromarray(noise)], compression="tiff_adobe_deflate")
    at = data.rfind(b"\x78")  # a zlib header of the second strip
    broken = data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]
    study = read_bytes(broken, source="t.tif")
    assert [r.frame for r in study.radiographs] == [0]
    assert [r.reason for r in study.rejections] == ["corrupt"]
    assert "page 1" in study.rejections[0].detail


def test_first_picture_of_an_animation() -> None:
    pictures = [Image.fromarray(np.full((8, 8), v, np.uint8)).convert("RGB") for v in (10, 200)]
    radiograph = one(encoded(pictures[0], "WebP", save_all=True, append_images=pictures[1:], lossless=True))
    assert round(float(radiograph.pixels[0, 0]) * 255) == 10
    assert "animation" in radiograph.warnings[0]


def _png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def test_bombs_are_found_in_the_header() -> None:
    body = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    for width, height in ((9_000, 9_000), (12_000, 12_000), (2**30, 2**30)):  # below, between and beyond Pillow's own limits
        rejection = refused(_png_header(width, height) + body)
        assert rejection.reason == "too_large"
        assert str(width) in rejection.detail
    before = Image.MAX_IMAGE_PIXELS
    assert refused(_png_header(12_000, 12_000) + body, limits=Limits(max_pixels=200_000_000)).reason in ("truncated", "corrupt")
    assert before == Image.MAX_IMAGE_PIXELS
    bmp = bytearray(encoded(Image.fromarray(film()), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    assert refused(bytes(bmp)).reason == "too_large"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WebP", "BMP"])
def test_cut_off_files_are_truncated(form: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    rejection = refused(data[: len(data) * 2 // 3])
    assert rejection.reason == "truncated", rejection
    assert refused(data[:20]).reason in ("truncated", "corrupt")


def test_tiff_cut_before_its_directory_is_truncated() -> None:
    colour = np.repeat(film()[..., np.newaxis].astype(np.uint16), 3, axis=-1)
    data = _rgb16_tiff(colour)  # the directory is its end
    for lost in (2, 10, 100, 200, len(data) - 8):
        assert refused(data[:-lost]).reason == "truncated"
    big = encoded(Image.fromarray(film()), "TIFF", big_tiff=True)
    assert one(big).pixels.shape == (12, 20)
    for kept in (12, 20, 60, 150):
        assert refused(big[:kept]).reason == "truncated"


def test_damaged_data_is_corrupt() -> None:
    data = bytearray(encoded(Image.fromarray(film(64, 64))))
    at = data.index(b"IDAT") + 10
    data[at : at + 8] = b"\xff" * 8
    assert refused(bytes(data)).reason == "corrupt"


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        (b"", "empty", "0 bytes"),
        (b"patient,grade\n1,2\n", "not_an_image", "text"),
        ("Knie – schön\n".encode() * 40, "not_an_image", "text"),
        (b"%PDF-1.7\n%...", "not_an_image", "PDF"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(40), "not_an_image", "video"),
        (b"\x1a\x45\xdf\xa3" + bytes(40), "not_an_image", "video"),
        (b"\x00\x00\x00\x20ftypheic" + bytes(40), "unsupported", "HEIC"),
        (b"GIF89a" + bytes(40), "unsupported", "GIF"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(40), "unsupported", "7z"),
        (b"PK\x05\x06" + bytes(18), "unsupported", "ZIP"),
        (b"\x93NUMPY" + bytes(40), "not_an_image", "NumPy"),
        (b"BM" + b"just words that start like that", "not_an_image", "text"),
        (bytes(500), "not_an_image", "no known format"),
    ],
)
def test_other_files_are_told_apart(data: bytes, reason: str, said: str) -> None:
    rejection = refused(data)
    assert rejection.reason == reason
    assert said in rejection.detail


def test_names_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "Röntgen — Knie.dcm"
    path.write_bytes(encoded(Image.fromarray(film()), "JPEG"))
    study = read_file(path)
    assert study.source == str(path)
    assert study.radiographs[0].source == str(path)
    assert read_file(str(path), source="given").radiographs[0].source == "given"


def test_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(path: str | Path, **options: Any) -> str:
        (rejection,) = read_file(path, **options).rejections
        return rejection.reason

    assert reason(tmp_path / "absent.png") == "not_found"
    assert reason("a\0b.png") == "not_found"
    assert reason("x" * 5000) == "not_found"
    assert reason(tmp_path) == "not_an_image"
    big = tmp_path / "big.png"
    big.write_bytes(bytes(100))
    assert reason(big, limits=Limits(max_bytes=99)) == "too_large"
    assert reason(big / "below.png") == "not_found"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert reason(tmp_path / "pipe") == "not_an_image"

    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    def broken(_: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert reason(big) == "no_permission"
    monkeypatch.setattr(Path, "read_bytes", broken)
    assert reason(big) == "failed"


_SEEDS = [
    encoded(Image.fromarray(film()).convert(mode), form)
    for form, mode in [("PNG", "L"), ("PNG", "P"), ("JPEG", "RGB"), ("TIFF", "L"), ("WebP", "RGB"), ("BMP", "L")]
] + [encoded(Image.fromarray(film(top=4095)), "TIFF", compression="tiff_lzw")]


@given(st.sampled_from(_SEEDS), st.integers(0, 2000), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
@settings(max_examples=100, deadline=None)
def test_damage_never_raises(seed: bytes, length: int, edits: list[tuple[int, int]]) -> None:
    data = bytearray(seed[:length])
    for position, value in edits:
        if position < len(data):
            data[position] = value
    study = read_bytes(bytes(data), source="x", limits=Limits(max_pixels=1_000_000))
    assert study.radiographs or study.rejections


@given(st.binary(max_size=600), st.sampled_from([seed[:12] for seed in _SEEDS] + [b""]))
@settings(max_examples=80, deadline=None)
def test_random_bytes_never_raise(tail: bytes, head: bytes) -> None:
    study = read_bytes(head + tail, source="x", limits=Limits(max_pixels=1_000_000))
    assert study.radiographs or study.rejections


@given(st.binary(max_size=1100))
@quick
def test_sniffing_takes_anything(head: bytes) -> None:
    sniff(head)


def test_threads_read_alike() -> None:
    with ThreadPoolExecutor(4) as pool:
        studies = list(pool.map(lambda data: read_bytes(data, source="x"), _SEEDS * 8))
    for study, seed in zip(studies, _SEEDS * 8, strict=True):
        np.testing.assert_array_equal(study.radiographs[0].pixels, one(seed).pixels)


def test_import_is_light() -> None:
    code = "import sys, kneexray.read; print([m for m in ('PIL', 'pydicom', 'imagecodecs', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_webp_is_pillows_luma(shared_data: Path) -> None:
    for path in sorted((shared_data / "chen2018" / "val" / "2").glob("*.webp"))[:3]:
        with Image.open(path) as image:
            expected = np.asarray(image.convert("L")) / np.float32(255)
        np.testing.assert_array_equal(one(path.read_bytes()).pixels, expected)


def test_real_16_bit_films(shared_data: Path) -> None:
    found = 0
    for path in sorted((shared_data / "gornale" / "MedicalExpert-I" / "0Normal").glob("*.png")):
        with Image.open(path) as image:
            if image.mode != "I;16":
                continue
            stored = np.asarray(image)
        found += 1
        np.testing.assert_allclose(one(path.read_bytes()).pixels, stored / 65535, atol=1e-7)
        if found == 3:
            return
    pytest.fail("no 16-bit films were found")
