"""Everything KneeXRay raises on purpose.

A message says what is wrong, which value, and the remedy.

::

    KneeXRayError
    |-- ReadError             bytes that are no readable radiograph (becomes a Rejection)
    |-- BundleError           a model bundle that is absent, altered or not understood
    |-- DataError             a data set, manifest or label that cannot be used
    |-- ConfigError           a recipe or option that is unknown or out of range
    |-- MissingExtraError     an optional dependency that is not installed
    `-- OutputError           a result that cannot be written (no space, no permission)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KneeXRayError(Exception):
    """Base of every error that KneeXRay raises on purpose."""


class ReadError(KneeXRayError):
    """Bytes that cannot be read as a radiograph.

    ``reason`` is one of :data:`kneexray.types.REASONS`, ``detail`` the sentence that names the value and the remedy.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class BundleError(KneeXRayError):
    """A model bundle that is absent, altered, or of a format this version does not know."""


class DataError(KneeXRayError):
    """A data set, manifest or label that cannot be used."""


class ConfigError(KneeXRayError):
    """A recipe key or option that is unknown or out of range."""


class MissingExtraError(KneeXRayError):
    """An optional dependency that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the '{extra}' extra, which is not installed. In a checkout of KneeXRay: pip install '.[{extra}]'")


class OutputError(KneeXRayError):
    """A result that cannot be written: no space, no permission, or a file where a folder is meant."""


def choices(what: str, value: object, known: Iterable[str]) -> str:
    """Return the sentence for an unknown ``value``: the nearest known names first, then all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(str(value), names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    listed = ", ".join(names[:40]) + (f", ... ({len(names)} in all)" if len(names) > 40 else "")
    return f"unknown {what} {str(value)!r}.{hint} Known: {listed or 'none'}."
