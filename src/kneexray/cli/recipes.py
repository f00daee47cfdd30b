"""``kneexray recipes``."""

from __future__ import annotations

from typing import Annotated

import typer


def recipes(name: Annotated[str, typer.Argument(help="Print this recipe, to copy and change.")] = "") -> None:
    """List the recipes that ship, or print one.

    A recipe's name may stand wherever a recipe is asked for: kneexray train kl --data DATA --out RUN.
    """
    from kneexray.train.recipe import shelf

    if name:
        typer.echo(shelf.find(name).read_text(encoding="utf-8"), nl=False)
        return
    found = list(shelf.described())
    width = max(len(one) for one, _ in found)
    for one, what in found:
        typer.echo(f"{one:{width}}  {what}")
