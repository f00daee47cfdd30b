"""``kneexray demo``: the newcomer's first command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder to write the films and the reports into.")] = Path("kneexray-demo"),
) -> None:
    """Draw five synthetic knees, one a Kellgren-Lawrence grade, grade them, and write the reports."""
    from kneexray.cli.predict import grade_into
    from kneexray.files import make_folder
    from kneexray.synthetic import write_films

    films = out / "films"
    make_folder(films)
    code = grade_into(write_films(films), out)
    typer.echo(f"The knees are synthetic: no patient's image. Open {out / 'report.html'} in a browser.")
    raise typer.Exit(code)
