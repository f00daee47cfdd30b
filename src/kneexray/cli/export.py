"""``kneexray export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def export(
    runs: Annotated[list[Path], typer.Argument(help="A run folder made by 'kneexray train'; several make an ensemble.")],
    out: Annotated[Path, typer.Option("--out", help="The bundle folder to write.")],
    mirrored: Annotated[bool, typer.Option(help="Average every answer over the image and its mirror image, inside the network.")] = True,
) -> None:
    """Turn RUNS into a model bundle: one ONNX file with heatmaps inside, and its card."""
    from kneexray.cli._extras import need

    need("train", "torch", "onnx", "timm")
    from kneexray.train.export import export as write_bundle

    card = write_bundle(runs, out, command=sys.argv, mirrored=mirrored)
    scores = ", ".join(f"{name} {card.scores[name]['value']:.3f}" for name in ("accuracy", "qwk", "mae", "ece"))
    typer.echo(f"{card.model_id} -> {out}\non {card.scores['n']} validation images of {card.scores['n_patients']} patients: {scores}")
