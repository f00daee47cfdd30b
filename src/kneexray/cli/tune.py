"""``kneexray tune``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from kneexray.cli._record import write_record
from kneexray.cli._training import opened, quiet


def tune(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe, or the name of one that ships (kneexray recipes); its table [tune] says which keys may take which values."
        ),
    ],
    data: Annotated[Path, typer.Option("--data", help="A manifest, or a folder train/ val/ of class folders.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write. With a search in it, that search goes on.")],
    trials: Annotated[int, typer.Option(min=1, help="How many sets of values to try, those of an earlier start counted.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Change one value of the recipe: key.subkey=value.")] = None,
) -> None:
    """Search for better values of RECIPE's keys; write the best recipe and a page about what was tried."""
    from kneexray.cli._extras import need

    need("train", "torch", "lightning", "timm", "optuna", "tomli_w")
    from kneexray.provenance import command_line
    from kneexray.train.tune.report import write_report
    from kneexray.train.tune.search import BEST, best_trial
    from kneexray.train.tune.search import tune as search

    quiet("optuna")
    started = datetime.now(UTC)
    config, manifest, also = opened(recipe, data, overrides or ())
    study = search(config, manifest, out, trials=trials, command=sys.argv, also=also)
    monitor = config.select.monitor
    made = {"Command": command_line(sys.argv, home=str(Path.home())), "Data": f"{data} (sha256 {manifest.digest()})"}
    page = write_report(study, out, monitor=monitor, provenance=made)
    best = best_trial(study)
    outputs = {"trials": len(study.trials), "best": None if best is None else {"number": best.number, "value": best.value, **best.params}}
    digests = {f"{data} ({m.task.name})": m.digest() for m in (manifest, *also)}
    write_record(out, started, config=config.model_dump(mode="json") | {"trials": trials}, inputs=digests, outputs=outputs)
    if best is None:
        typer.echo(f"no trial came to its end; {page} says why")
        return
    typer.echo(f"trial {best.number} of {len(study.trials)} is the best: {monitor} {best.value:.3f}, chosen on these very images")
    typer.echo(f"{out / BEST}\n{page}")
