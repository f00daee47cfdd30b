"""From bytes, files, folders and archives to radiographs: DICOM, PNG, JPEG, TIFF, WebP and BMP.

Nothing here raises for bad content: what cannot be read is a :class:`~kneexray.types.Rejection` in the study. Pillow, pydicom
and the decoders of compressed DICOM are imported when a file needs them.
"""

from __future__ import annotations

from kneexray.read.limits import DEFAULT_LIMITS as DEFAULT_LIMITS
from kneexray.read.limits import Limits as Limits
from kneexray.read.reader import read_bytes as read_bytes
from kneexray.read.reader import read_file as read_file
from kneexray.read.source import Source as Source
from kneexray.read.sources import find_sources as find_sources

FORMATS = ("DICOM", "PNG", "JPEG", "TIFF", "WebP", "BMP", "ZIP", "TAR")
"""What can be given: image formats, then archives of them."""
