"""JPEG, JPEG-LS and JPEG 2000 codestreams as DICOM holds them, through imagecodecs (libjpeg-turbo, CharLS, OpenJPEG).

The header is read first, so that a stream that claims more pixels than its DICOM header never reaches a decoder.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kneexray.errors import ReadError

_SOC_SIZ = b"\xff\x4f\xff\x51"
_END = b"\xff\xd9"  # EOI of JPEG and JPEG-LS
_JP2 = b"\x00\x00\x00\x0cjP  "
_LOSSLESS_SOF = 0xC3
_JPEG_LS_SOF = 0xF7


@dataclass(frozen=True, slots=True)
class Codestream:
    """What a codestream says of itself. ``colour`` is None where no marker says how three components are to be understood."""

    family: Literal["JPEG", "JPEG-LS", "JPEG 2000"]
    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    lossless: bool = False
    colour: Literal["RGB", "YCBCR"] | None = None


def inspect(data: bytes) -> Codestream | None:
    """Return the header of the codestream in ``data``, or None if it is none. Raises :class:`ReadError` for a damaged header."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _inspect_jpeg(data)
        if data.startswith((_SOC_SIZ, _JP2)):
            return _inspect_jpeg2000(data)
    except (struct.error, IndexError):
        raise ReadError(
            "truncated", f"the compressed image ends after {len(data)} bytes, within its header; export the file again"
        ) from None
    return None


def _inspect_jpeg(data: bytes) -> Codestream:
    """Walk the marker segments of ISO/IEC 10918-1 Annex B (JPEG-LS: ISO/IEC 14495-1 Annex C) up to the frame header."""
    colour: Literal["RGB", "YCBCR"] | None = None
    position = 2
    while True:
        if data[position] != 0xFF:
            raise ReadError("corrupt", f"the compressed image has no marker at byte {position}; export the file again")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        body = position + 4
        if marker == 0xE0 and data[body : body + 4] == b"JFIF":
            colour = "YCBCR"
        elif marker == 0xEE and length >= 14 and data[body : body + 5] == b"Adobe":
            colour = "YCBCR" if data[body + 11] else "RGB"
        elif marker == _JPEG_LS_SOF or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, rows, columns, samples = struct.unpack_from(">BHHB", data, body)
            identifiers = bytes(data[body + 6 + 3 * i] for i in range(samples))
            if marker != _JPEG_LS_SOF and len({data[body + 7 + 3 * i] for i in range(samples)}) > 1:
                colour = "YCBCR"  # nobody subsamples red against green, whatever the other markers say
            return Codestream(
                family="JPEG-LS" if marker == _JPEG_LS_SOF else "JPEG",
                rows=rows,
                columns=columns,
                samples=samples,
                precision=precision,
                lossless=marker == _LOSSLESS_SOF,
                colour="RGB" if identifiers in (b"RGB", b"rgb") and colour != "YCBCR" else colour,
            )
        position += 2 + length


def _inspect_jpeg2000(data: bytes) -> Codestream:
    """Read the SIZ marker segment, ISO/IEC 15444-1 A.5.1, which comes first in a codestream; JP2 boxes before it are skipped."""
    start = data.find(_SOC_SIZ)
    if start < 0:
        raise IndexError
    x1, y1, x0, y0 = struct.unpack_from(">4I", data, start + 8)
    samples, depth = struct.unpack_from(">HB", data, start + 40)
    return Codestream("JPEG 2000", y1 - y0, x1 - x0, samples, (depth & 0x7F) + 1, signed=bool(depth & 0x80))


def decode(data: bytes, stream: Codestream, *, photometric: str) -> NDArray[Any]:
    """Return the decoded image, (H, W) or (H, W, 3) RGB, or (H, W) luma where the codec gives that directly.

    ``photometric`` is the Photometric Interpretation, which says what three components are where the stream does not (PS3.5
    section 8.2.1). Raises :class:`ReadError` for data that is damaged, or that the codec does not decode.
    """
    import imagecodecs

    data = data.rstrip(b"\0") if data.endswith(b"\0\0") else data  # fragments of a fixed size are filled up with zeros
    if stream.family != "JPEG 2000" and _END not in data[-4096:]:
        # libjpeg would fill the rest with grey without a word, and CharLS may search it for seconds.
        raise ReadError("truncated", f"the compressed image ends after {len(data)} bytes, without an end marker; export the file again")
    try:
        if stream.family == "JPEG 2000":
            pixels = imagecodecs.jpeg2k_decode(data)
        elif stream.family == "JPEG-LS":
            pixels = imagecodecs.jpegls_decode(data)
        elif stream.samples == 1 or stream.lossless:
            pixels = imagecodecs.jpeg8_decode(data)
        else:
            colour = stream.colour or ("RGB" if photometric == "RGB" else "YCBCR")
            pixels = imagecodecs.jpeg8_decode(data, colorspace=colour, outcolorspace="GRAYSCALE")
    except ImportError:
        raise
    except NotImplementedError as error:  # sound data of a kind that the codec does not decode, such as components of unlike depth
        raise ReadError("unsupported", f"{stream.family} data of this kind is not read ({error}); export the file uncompressed") from error
    except Exception as error:  # each codec raises its own error class, or ValueError
        cut = stream.family == "JPEG 2000" and _END not in data[-4096:]
        raise ReadError(
            "truncated" if cut else "corrupt", f"the {stream.family} data cannot be decoded ({error}); export the file again"
        ) from error
    return np.asarray(pixels)


def decode_rle(data: bytes, *, rows: int, columns: int, samples: int, bytes_per_sample: int) -> NDArray[Any]:
    """Return (H, W) or (H, W, samples) unsigned integers from a frame of RLE Lossless, PS3.5 Annex G.

    Segments hold one byte plane each, sample by sample, the most significant byte first; their coding is TIFF's PackBits.
    Raises :class:`ReadError` for damaged data.
    """
    if len(data) < 64:
        raise ReadError("truncated", f"the RLE data ends after {len(data)} bytes, within its header of 64; export the file again")
    count, *offsets = struct.unpack_from("<16I", data)
    expected = samples * bytes_per_sample
    if count != expected:
        raise ReadError("corrupt", f"the RLE data has {count} segments where {expected} are expected; export the file again")
    size = rows * columns
    planes = np.empty((samples, bytes_per_sample, size), np.uint8)
    for i, start in enumerate(offsets[:count]):
        stop = offsets[i + 1] if i + 1 < count else len(data)
        decoded = _unpack_bits(data[start:stop], size)
        if len(decoded) < size:
            raise ReadError("truncated", f"RLE segment {i} holds {len(decoded)} of {size} pixels; export the file again")
        planes[i // bytes_per_sample, i % bytes_per_sample] = np.frombuffer(decoded, np.uint8, size)
    values = np.ascontiguousarray(planes.transpose(2, 0, 1)).view(f">u{bytes_per_sample}")[..., 0]  # (H*W, samples)
    values = values.astype(f"u{bytes_per_sample}").reshape(rows, columns, samples)
    return values[..., 0] if samples == 1 else values


def _unpack_bits(segment: bytes, size: int) -> bytes:
    """Decode one PackBits segment of ``size`` bytes and padding: two zeros after its end decode to one byte."""
    import imagecodecs

    try:
        return bytes(imagecodecs.packbits_decode(segment, out=size + len(segment) + 256))
    except Exception as error:
        raise ReadError("corrupt", f"the RLE data cannot be decoded ({error}); export the file again") from error
