"""The page of a model: made from its card, and kept where people look."""

from __future__ import annotations

from pathlib import Path

from kneexray.bundle import SHIPPED, read_card, shipped
from kneexray.model_card import PAGE, markdown


def test_pages_of_shipped_models_are_made_from_their_cards(root: Path):
    for task in SHIPPED:
        page = markdown(read_card(shipped(task)))
        assert (shipped(task) / PAGE).read_text(encoding="utf-8") == page
        assert (root / "cards" / f"{task}.md").read_text(encoding="utf-8") == page


def test_a_page_says_what_must_be_said():
    card = read_card(shipped("kl"))
    page = markdown(card)
    assert page.startswith("---\nlicense: apache-2.0\n")
    said = ("For research use. Not a medical device.", card.sha256, card.data.licence, "patient-level bootstrap")
    assert [words for words in said if words not in page] == []
