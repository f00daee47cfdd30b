"""Asks for optional dependencies before a command starts, so that a missing one is a sentence and not a traceback."""

from __future__ import annotations

from importlib.util import find_spec

from kneexray.errors import MissingExtraError


def need(extra: str, *modules: str) -> None:
    """Raise :class:`~kneexray.errors.MissingExtraError` where one of ``modules`` is not installed."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingExtraError(f"this command ({', '.join(missing)} is missing)", extra)
