"""``kneexray explain``."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kneexray.cli._record import write_record
from kneexray.errors import ConfigError, choices

if TYPE_CHECKING:
    from kneexray.attribution.explanations import Explainer, Explanation
    from kneexray.tasks import Task

SIDE = 448
"""Side of a picture of a knee, in pixels."""


def explain(
    path: Annotated[str, typer.Argument(help="A file, folder, glob or archive; DICOM or images.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    model: Annotated[
        Path | None, typer.Option(help="A bundle: its class map is shown. The KL model that ships unless told otherwise.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A run folder of 'kneexray train' or a .ckpt in it, for every other method.")
    ] = None,
    method: Annotated[str, typer.Option(help="cam, grad-cam, ...; an unknown name lists all. Needs --checkpoint but for cam.")] = "cam",
    label: Annotated[str, typer.Option("--class", help="Explain this grade, whatever the model answers.")] = "",
    roi: Annotated[str, typer.Option(help="auto: decide whether the image is the crop of one knee; whole: it is.")] = "auto",
) -> None:
    """Show what on the films in PATH speaks for a grade: overlay, panel and raw map of each knee."""
    from kneexray.cli.predict import UNANSWERED, roi_mode
    from kneexray.files import make_folder
    from kneexray.read import find_sources
    from kneexray.roi import find_knees
    from kneexray.types import FilmResult, Rejection
    from kneexray.writers.base import heatmap_paths, prediction_record, rejection_record

    started, mode = datetime.now(UTC), roi_mode(roi)
    explainer = _explainer(model, checkpoint, method=method)
    grade = _grade(explainer.task, label)
    make_folder(out)
    explained: list[dict[str, Any]] = []
    refused: list[Rejection] = []
    for source in find_sources([path]):
        study = source.read()
        refused += study.rejections
        explanations: list[Explanation] = []
        for radiograph in study.radiographs:
            found = find_knees(radiograph, mode=mode)
            refused += found.rejections
            explanations += [explainer.explain(knee, grade=grade) for knee in found.knees]
        names = heatmap_paths(FilmResult(study.source, tuple(explanation.prediction for explanation in explanations)))
        for explanation, name in zip(explanations, names, strict=True):
            stem = f"{PurePosixPath(name or '').stem}-{explanation.method}-{explainer.task.labels[explanation.grade]}"
            files = _write(explanation, explainer.task, out, stem)
            explained.append(
                prediction_record(explanation.prediction, heatmap_path=files[0])
                | {"explained": explainer.task.labels[explanation.grade], "method": explanation.method}
                | {"window": list(explanation.window), "files": files}
            )
    write_record(
        out,
        started,
        config={"path": path, "model": model, "checkpoint": checkpoint, "method": method, "class": label, "roi": roi},
        inputs={},
        outputs={"explanations": explained, "rejections": [rejection_record(rejection) for rejection in refused]},
    )
    for rejection in refused:
        typer.echo(f"{rejection.source}: {rejection.reason}: {rejection.detail}", err=True)
    typer.echo(f"{len(explained)} knee(s) explained by {method}, {len(refused)} refused -> {out}\nFor research use. Not a medical device.")
    raise typer.Exit(1 if any(rejection.reason in UNANSWERED for rejection in refused) else 0)


def _explainer(model: Path | None, checkpoint: Path | None, *, method: str) -> Explainer:
    """Return the explainer that was asked for; raises :class:`ConfigError` where model and method do not go together."""
    from kneexray.attribution import explanations
    from kneexray.inference.bundle import open_bundle, shipped

    if checkpoint is not None:
        from kneexray.cli._extras import need

        if model is not None:
            raise ConfigError("--model and --checkpoint: give one of them.")
        need("explain", "torch", "timm", "pytorch_grad_cam", "captum")
        return explanations.of_checkpoint(checkpoint, method=method)
    if method != explanations.CLASS_MAP:
        raise ConfigError(
            f"--method {method}: a bundle has only its class map inside ({explanations.CLASS_MAP}). "
            f"Give the run that it came from with --checkpoint RUN."
        )
    return explanations.of_bundle(open_bundle(model or shipped("kl")))


def _grade(task: Task, label: str) -> int | None:
    if not label:
        return None
    known = task.label_of(label)
    if known is None:
        raise ConfigError(choices("--class", label, task.labels))
    return task.labels.index(known)


def _write(explanation: Explanation, task: Task, out: Path, stem: str) -> list[str]:
    """Write overlay, panel and the two raw maps of a knee; return their names."""
    import numpy as np
    from PIL import Image

    from kneexray.files import write_whole
    from kneexray.render.heatmap import crop_for_display, overlay, panel

    crop = crop_for_display(explanation.prediction.knee, size=SIDE)
    heatmap = explanation.prediction.heatmap
    assert heatmap is not None
    raw = io.BytesIO()
    np.save(raw, explanation.cam, allow_pickle=False)
    contents = {
        "overlay.png": _png(Image.fromarray(overlay(crop, heatmap))),
        "panel.png": _png(panel(crop, heatmap, lines=_lines(explanation, task))),
        "map.npy": raw.getvalue(),
        "map.png": _png(Image.fromarray((heatmap * 65535).round().astype(np.uint16))),
    }
    for name, content in contents.items():
        write_whole(out / f"{stem}-{name}", content)
    return [f"{stem}-{name}" for name in contents]


def _lines(explanation: Explanation, task: Task) -> list[str]:
    """Return what stands below a panel."""
    from kneexray.render import wording
    from kneexray.writers.base import DISCLAIMER

    prediction = explanation.prediction
    chances = [f"{task.display(place)}: {wording.percent(float(p))}" for place, p in enumerate(prediction.probabilities)]
    return [
        f"{wording.SIDES[prediction.knee.side]}: {task.display(prediction.grade)}, {wording.meaning(prediction)}",
        "   ".join(chances),
        f"Colour: what speaks for {task.display(explanation.grade)}, by {explanation.method}, from none to most on this knee",
        f"{prediction.model_id}. {DISCLAIMER}",
    ]


def _png(image: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
