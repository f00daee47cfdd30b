"""``kneexray compare``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from kneexray.cli._record import write_record


def compare(
    a: Annotated[Path, typer.Argument(metavar="EVAL_A", help="A folder made by 'kneexray evaluate', or a predictions file (Parquet).")],
    b: Annotated[Path, typer.Argument(metavar="EVAL_B", help="The other one, of the same images.")],
    out: Annotated[Path | None, typer.Option("--out", help="A folder for the report; without it the answer is printed only.")] = None,
    task: Annotated[str, typer.Option(help="What to compare, where the files hold several tasks.")] = "",
) -> None:
    """Say which of two models is better on the same knees, as far as the data can tell."""
    from kneexray.cli._extras import need

    need("eval", "matplotlib", "pyarrow", "scipy", "sklearn")
    from kneexray.evaluation.compare import compare as measure
    from kneexray.evaluation.predictions_file import read_predictions
    from kneexray.evaluation.report.comparison import markdown_table, write_comparison
    from kneexray.inference.bundle import sha256_of
    from kneexray.provenance import command_line

    started = datetime.now(UTC)
    files = [path / "predictions.parquet" if path.is_dir() else path for path in (a, b)]
    comparison = measure(*(read_predictions(path, task=task or None, invalid="drop") for path in files))
    typer.echo(markdown_table(comparison))
    for note in comparison["notes"]:
        typer.echo(note)
    typer.echo(comparison["verdict"])
    if out is not None:
        page = write_comparison(comparison, out, provenance={"Command": command_line(sys.argv, home=str(Path.home()))})
        config = {"a": str(a), "b": str(b), "task": task}
        outputs = {"n": comparison["n"], "verdict": comparison["verdict"]}
        write_record(out, started, config=config, inputs={str(file): sha256_of(file) for file in files}, outputs=outputs)
        typer.echo(f"-> {page}")
