"""Bytes or a path to a study. What is wrong with a file is told in the study, never raised."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from kneexray.errors import ReadError
from kneexray.read.limits import DEFAULT_LIMITS, Limits
from kneexray.read.sniff import ARCHIVES, IMAGES, REMEDIES, SNIFF_BYTES, sniff
from kneexray.types import Rejection, Study

_READABLE = "DICOM, PNG, JPEG, TIFF, WebP or BMP"


def read_bytes(data: bytes, *, source: str, limits: Limits = DEFAULT_LIMITS) -> Study:
    """Return the radiographs in the image file ``data``, and a rejection for each that cannot be read.

    The format is told from the bytes. ``source`` names the file in the results. Safe to call from several threads.
    """
    if not data:
        return rejected(source, ReadError("empty", "the file is empty (0 bytes); copy or export it again"))
    kind = sniff(data[:SNIFF_BYTES])
    if kind == "DICOM":
        from kneexray.read.dicom import read_dicom

        return read_dicom(data, source=source, limits=limits)
    if kind in IMAGES:
        from kneexray.read.images import read_image

        return read_image(data, kind, source=source, limits=limits)
    return rejected(source, _refusal(kind))


def read_file(path: str | Path, *, source: str | None = None, limits: Limits = DEFAULT_LIMITS) -> Study:
    """Return the study of the image file at ``path``, as :func:`read_bytes` does; ``source`` names it in the results (default: the path).

    A missing, unreadable or oversized file is a rejection as well. Archives are opened by
    :func:`~kneexray.read.sources.find_sources` only.
    """
    name = str(path) if source is None else source
    try:
        data = load_file(path, limits=limits)
    except ReadError as error:
        return rejected(name, error)
    return read_bytes(data, source=name, limits=limits)


def load_file(path: str | Path, *, limits: Limits) -> bytes:
    """Return the bytes of a regular file; raises :class:`ReadError` where that is not possible or too much."""
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise ReadError("not_an_image", "the path is a folder; give the files in it, or use find_sources")
        if not stat.S_ISREG(status.st_mode):
            raise ReadError("not_an_image", "the path is a device, pipe or socket; give a regular file")
        if status.st_size > limits.max_bytes:
            raise ReadError("too_large", f"the file has {status.st_size} bytes, and {limits.max_bytes} are allowed; raise max_bytes")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise explain_os_error(error, "file") from error


def explain_os_error(error: OSError | ValueError, what: str) -> ReadError:
    """Return what a failed system call means for the person who gave the path (ValueError: a NUL in it)."""
    if isinstance(error, PermissionError):
        return ReadError("no_permission", f"the {what} may not be read; ask for read permission")
    missing = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
    if isinstance(error, ValueError) or error.errno in missing:
        return ReadError("not_found", f"there is no such {what}; check the path")
    return ReadError("failed", f"the {what} cannot be read ({error.strerror}); check the disk or network it lies on")


def rejected(source: str, error: ReadError) -> Study:
    """Return the study that holds nothing but ``error`` as a rejection."""
    return Study(source, rejections=(Rejection(source, error.reason, error.detail),))


def _refusal(kind: str | None) -> ReadError:
    if kind is None:
        return ReadError("not_an_image", f"the bytes are of no known format; give radiographs as {_READABLE}")
    if kind in ARCHIVES:
        return ReadError(
            "unsupported", f"the file is a {kind} archive, not an image; read it with find_sources, and not under an image's name"
        )
    if kind in REMEDIES:
        return ReadError("unsupported", f"the file is {kind}, which is not read; {REMEDIES[kind]}")
    return ReadError("not_an_image", f"the file is {kind}; give radiographs as {_READABLE}")
