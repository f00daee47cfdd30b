"""The same metrics for parts of the data: sides, sources, sexes, image sizes. A model that is right on average may fail in one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np

from kneexray.evaluation.estimates import UNDEFINED, Estimates, Resampling
from kneexray.evaluation.inputs import EvaluationInput
from kneexray.evaluation.metrics import ORDINAL_ONLY
from kneexray.tasks import get_task

FEWEST = 30
"""A group of fewer patients gets no figures: their intervals would be too narrow, and would be read all the same."""

METRICS: tuple[str, ...] = ("accuracy", "balanced_accuracy", "qwk", "mae")
ATTRIBUTES: MappingProxyType[str, str] = MappingProxyType({"side": "Side", "source": "Source", "sex": "Sex", "size": "Image size, px"})
"""What subgroups are made by, and its name in reports."""

_SIDES: MappingProxyType[str, str] = MappingProxyType({"L": "left", "R": "right"})
_SIZES = 4
"""More sizes than this are put together by thirds."""


def subgroups(inputs: EvaluationInput, resampling: Resampling) -> list[dict[str, Any]]:
    """Return a row a group, ``{"attribute", "name", "n", "n_patients", "too_small", "accuracy", ...}``.

    An attribute that has one value only, or none, makes no groups. QWK and MAE are None where the task has no order.
    """
    rows = []
    for attribute, names in _attributes(inputs).items():
        known = sorted({name for name in names if name})
        if len(known) < 2:
            continue
        for name in [*known, *([""] if not all(names) else [])]:
            chosen = np.array([(given or "") == name for given in names])
            rows.append({"attribute": attribute, "name": name or "unknown", **_row(inputs, chosen, resampling)})
    return rows


def measured(task: str) -> list[str]:
    """Return those of :data:`METRICS` that are defined for ``task``."""
    return [name for name in METRICS if get_task(task).ordinal or name not in ORDINAL_ONLY]


def group_name(row: Mapping[str, Any]) -> str:
    """Return what a report calls a row of :func:`subgroups`."""
    return f"{ATTRIBUTES[row['attribute']]}: {_SIDES.get(row['name'], row['name'])}"


def _row(inputs: EvaluationInput, chosen: np.ndarray, resampling: Resampling) -> dict[str, Any]:
    drawn = resampling.take(chosen)
    small, shown = drawn.patients < FEWEST, measured(inputs.task)
    found = None if small else Estimates.of(inputs.probabilities[chosen], inputs.target[chosen], drawn)
    scores = {name: found.scalar(name) if found and name in shown else UNDEFINED for name in METRICS}
    return {"n": int(chosen.sum()), "n_patients": drawn.patients, "too_small": small, **scores}


def _attributes(inputs: EvaluationInput) -> dict[str, Sequence[str | None]]:
    facts = inputs.facts
    named = {"side": inputs.side, "source": inputs.source, "sex": facts.get("sex", ())}
    sizes = list(zip(facts.get("width", ()), facts.get("height", ()), strict=True))
    return {**named, "size": _sizes(sizes)}


def _sizes(sizes: Sequence[tuple[int | None, int | None]]) -> list[str | None]:
    """Name each size; where there are many, by thirds of the longer side."""
    known = {(width, height) for width, height in sizes if width and height}
    if len(known) <= _SIZES:
        return [f"{width} x {height}" if width and height else None for width, height in sizes]
    longest = [max(width, height) if width and height else None for width, height in sizes]
    cuts = np.unique(np.quantile([side for side in longest if side], [0, 1 / 3, 2 / 3, 1], method="nearest"))
    names = [f"longer side {low + (place > 0)} to {high}" for place, (low, high) in enumerate(pairwise(cuts))]
    return [None if side is None else names[max(0, int(np.searchsorted(cuts, side)) - 1)] for side in longest]
