"""``kneexray evaluate``."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kneexray.evaluate import EvaluationInput
    from kneexray.evaluate_report import Picture


def evaluate(
    model: Annotated[Path, typer.Argument(help="A bundle, a run folder, or a predictions file (Parquet).")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="A manifest or folder of labelled images; not needed for a predictions file.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split to judge on (default: test; of a predictions file: every row).")] = "",
    task: Annotated[str, typer.Option(help="What to judge; the model's own task unless told otherwise.")] = "",
    roi: Annotated[str, typer.Option(help="whole: the images are crops of one knee; auto: decide.")] = "whole",
    jobs: Annotated[int, typer.Option(min=0, help="Threads (0: one a core).")] = 0,
) -> None:
    """Measure a model on labelled images: metrics with patient-bootstrap intervals, figures, a report."""
    from kneexray.cli._extras import need

    need("eval", "matplotlib", "pyarrow")
    from kneexray.evaluate import evaluate as measure
    from kneexray.evaluate_report import markdown_table, write_evaluation
    from kneexray.provenance import command_line

    with ExitStack() as stack:
        inputs, thumbnail, heatmap = _answers(model, data, split=split, task=task, roi=roi, jobs=jobs, stack=stack)
        evaluation = measure(inputs, invalid="drop")
        report = write_evaluation(
            evaluation,
            inputs,
            out,
            thumbnail=thumbnail,
            heatmap=heatmap,
            provenance={"Command": command_line(sys.argv, home=str(Path.home()))},
        )
    typer.echo(markdown_table(evaluation))
    units = evaluation["bootstrap"]["unit"]
    typer.echo(f"{evaluation['n']} images, {evaluation['n_patients']} {units}s, split by {evaluation['split_quality']} -> {report}")


def _answers(
    model: Path, data: Path | None, *, split: str, task: str, roi: str, jobs: int, stack: ExitStack
) -> tuple[EvaluationInput, Picture | None, Picture | None]:
    """Return a model's answers, and functions that draw a film and its heatmap where the films are at hand."""
    if model.suffix == ".parquet":
        from kneexray.predictions_file import read_predictions

        return _of_split(read_predictions(model, task=task or None, invalid="drop"), split), None, None
    from kneexray.answers import Pictures, answer
    from kneexray.bundle import read_card
    from kneexray.cli.predict import roi_mode
    from kneexray.datasets import manifest as manifests
    from kneexray.errors import ConfigError
    from kneexray.predict import Predictor

    if data is None:
        raise ConfigError(f"{model}: judging a model needs labelled images; give them with --data MANIFEST.")
    bundle = _bundle(model, stack)
    predictor = Predictor(tasks=[task or read_card(bundle).task], models=[bundle], roi_mode=roi_mode(roi), threads=1)
    manifest = manifests.load(data, task=task or read_card(bundle).task)
    pictures = Pictures(predictor, manifest)
    return answer(predictor, manifest, split=split or "test", jobs=jobs), pictures.film, pictures.heatmap


def _of_split(inputs: EvaluationInput, split: str) -> EvaluationInput:
    """Return the rows of ``split``, or all where none is named."""
    import numpy as np

    from kneexray.errors import DataError, choices

    if not split:
        return inputs
    chosen = np.array([name == split for name in inputs.split])
    if not chosen.any():
        raise DataError(choices("split", split, {name for name in inputs.split if name}))
    return inputs.take(chosen)


def _bundle(model: Path, stack: ExitStack) -> Path:
    """Return the folder of a bundle; a run folder is exported into a temporary one, so that what is judged is what would be used."""
    from kneexray.bundle import CARD

    if (model / CARD).is_file() or not (model / "config.json").is_file():
        return model
    from kneexray.cli._extras import need

    need("train", "torch", "onnx", "timm")
    from kneexray.train.export import export

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kneexray-")))
    export([model], folder, command=["kneexray", "export", str(model)])
    return folder
