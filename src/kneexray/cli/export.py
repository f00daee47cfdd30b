"""``kneexray export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def export(
    runs: Annotated[list[Path], typer.Argument(help="A run folder made by 'kneexray train'; several make an ensemble.")],
    out: Annotated[Path, typer.Option("--out", help="The bundle folder to write.")],
    task: Annotated[str | None, typer.Option(help="Which task, of runs that learned several; their first where not given.")] = None,
    mirrored: Annotated[bool, typer.Option(help="Average every answer over the image and its mirror image, inside the network.")] = True,
    quantize: Annotated[
        str, typer.Option(help="float16: store the weights at half precision, for half the file; int8: compute in 8 bits, for speed.")
    ] = "",
) -> None:
    """Turn RUNS into a model bundle: one ONNX file, with heatmaps inside where the network has an exact one, and its card."""
    from kneexray.cli._extras import need

    need("train", "torch", "onnx", "timm")
    from kneexray.errors import ConfigError, choices
    from kneexray.train.export.export import WEIGHTS
    from kneexray.train.export.export import export as write_bundle
    from kneexray.train.export.model_card import changes

    weights = next((known for known in WEIGHTS if known == (quantize or "float32")), None)
    if weights is None:
        raise ConfigError(choices("--quantize", quantize, WEIGHTS))
    card = write_bundle(runs, out, command=sys.argv, task=task, mirrored=mirrored, weights=weights)
    scores = ", ".join(f"{name} {card.scores[name]['value']:.3f}" for name in ("accuracy", "qwk", "mae", "ece"))
    typer.echo(f"{card.model_id} -> {out}\non {card.scores['n']} held-out images of {card.scores['n_patients']} patients: {scores}")
    if card.quantization:
        typer.echo(f"8 bits against float32 on the same images: {changes(card.quantization)}")
    if not card.class_map:
        typer.echo("this network has no exact class map: predictions come without a heatmap; 'kneexray explain --checkpoint' makes one")
