"""What may be said of an error where patients' films are at hand."""

from __future__ import annotations

import sqlite3
import traceback

from kneexray.errors import KneeXRayError


def described(error: Exception) -> str:
    """Return the text of an error of the system or of ours; of any other, which may quote a film, its kind and its places in the code."""
    if isinstance(error, KneeXRayError | OSError | sqlite3.Error):
        return str(error)
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
