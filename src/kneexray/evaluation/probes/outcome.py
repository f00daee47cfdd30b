"""What one change of the films did to a model's answers."""

from __future__ import annotations

from dataclasses import dataclass

from kneexray.evaluation.metrics import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a model made of the films at one strength: ``accuracy`` and ``qwk`` (1 + B,), shares of the N films."""

    strength: float
    accuracy: Floats
    qwk: Floats
    refused: float
    turned_back: float
