"""From DICOM pixel data to one array of stored values a frame: native or compressed, monochrome, palette or colour."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneexray.errors import ReadError
from kneexray.read.codestream import decode, decode_rle, inspect
from kneexray.read.dicom_header import Header, PixelData
from kneexray.read.limits import Limits
from kneexray.read.scaling import luma

_RLE = "1.2.840.10008.1.2.5"


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """The Image Pixel Module, PS3.3 C.7.6.3, with its gaps filled and its contradictions resolved."""

    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool
    frames: int

    @property
    def is_monochrome(self) -> bool:
        """Whether the stored values go through the grayscale transformations."""
        return self.samples == 1 and not self.photometric.startswith("PALETTE")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: ``values`` (H, W) integers. ``bits`` are those that carry data. Colour is luma already."""

    values: NDArray[np.integer]
    bits: int


def pixel_format(header: Header, *, limits: Limits) -> tuple[PixelFormat, tuple[str, ...]]:
    """Return the format of the pixel data, and what was odd about it. Raises :class:`ReadError` where it makes no sense."""
    rows, columns = header.integer("Rows"), header.integer("Columns")
    samples = header.integer("SamplesPerPixel", default=1)
    frames = max(header.integer("NumberOfFrames", default=1), 1)
    allocated = header.integer("BitsAllocated")
    stored = header.integer("BitsStored", default=allocated)
    warnings: list[str] = []
    if rows < 1 or columns < 1:
        raise ReadError("corrupt", f"the DICOM image claims to be {columns} x {rows} pixels; export it again")
    if frames > limits.max_frames:
        raise ReadError("too_large", f"the DICOM object has {frames} frames, and {limits.max_frames} are allowed; raise max_frames")
    if rows * columns * frames > limits.max_pixels:
        size = f"{columns} x {rows} pixels" + (f" in {frames} frames" if frames > 1 else "")
        raise ReadError("too_large", f"the DICOM image is {size}, and {limits.max_pixels} in all are allowed; raise max_pixels")
    if samples not in (1, 3):
        raise ReadError("unsupported", f"the DICOM image has {samples} samples per pixel; 1 and 3 are read")
    if allocated not in (1, 8, 16, 32):
        raise ReadError("unsupported", f"the DICOM image has Bits Allocated {allocated}; 1, 8, 16 and 32 are read")
    if not 0 < stored <= allocated:
        warnings.append(f"Bits Stored {stored} does not fit Bits Allocated {allocated}; all allocated bits are used")
        stored = allocated
    high = header.integer("HighBit", default=stored - 1)
    if not stored - 1 <= high < allocated:
        warnings.append(f"High Bit {high} does not fit Bits Stored {stored}; the lowest bits are used")
        high = stored - 1
    photometric = header.text("PhotometricInterpretation").upper()
    if not photometric:
        photometric = "MONOCHROME2" if samples == 1 else "RGB"
        warnings.append(f"the Photometric Interpretation is missing; {photometric} is assumed")
    return PixelFormat(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        signed=header.integer("PixelRepresentation", default=0) == 1,
        planar=header.integer("PlanarConfiguration", default=0) == 1,
        frames=frames,
    ), tuple(warnings)


def frames(pixel_data: PixelData, form: PixelFormat, header: Header, *, transfer_syntax: str) -> Iterator[Frame | ReadError]:
    """Yield each frame in order, or the error that says why it cannot be read."""
    raw = _encapsulated(pixel_data, form, transfer_syntax) if pixel_data.encapsulated else _native(pixel_data, form)
    for item in raw:
        if isinstance(item, Frame) and form.photometric.startswith("PALETTE"):
            try:
                yield _through_palette(item, header)
            except ReadError as error:
                yield error
        else:
            yield item


def _native(pixel_data: PixelData, form: PixelFormat) -> Iterator[Frame | ReadError]:
    """Cut frames out of uncompressed pixel data, PS3.5 section 8.1.1; pydicom undoes bit packing, byte order, planes and 4:2:2."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

    content = memoryview(pixel_data.file)[pixel_data.start : pixel_data.start + pixel_data.length]
    samples = 2 if form.photometric == "YBR_FULL_422" else form.samples
    frame_bits = form.rows * form.columns * samples * form.bits_allocated
    decoder = get_decoder(ExplicitVRLittleEndian if pixel_data.little_endian else ExplicitVRBigEndian)
    for index in range(form.frames):
        if len(content) * 8 < frame_bits * (index + 1):
            needed = ceil(frame_bits * form.frames / 8)
            yield ReadError("truncated", f"the DICOM file holds {len(content)} of the {needed} bytes of its pixel data; copy it again")
            continue
        values, _ = decoder.as_array(
            content,
            index=index,
            validate=False,
            raw=True,
            correct_unused_bits=False,
            rows=form.rows,
            columns=form.columns,
            samples_per_pixel=form.samples,
            photometric_interpretation=form.photometric,
            bits_allocated=form.bits_allocated,
            bits_stored=form.bits_stored,
            pixel_representation=int(form.signed),
            planar_configuration=int(form.planar),
            number_of_frames=form.frames,
            pixel_keyword="PixelData",
            pixel_vr=pixel_data.vr,
        )
        shift = form.high_bit + 1 - form.bits_stored
        yield _frame(values, form, shift=shift, sign_bits=form.bits_stored, bits=form.bits_stored)


def _encapsulated(pixel_data: PixelData, form: PixelFormat, transfer_syntax: str) -> Iterator[Frame | ReadError]:
    """Decode encapsulated frames, PS3.5 section A.4."""
    from pydicom.encaps import generate_frames

    stream = io.BytesIO(pixel_data.file)
    stream.seek(pixel_data.start)
    encoded = generate_frames(stream, number_of_frames=form.frames)
    for index in range(form.frames):
        try:
            data = next(encoded, None)
        except (ValueError, OverflowError, struct.error):  # items that make no sense
            data = None
        if data is None:
            yield ReadError("truncated", f"the DICOM file holds {index} of its {form.frames} compressed frames; copy it again")
            continue
        try:
            yield _decoded(data, form, transfer_syntax)
        except ReadError as error:
            yield error


def _decoded(data: bytes, form: PixelFormat, transfer_syntax: str) -> Frame:
    """Decode one frame by what its bytes are; the transfer syntax only tells RLE, which has no signature."""
    stream = inspect(data)
    if stream is None:
        if transfer_syntax != _RLE:
            raise ReadError(
                "unsupported", f"the DICOM image is compressed as {_name(transfer_syntax)}; export it uncompressed or as JPEG 2000"
            )
        values = decode_rle(
            data, rows=form.rows, columns=form.columns, samples=form.samples, bytes_per_sample=max(form.bits_allocated // 8, 1)
        )
        return _frame(values, form, sign_bits=form.bits_stored, bits=form.bits_stored)
    claimed, expected = (stream.rows, stream.columns, stream.samples), (form.rows, form.columns, form.samples)
    if claimed != expected:
        raise ReadError(
            "corrupt", f"the compressed image is {claimed} and the DICOM header says {expected} (rows, columns, samples); export it again"
        )
    values = decode(data, stream, photometric=form.photometric)
    if values.shape[:2] != (form.rows, form.columns) or values.dtype.kind not in "ui":
        raise ReadError("corrupt", f"the compressed image decodes to {values.shape} {values.dtype}; export it again")
    if form.samples == 3:
        return Frame(values, stream.precision) if values.ndim == 2 else _frame(values, form, bits=stream.precision)
    # Lossy codecs overshoot Bits Stored a little, so values are cut to it only where the stream mistook the sign, whose bits
    # are two's complement then.
    bits = min(form.bits_stored, stream.precision)
    return _frame(values, form, sign_bits=values.dtype.itemsize * 8 if stream.signed == form.signed else bits, bits=bits)


def _frame(values: NDArray[Any], form: PixelFormat, *, bits: int, shift: int = 0, sign_bits: int = 0) -> Frame:
    """Return a frame of decoded ``values``: of monochrome only the ``sign_bits`` above ``shift`` count, colour becomes luma."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    width = values.dtype.itemsize * 8
    unsigned = values.view(f"u{values.dtype.itemsize}")
    if values.ndim == 3:
        if form.photometric.startswith(("YBR_FULL", "YBR_PARTIAL")):
            return Frame(unsigned[..., 0], bits)  # Y is the luma (PS3.3 C.7.6.3.1.2)
        return Frame(luma(unsigned >> max(bits - 16, 0)), min(bits, 16))
    if not form.signed:
        return Frame(unsigned if sign_bits >= width else (unsigned >> shift) & ((1 << sign_bits) - 1), bits)
    left: NDArray[np.integer] = unsigned << max(width - sign_bits - shift, 0)
    return Frame(left.view(f"i{values.dtype.itemsize}") >> max(width - sign_bits, 0), bits)


def _through_palette(frame: Frame, header: Header) -> Frame:
    """Map indices to the luma of their colours, PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6."""
    tables = []
    bits = 8
    for colour in ("Red", "Green", "Blue"):
        descriptor = header.numbers(f"{colour}PaletteColorLookupTableDescriptor")
        content = header.octets(f"{colour}PaletteColorLookupTableData")
        if len(descriptor) != 3 or not content:
            raise ReadError("unsupported", "the DICOM image's colour palette is missing or segmented; export it as MONOCHROME2")
        entries, first, bits = int(descriptor[0]) or 65536, int(descriptor[1]), int(descriptor[2])
        wide = len(content) >= 2 * entries
        table = np.frombuffer(content[: 2 * entries if wide else entries], header.word if wide else "u1")
        tables.append(table if bits != 16 or wide else table.astype(np.uint16) * 257)
    if len({len(table) for table in tables}) != 1 or not 8 <= bits <= 16:
        raise ReadError("corrupt", "the DICOM image's colour palette is damaged; export it as MONOCHROME2")
    greys = luma(np.stack(tables, axis=-1)[np.newaxis])[0]
    return Frame(greys[np.clip(frame.values.astype(np.int64) - first, 0, len(greys) - 1)], bits)


def _name(transfer_syntax: str) -> str:
    from pydicom.uid import UID_dictionary

    known = UID_dictionary.get(transfer_syntax)
    return f"{known[0]} ({transfer_syntax})" if known else transfer_syntax or "an unknown transfer syntax"
