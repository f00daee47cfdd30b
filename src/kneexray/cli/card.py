"""``kneexray card``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def card(
    bundle: Annotated[Path, typer.Argument(help="The folder of a model bundle.")],
    evaluation: Annotated[
        list[Path] | None, typer.Option("--evaluation", help="A folder made by 'kneexray evaluate' with this model; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write (default: README.md in the bundle).")] = None,
) -> None:
    """Write a model's card in the form that model hubs expect, with the scores of further evaluations."""
    import json

    from kneexray.errors import DataError
    from kneexray.files import write_whole
    from kneexray.inference.bundle import read_card
    from kneexray.train.export.model_card import PAGE, markdown

    evaluations = []
    for folder in evaluation or ():
        path = folder / "metrics.json"
        try:
            evaluations.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}). Give a folder made by 'kneexray evaluate'.") from error
    page = markdown(read_card(bundle), evaluations)
    write_whole(out or bundle / PAGE, page)
    typer.echo(f"-> {out or bundle / PAGE}")
