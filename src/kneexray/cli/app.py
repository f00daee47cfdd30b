"""The ``kneexray`` command: its groups, its exit codes, and how errors reach a person."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated

import typer

from kneexray.cli import (
    _logs,
    batch,
    card,
    compare,
    data,
    demo,
    evaluate,
    explain,
    export,
    info,
    predict,
    recipes,
    serve,
    train,
    tune,
    workbench,
)
from kneexray.errors import ConfigError, KneeXRayError
from kneexray.version import __version__

DONE, FAILED, WRONG_USE = 0, 1, 2

app = typer.Typer(
    name="kneexray",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Grade knee radiographs, and make, audit and evaluate the models that do it. For research use; not a medical device.",
)
for command in (
    demo.demo,
    info.info,
    predict.predict,
    batch.batch,
    recipes.recipes,
    train.train,
    tune.tune,
    evaluate.evaluate,
    compare.compare,
    explain.explain,
    export.export,
    card.card,
    serve.serve,
    workbench.workbench,
):
    app.command()(command)
app.add_typer(data.app, name="data")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"kneexray {__version__}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens, and full tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options before the command."""
    _logs.start(verbose=verbose)


def run(arguments: Sequence[str]) -> int:
    """Run the command line ``arguments`` and return the exit code: 0 done, 1 failed, 2 wrong use."""
    try:
        app(args=list(arguments), prog_name="kneexray")
    except SystemExit as end:  # how the parser ends every command, wrong use (2) included
        return end.code if isinstance(end.code, int) else FAILED
    except KneeXRayError as error:
        logging.getLogger("kneexray").info("the command failed", exc_info=True)
        typer.echo(f"error: {error}", err=True)
        return WRONG_USE if isinstance(error, ConfigError) else FAILED
    return DONE
