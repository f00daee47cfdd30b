"""What the about page says of a model: a choice from its card."""

from __future__ import annotations

from dataclasses import dataclass

from kneexray.inference.bundle import Card
from kneexray.web.translation import Words

SCORES = ("accuracy", "qwk", "mae", "macro_auc", "ece")
"""The scores shown, keys of ``Card.scores``."""


@dataclass(frozen=True, slots=True)
class Score:
    """A score with its 95 % interval, to three digits."""

    name: str
    value: str
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class CardView:
    """A model's card for a reader; ``facts`` are (message key, text) and the texts of cards are English."""

    task: str
    model_id: str
    n: int
    patients: int
    scores_on: str
    scores: tuple[Score, ...]
    facts: tuple[tuple[str, str], ...]
    limits: tuple[str, ...]
    sha256: str


def card_view(card: Card, *, say: Words) -> CardView:
    """Return what the page shows of ``card``."""
    scores = {name: card.scores[name] for name in SCORES if name in card.scores}
    return CardView(
        task=card.task,
        model_id=card.model_id,
        n=card.scores["n"],
        patients=card.scores["n_patients"],
        scores_on=card.scores_on,
        scores=tuple(Score(say(f"score.{name}"), *(f"{s[part]:.3f}" for part in ("value", "low", "high"))) for name, s in scores.items()),
        facts=(
            ("about.use", card.intended_use),
            (
                "about.trained_on",
                f"{card.data.title}: {card.data.images:,} images of {card.data.patients:,} patients. {card.data.licence}.",
            ),
            ("about.network", f"{card.parameters / 1e6:.1f} million parameters, grey input of {card.input.size} x {card.input.size} px."),
            ("about.licence", card.licence),
        ),
        limits=card.limitations,
        sha256=card.sha256,
    )
