"""Look whether a TIFF is all there before Pillow does, which would only warn and stumble on later."""

from __future__ import annotations

import struct
from types import MappingProxyType

from kneexray.errors import ReadError

# Sizes of field types in bytes: TIFF 6.0 section 2, and BigTIFF's 13 and 16 to 18.
_SIZES: MappingProxyType[int, int] = MappingProxyType(
    {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
)
# Width, height, bits per sample, compression, strip and tile offsets and lengths: no image without them.
_ESSENTIAL = frozenset({256, 257, 258, 259, 273, 279, 324, 325})
_MOST_PAGES = 10_000


def check_directories(data: bytes) -> None:
    """Raise :class:`ReadError` when a page's directory, or a table of it that decoding needs, lies beyond the end of ``data``."""
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    word, count_format, entry_format = ("Q", "Q", "HHQQ") if big else ("I", "H", "HHII")
    try:
        (offset,) = struct.unpack_from(order + word, data, 8 if big else 4)
        seen: set[int] = set()
        while offset and offset not in seen and len(seen) < _MOST_PAGES:
            seen.add(offset)
            (count,) = struct.unpack_from(order + count_format, data, offset)
            offset += struct.calcsize("=" + count_format)
            for _ in range(count):
                tag, kind, length, value = struct.unpack_from(order + entry_format, data, offset)
                offset += struct.calcsize("=" + entry_format)
                size = _SIZES.get(kind, 1) * length
                if tag in _ESSENTIAL and size > struct.calcsize("=" + word) and value + size > len(data):
                    raise struct.error
            (offset,) = struct.unpack_from(order + word, data, offset)
    except (struct.error, OverflowError):
        raise ReadError("truncated", f"the TIFF ends after {len(data)} bytes, before its directories do; copy or export it again") from None
