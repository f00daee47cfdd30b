"""``kneexray evaluate``."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kneexray.cli._record import write_record
from kneexray.inference.engines import PROVIDERS

if TYPE_CHECKING:
    from kneexray.datasets.manifest import Manifest
    from kneexray.evaluation.evaluate import EvaluationInput
    from kneexray.evaluation.report.report import Section
    from kneexray.predict import Predictor


def evaluate(
    model: Annotated[Path, typer.Argument(help="A bundle, a run folder, or a predictions file (Parquet).")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="A manifest or folder of labelled images; not needed for a predictions file.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split to judge on (default: test; of a predictions file: every row).")] = "",
    task: Annotated[str, typer.Option(help="What to judge; the model's own task unless told otherwise.")] = "",
    roi: Annotated[str, typer.Option(help="whole: the images are crops of one knee; auto: decide.")] = "whole",
    oa_threshold: Annotated[float, typer.Option(min=0, max=1, help="The probability of OA (KL >= 2) above which the answer is yes.")] = 0.5,
    stress: Annotated[bool, typer.Option("--stress", help="Also grade altered images: joint masked out, blurred, turned, ...")] = False,
    faithfulness: Annotated[bool, typer.Option("--faithfulness", help="Also test whether heatmaps show what the answers rest on.")] = False,
    most: Annotated[int, typer.Option(min=1, help="How many images --stress and --faithfulness use at most.")] = 300,
    jobs: Annotated[int, typer.Option(min=0, help="Threads (0: one a core).")] = 0,
    per_patient: Annotated[
        bool, typer.Option("--per-patient", help="Judge each patient once, by the mean answer: for labels that no knee has for itself.")
    ] = False,
    provider: Annotated[str, typer.Option(help=f"What the network runs on: auto, {', '.join(PROVIDERS)}.")] = "auto",
) -> None:
    """Measure a model on labelled images: metrics with patient-bootstrap intervals, figures, a report."""
    from kneexray.cli._extras import need

    need("eval", "matplotlib", "pyarrow", "scipy", "sklearn")
    from kneexray.evaluation.by_patient import by_patient
    from kneexray.evaluation.evaluate import evaluate as measure
    from kneexray.evaluation.metrics import HEADLINE
    from kneexray.evaluation.report.report import markdown_table, write_evaluation
    from kneexray.inference.bundle import sha256_of
    from kneexray.provenance import command_line

    started = datetime.now(UTC)
    with ExitStack() as stack:
        sections: list[Section] = []
        facts = {"Command": command_line(sys.argv, home=str(Path.home()))}
        thumbnail = heatmap = None
        if model.suffix == ".parquet":
            inputs = _stored(model, task=task, split=split, with_films=stress or faithfulness)
            of = {str(model): sha256_of(model)}
        else:
            from kneexray.evaluation.answers import Pictures, answer

            predictor, manifest = _judged(model, data, task=task, roi=roi, provider=provider, stack=stack)
            facts["Network ran on"] = predictor.device
            inputs = answer(predictor, manifest, split=split or "test", jobs=jobs)
            of = {**{grader.bundle.card.model_id: grader.bundle.card.sha256 for grader in predictor.graders}, str(data): manifest.digest()}
            pictures = Pictures(predictor, manifest)
            thumbnail, heatmap = pictures.film, pictures.heatmap
            sections = _tests(predictor, manifest, split=split or "test", most=most, stress=stress, faithfulness=faithfulness)
        if per_patient:
            inputs = by_patient(inputs)
        evaluation = measure(inputs, invalid="drop", oa_threshold=oa_threshold)
        report = write_evaluation(
            evaluation,
            inputs,
            out,
            thumbnail=thumbnail,
            heatmap=heatmap,
            provenance=facts,
            sections=sections,
        )
    asked = {"model": str(model), "data": str(data or ""), "split": split, "task": task, "roi": roi, "oa_threshold": oa_threshold}
    tests = {"stress": stress, "faithfulness": faithfulness, "most": most, "per_patient": per_patient, "provider": provider}
    found = {name: evaluation[name] for name in ("n", "n_patients", "split_quality", *HEADLINE)}
    write_record(out, started, config=asked | tests, inputs=of, outputs=found, device=facts.get("Network ran on", "cpu"))
    typer.echo(markdown_table(evaluation))
    for section in sections:
        typer.echo(f"{section.title}: {section.alarm or section.lead}")
    units = evaluation["bootstrap"]["unit"]
    typer.echo(f"{evaluation['n']} images, {evaluation['n_patients']} {units}s, split by {evaluation['split_quality']} -> {report}")


def _stored(path: Path, *, task: str, split: str, with_films: bool) -> EvaluationInput:
    """Return the rows of ``split`` of a predictions file, or all where none is named."""
    import numpy as np

    from kneexray.errors import ConfigError, DataError, choices
    from kneexray.evaluation.predictions_file import read_predictions

    if with_films:
        raise ConfigError(f"{path}: --stress and --faithfulness need the model and its films; give a bundle or run folder, and --data.")
    inputs = read_predictions(path, task=task or None, invalid="drop")
    if not split:
        return inputs
    chosen = np.array([name == split for name in inputs.split])
    if not chosen.any():
        raise DataError(f"{path}: {choices('split', split, {name for name in inputs.split if name})}")
    return inputs.take(chosen)


def _judged(model: Path, data: Path | None, *, task: str, roi: str, provider: str, stack: ExitStack) -> tuple[Predictor, Manifest]:
    """Return a bundle's or run's predictor, and the labelled images."""
    from kneexray.cli.predict import roi_mode
    from kneexray.datasets import manifest as manifests
    from kneexray.errors import ConfigError
    from kneexray.inference.bundle import read_card
    from kneexray.predict import Predictor

    if data is None:
        raise ConfigError(f"{model}: judging a model needs labelled images; give them with --data MANIFEST.")
    bundle = _bundle(model, stack)
    asked = task or read_card(bundle).task
    return Predictor(tasks=[asked], models=[bundle], roi_mode=roi_mode(roi), threads=1, provider=provider), manifests.load(data, task=asked)


def _tests(predictor: Predictor, manifest: Manifest, *, split: str, most: int, stress: bool, faithfulness: bool) -> list[Section]:
    """Return the sections of the further tests that were asked for."""
    from kneexray.evaluation.answers import labelled

    sections = []
    if stress:
        from kneexray.evaluation.probes import stress as stress_test

        sections.append(stress_test.section(predictor, labelled(manifest, split), most=most))
    if faithfulness:
        from kneexray.evaluation.probes import faithfulness as faithfulness_test

        sections.append(faithfulness_test.section(predictor, labelled(manifest, split), most=most))
    return sections


def _bundle(model: Path, stack: ExitStack) -> Path:
    """Return the folder of a bundle; a run folder is exported into a temporary one, so that what is judged is what would be used."""
    from kneexray.inference.bundle import CARD

    if (model / CARD).is_file() or not (model / "config.json").is_file():
        return model
    from kneexray.cli._extras import need

    need("train", "torch", "onnx", "timm")
    from kneexray.train.export.export import export

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kneexray-")))
    export([model], folder, command=["kneexray", "export", str(model)])
    return folder
