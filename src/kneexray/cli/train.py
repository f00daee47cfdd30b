"""``kneexray train``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kneexray.cli._training import opened, quiet

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from kneexray.datasets.manifest import Manifest
    from kneexray.train.recipe.config import Config


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe, or the name of one that ships (kneexray recipes): a TOML file that says what differs from the defaults."
        ),
    ],
    data: Annotated[Path, typer.Option("--data", help="A manifest, or a folder train/ val/ of class folders.")],
    out: Annotated[Path, typer.Option("--out", help="The run folder to write.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Change one value of the recipe: key.subkey=value.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Write pictures of augmented batches into OUT/preview and stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a stopped run left off.")] = False,
    folds: Annotated[int, typer.Option(min=0, help="Cross-validate: this many folds by patient of all but split 'test'.")] = 0,
) -> None:
    """Train a model as RECIPE says, on the splits 'train' and 'val' of the data; with --folds, a run a fold, OUT/fold-0 and so on.

    For several GPUs or nodes: torchrun --nproc-per-node N -m kneexray train ...
    """
    from kneexray.cli._extras import need

    need("train", "torch", "lightning", "timm")
    from lightning.pytorch.callbacks import RichProgressBar

    from kneexray.train.processes import joined
    from kneexray.train.run import train as run_training

    quiet()
    config, manifest, also = opened(recipe, data, overrides or ())
    if preview:
        from kneexray.train.preview import write_preview

        for path in write_preview(config, [manifest, *also], out / "preview"):
            typer.echo(path)
        return
    watchers = [RichProgressBar()] if sys.stderr.isatty() else []
    with joined() as share:
        if folds:
            said = _folds(config, manifest, out, folds=folds, resume=resume, watchers=watchers)
        else:
            record = run_training(config, manifest, out, command=sys.argv, also=also, resume=resume, callbacks=watchers)
            said = _in_short(record["outputs"]["best"], manifest, out)
        if share.first:
            typer.echo(said)


def _in_short(kept: dict[str, float], manifest: Manifest, out: Path) -> str:
    return (
        f"epoch {kept['epoch']} kept: accuracy {kept['val_accuracy']:.3f}, QWK {kept['val_qwk']:.3f}, MAE {kept['val_mae']:.3f} "
        f"on {len(manifest.split('val'))} validation images (one pass each, split by {manifest.split_quality})\n"
        f"next: kneexray export {out} --out BUNDLE"
    )


def _folds(config: Config, manifest: Manifest, out: Path, *, folds: int, resume: bool, watchers: list[Callback]) -> str:
    from kneexray.cli.data_split import clusters_of
    from kneexray.datasets.split import folds as split_into
    from kneexray.train.crossval import PREDICTIONS, cross_validate
    from kneexray.train.module import validation_metrics

    pool = replace(manifest, examples=tuple(e for e in manifest.examples if e.split != "test"), leaks=())
    made = split_into(pool, k=folds, seed=config.seed, clusters=clusters_of(None, manifest))
    answers = cross_validate(config, made, out, command=sys.argv, resume=resume, callbacks=watchers)
    measured = validation_metrics(answers.probabilities, answers.target)
    notes = "".join(f"note: {note}\n" for note in answers.notes)
    return (
        f"out of fold, {len(answers.file)} images by {answers.split_quality}: "
        f"accuracy {measured['accuracy']:.3f}, QWK {measured['qwk']:.3f}, MAE {measured['mae']:.3f}\n{notes}"
        f"next: kneexray evaluate {out / PREDICTIONS} --out DIR; kneexray export {out}/fold-* --out BUNDLE"
    )
