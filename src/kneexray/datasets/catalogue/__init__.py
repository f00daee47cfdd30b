"""The public data sets that KneeXRay knows. A new one is a file of this folder and a row here."""

from __future__ import annotations

from types import MappingProxyType

from kneexray.datasets.catalogue import chen2018, gobara, gornale2020, nhanes3, stevepython, wani2021
from kneexray.datasets.catalogue.record import Card, Identity
from kneexray.errors import ConfigError, choices

CATALOGUE: MappingProxyType[str, Card] = MappingProxyType(
    {card.name: card for card in (chen2018.CARD, gornale2020.CARD, wani2021.CARD, gobara.CARD, stevepython.CARD, nhanes3.CARD)}
)


def get_card(name: str) -> Card:
    """Return the card of data set ``name``; raises :class:`~kneexray.errors.ConfigError` that lists the choices."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise ConfigError(choices("data set", name, CATALOGUE)) from None


def identify(stem: str) -> tuple[str, Identity] | None:
    """Return the data set that a file's name belongs to, and the patient and side it tells; None where no set's rule fits."""
    for name, card in CATALOGUE.items():
        if (told := card.identify(stem)) is not None:
            return name, told
    return None
