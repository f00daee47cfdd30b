"""``kneexray train``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a TOML file that says what differs from the defaults.")],
    data: Annotated[Path, typer.Option("--data", help="A manifest, or a folder train/ val/ of class folders.")],
    out: Annotated[Path, typer.Option("--out", help="The run folder to write.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Change one value of the recipe: key.subkey=value.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Write pictures of augmented batches into OUT/preview and stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a stopped run left off.")] = False,
) -> None:
    """Train a model as RECIPE says, on the splits 'train' and 'val' of the data."""
    from kneexray.cli._extras import need

    need("train", "torch", "lightning", "timm")
    from kneexray.datasets import manifest as manifests
    from kneexray.train import config as configs
    from kneexray.train.run import train as run_training

    if not logging.getLogger().isEnabledFor(logging.INFO):  # it sets its own level when it is imported
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    config = configs.load(recipe, overrides=overrides or ())
    manifest, *also = (manifests.load(data, task=task) for task in config.tasks)
    if preview:
        from kneexray.train.preview import write_preview

        for path in write_preview(config, [manifest, *also], out / "preview"):
            typer.echo(path)
        return
    record = run_training(config, manifest, out, command=sys.argv, also=also, resume=resume, progress=sys.stderr.isatty())
    best = record["outputs"]["best"]
    typer.echo(
        f"best epoch {best['epoch']}: accuracy {best['val_accuracy']:.3f}, QWK {best['val_qwk']:.3f}, MAE {best['val_mae']:.3f} "
        f"on {len(manifest.split('val'))} validation images (one pass each, split by {manifest.split_quality})\n"
        f"next: kneexray export {out} --out BUNDLE"
    )
