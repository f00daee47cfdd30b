"""From stored values to what a light box shows: the grayscale transformations of PS3.3 and PS3.4 annex N, onto [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneexray.read.dicom_frames import Frame, PixelFormat
from kneexray.read.dicom_header import Header
from kneexray.read.scaling import depth_for

# A window that leaves the middle 98 % of the pixels within this part of the display range belongs to other pixel data:
# mostly 8-bit copies that kept the window of their 12-bit originals.
_LEAST_SPREAD = 0.1
_TABLE_LIMIT = 1 << 16

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Lut:
    """A look-up table: ``table`` starts at input ``first``; ``maximum`` is its full scale (PS3.3 C.11.1.1, C.11.2.1.1)."""

    first: int
    table: Values
    maximum: float

    def __call__(self, values: Values) -> Values:
        index = np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(self.table) - 1)
        return np.asarray(self.table[index])


@dataclass(frozen=True, slots=True)
class _Rescale:
    """Rescale Slope and Intercept (PS3.3 C.11.1.1.2)."""

    slope: float
    intercept: float

    def __call__(self, values: Values) -> Values:
        return values * self.slope + self.intercept


@dataclass(frozen=True, slots=True)
class _Window:
    """Window center and width (PS3.3 C.11.2.1.2, C.11.2.1.3), onto [0, 1]."""

    center: float
    width: float
    function: str

    def __call__(self, values: Values) -> Values:
        if self.function == "SIGMOID":
            return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - self.center) / self.width, -700, 700))))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.center) / self.width + 0.5, 0, 1)
        if self.width == 1:
            return np.asarray(values > self.center - 0.5, np.float64)
        return np.asarray(np.clip((values - (self.center - 0.5)) / (self.width - 1) + 0.5, 0, 1))


def to_display(frame: Frame, form: PixelFormat, header: Header) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return (H, W) float32 in [0, 1], bone bright, and what was odd.

    The order is that of PS3.4 N.2: Modality LUT or rescale, then VOI LUT or the first window (the LUT where both are there,
    as it is the finer statement), then the polarity. MONOCHROME1 and Presentation LUT Shape INVERSE each ask for inversion, and
    together for one (PS3.3 C.7.6.1 and C.8.11.3 demand the pair). Without VOI the stored range becomes [0, 1], see :func:`_stored_range`;
    so it does where the window plainly belongs to other pixel data. Padding (PS3.3 C.7.5.1.1.2) becomes black, whatever its
    value, and takes no part in finding ranges. Colour is only scaled.
    """
    values = frame.values
    if not form.is_monochrome:
        return np.asarray(values / np.float64((1 << frame.bits) - 1), np.float32), ()
    warnings: list[str] = []
    padded = _padding(values, header, signed=form.signed)
    seen = values if padded is None else values[~padded]
    modality = _modality(header, form, warnings)
    voi = _voi(header, warnings, reached=_reached(modality, form, frame.bits))
    inverted = form.photometric == "MONOCHROME1" or header.text("PresentationLUTShape").upper() == "INVERSE"
    low, high = sorted(modality(np.array(_stored_range(seen, form, frame.bits), np.float64)))
    if isinstance(modality, _Lut):
        low, high = 0.0, modality.maximum  # the table's own full scale

    full = _Window(center=(low + high) / 2, width=max(high - low, 1e-30), function="LINEAR_EXACT")
    if isinstance(voi, _Window):
        sample = modality(seen.ravel()[:: max(seen.size // 20_000, 1)].astype(np.float64))
        if _spread(voi(sample)) < _LEAST_SPREAD < _spread(full(sample)):
            warnings.append(f"the window {voi.center:g}/{voi.width:g} does not fit the pixel data and was ignored")
            voi = full

    def display(stored: Values) -> Values:
        shown = (voi or full)(modality(stored))
        return 1 - shown if inverted else shown

    pixels = _through_table(values, display)
    if padded is not None:
        pixels[padded] = 0
    return pixels, tuple(warnings)


def _through_table(values: NDArray[np.integer], function: Callable[[Values], Values]) -> NDArray[np.float32]:
    """Apply a function of single pixels, once for each possible value where that is less work."""
    low, high = min(int(values.min()), 0), int(values.max())
    if high - low >= _TABLE_LIMIT:
        return function(values.astype(np.float64)).astype(np.float32)
    table = function(np.arange(low, high + 1, dtype=np.float64)).astype(np.float32)
    return np.asarray(table[values if low == 0 else values.astype(np.int32) - low])


def _stored_range(values: NDArray[np.integer], form: PixelFormat, frame_bits: int) -> tuple[float, float]:
    """Return the stored values that stand for the ends of the display range where no VOI says so.

    Bits Stored below Bits Allocated, or of 8 and less, was set on purpose and is believed: 8, 12 and 16 bits of one film
    then agree, and so do MONOCHROME1 and its inverse. Bits Stored 16 of 16 says nothing (12-bit data are common): the smallest
    usual depth that holds the values is taken, as for PNG and TIFF. Signed data that are never negative are taken for unsigned.
    """
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    bits = frame_bits
    if bits == form.bits_allocated and bits > 8:
        bits = min(bits, depth_for(high if low >= 0 else 2 * max(high, -low - 1) + 1))
    if low < 0:
        return -(1 << bits - 1), (1 << bits - 1) - 1
    return 0, (1 << min(bits, frame_bits - form.signed)) - 1


def _spread(values: Values) -> float:
    low, high = np.percentile(values, (1, 99)) if values.size else (0.0, 0.0)
    return float(high - low)


def _padding(values: NDArray[np.integer], header: Header, *, signed: bool) -> NDArray[np.bool_] | None:
    """Return where the padding is, or None where there is none or nothing else."""
    value = header.numbers("PixelPaddingValue", signed=signed)[:1]
    if not value:
        return None
    bounds = (*value, *header.numbers("PixelPaddingRangeLimit", signed=signed)[:1])
    padded = np.asarray((values >= min(bounds)) & (values <= max(bounds)))
    return padded if padded.any() and not padded.all() else None


def _modality(header: Header, form: PixelFormat, warnings: list[str]) -> _Lut | _Rescale:
    items = header.items("ModalityLUTSequence")
    lut = _lut(items[0], warnings, reached=_possible(form, form.bits_allocated)) if items else None
    if lut is not None:
        return lut
    slope, intercept = (header.numbers(keyword)[:1] for keyword in ("RescaleSlope", "RescaleIntercept"))
    scale, offset = slope[0] if slope else 1.0, intercept[0] if intercept else 0.0
    if scale == 0 or not np.isfinite([scale, offset]).all():
        warnings.append(f"the rescale slope {scale:g} and intercept {offset:g} make no sense and were ignored")
        scale, offset = 1.0, 0.0
    return _Rescale(scale, offset)


def _possible(form: PixelFormat, bits: int) -> tuple[float, float]:
    """Return the least and the greatest value that the pixels can hold."""
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if form.signed else (0, (1 << bits) - 1)


def _reached(modality: _Lut | _Rescale, form: PixelFormat, bits: int) -> tuple[float, float]:
    """Return the least and the greatest value that ``modality`` can give for this image."""
    if isinstance(modality, _Lut):
        return 0, modality.maximum
    ends = modality(np.array(_possible(form, bits), np.float64))
    return float(ends.min()), float(ends.max())


def _voi(header: Header, warnings: list[str], *, reached: tuple[float, float]) -> _Lut | _Window | None:
    items = header.items("VOILUTSequence")
    lut = _lut(items[0], warnings, reached=reached) if items else None
    if lut is not None:
        return _Lut(lut.first, lut.table / lut.maximum, 1.0)
    center, width = header.numbers("WindowCenter"), header.numbers("WindowWidth")
    if not center or not width:
        if "WindowCenter" in header and header.text("WindowCenter"):
            warnings.append("the window center or width is no number and was ignored")
        return None
    function = header.text("VOILUTFunction").upper() or "LINEAR"
    window = _Window(center[0], width[0], function if function in ("LINEAR_EXACT", "SIGMOID") else "LINEAR")
    least = 1 if window.function == "LINEAR" else 0
    if not np.isfinite([center[0], width[0]]).all() or width[0] < least or width[0] == 0:
        warnings.append(f"the window {center[0]:g}/{width[0]:g} makes no sense and was ignored")
        return None
    return window


def _lut(item: Header, warnings: list[str], *, reached: tuple[float, float]) -> _Lut | None:
    """Return the look-up table of a LUT sequence's item, for inputs between the two values ``reached``.

    Its full scale is that of the depth which holds its entries, where fewer bits are used than the descriptor declares: 12-bit
    tables declared as 16 are common, since PS3.3 C.11.2.1.1 allows 8 and 16 only.
    """
    descriptor = item.numbers("LUTDescriptor")
    content = item.octets("LUTData")
    if len(descriptor) == 3:
        entries, bits = int(descriptor[0]) % 65536 or 65536, int(descriptor[2])
        wide = len(content) >= 2 * entries
        table = np.frombuffer(content[: 2 * entries if wide else entries], item.word if wide else "u1").astype(np.float64)
        if 8 <= bits <= 16 and len(table) == entries and table.max() > table.min():
            first = _first_input(int(descriptor[1]), entries, reached)
            return _Lut(first, table, float((1 << depth_for(float(table.max()))) - 1))
    warnings.append("a look-up table of the DICOM image is damaged and was ignored")
    return None


def _first_input(word: int, entries: int, reached: tuple[float, float]) -> int:
    """Return the second value of a LUT descriptor, whose 16 bits are signed where inputs can be negative (PS3.3 C.11.2.1.1).

    The value representation in the file says nothing: implicit VR has none, and wrong ones are common. Where the table would
    lie beside all inputs by that rule, and meets them by the other, the other is taken.
    """
    low, high = reached
    unsigned = word & 0xFFFF
    signed = unsigned - (1 << 16) if unsigned >= 1 << 15 else unsigned
    ruled, other = (signed, unsigned) if low < 0 else (unsigned, signed)
    meets = [first <= high and first + entries > low for first in (ruled, other)]
    return other if meets == [False, True] else ruled
