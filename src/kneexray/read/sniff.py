"""Tell what bytes are by their first bytes; names and extensions say nothing."""

from __future__ import annotations

import struct
from types import MappingProxyType

SNIFF_BYTES = 1024
"""How many leading bytes :func:`sniff` looks at."""

IMAGES = frozenset({"PNG", "JPEG", "TIFF", "WebP", "BMP"})
ARCHIVES = frozenset({"ZIP", "TAR", "gzip", "bzip2", "xz"})

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (128, b"DICM", "DICOM"),  # first: the 128 bytes before it may be those of a TIFF (PS3.10 section 7.1)
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "TIFF"),
    (0, b"MM\x00+", "TIFF"),
    (8, b"WEBP", "WebP"),
    (0, b"DICM", "DICOM"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"PK\x05\x06", "ZIP"),
    (257, b"ustar", "TAR"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"GIF8", "GIF"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyp", "MP4 or QuickTime video"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM video"),
    (8, b"AVI ", "AVI video"),
    (0, b"\x00\x00\x01\xba", "MPEG video"),
    (0, b"%PDF", "PDF"),
    (0, b"{\\rtf", "RTF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office document"),
    (0, b"8BPS", "Photoshop"),
    (0, b"Rar!\x1a\x07", "RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (344, b"n+1\x00", "NIfTI"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"\x93NUMPY", "NumPy array"),
    (0, b"SQLite format 3\x00", "SQLite database"),
    (0, b"\x7fELF", "ELF program"),
    (0, b"MZ", "Windows program"),
)
# The smallest header sizes that BMP knows (BITMAPCOREHEADER ... BITMAPV5HEADER): "BM" alone is too weak a signature.
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})

REMEDIES: MappingProxyType[str, str] = MappingProxyType(
    {
        "GIF": "save it as PNG",
        "JPEG 2000": "save it as PNG, or keep it inside DICOM",
        "JPEG XL": "save it as PNG",
        "HEIC": "save it as PNG or JPEG",
        "AVIF": "save it as PNG or JPEG",
        "Photoshop": "save it as PNG or TIFF",
        "RAR archive": "unpack it, or pack it as ZIP",
        "7z archive": "unpack it, or pack it as ZIP",
        "NIfTI": "give the DICOM files that it was made from",
    }
)
"""Formats that may hold a film but are not read (``unsupported``), and what to do; every other name is ``not_an_image``."""


def sniff(head: bytes) -> str | None:
    """Return the name of the format that ``head`` (the first :data:`SNIFF_BYTES` bytes, or all) starts, or None.

    Ready to read are the names in :data:`IMAGES`, ``DICOM`` and, by ``find_sources``, :data:`ARCHIVES`.
    """
    for offset, magic, name in _SIGNATURES:
        if head.startswith(magic, offset):
            return name
    if head.startswith(b"BM") and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADERS:
        return "BMP"
    if _is_bare_dicom(head):
        return "DICOM"
    return "text" if _is_text(head) else None


def _is_bare_dicom(head: bytes) -> bool:
    """Say whether a DICOM data set starts right away, without the preamble and ``DICM`` of PS3.10 section 7.1.

    It does when its first element is of group 0002 or 0008 and has a known VR or a short implicit length (PS3.5 section 7.1).
    """
    if len(head) < 16:
        return False
    for order in "<>":
        group, element, length = struct.unpack_from(f"{order}HHI", head)
        if group in (0x0002, 0x0008) and element <= 0x0018:
            return head[4:6] in (b"UL", b"CS", b"UI", b"OB", b"DA", b"SH", b"LO") or (order == "<" and length <= 64)
    return False


def _is_text(head: bytes) -> bool:
    """Say whether ``head`` is printable ASCII or UTF-8; a character cut at its end does not count against it."""
    if not head or any(byte < 9 or 13 < byte < 32 for byte in head):
        return False
    try:
        head[: max(len(head) - 3, 1)].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 6
    return True
