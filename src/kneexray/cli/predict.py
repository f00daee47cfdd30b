"""``kneexray predict``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kneexray.types import FilmResult

DEFAULT_FORMATS = "csv,json,html"
UNANSWERED = frozenset({"not_found", "no_permission", "failed"})
"""Reasons that are no answer about an image: the command then exits with 1."""


def predict(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="Files, folders, globs or archives; DICOM or images.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write reports into.")],
    task: Annotated[str, typer.Option(help="What to grade, separated by commas: kl, oa.")] = "kl",
    model: Annotated[list[Path] | None, typer.Option(help="A bundle in place of the model that ships for its task.")] = None,
    formats: Annotated[str, typer.Option("--format", help="Which files to write, separated by commas.")] = DEFAULT_FORMATS,
    roi: Annotated[str, typer.Option(help="auto: decide whether the image is the crop of one knee; whole: it is.")] = "auto",
    coverage: Annotated[float, typer.Option(help="How often the prediction set shall hold the true grade: 0.5 to 0.99, or 1.")] = 0.9,
    heatmap: Annotated[bool, typer.Option(help="Draw where the model looked.")] = True,
    jobs: Annotated[int, typer.Option(min=0, help="Threads (0: one a core).")] = 0,
) -> None:
    """Grade the knees in PATHS and write reports into OUT. For research use; not a medical device."""
    code = grade_into(
        paths, out, tasks=_names(task), models=model or (), formats=_names(formats), roi_mode=roi, coverage=coverage, heatmaps=heatmap, jobs=jobs
    )
    raise typer.Exit(code)


def grade_into(
    paths: Sequence[str],
    out: Path,
    *,
    tasks: Sequence[str] = ("kl",),
    models: Sequence[Path] = (),
    formats: Sequence[str] = tuple(DEFAULT_FORMATS.split(",")),
    roi_mode: str = "auto",
    coverage: float = 0.9,
    heatmaps: bool = True,
    jobs: int = 0,
) -> int:
    """Grade ``paths``, write every format, print one line of summary, and return the exit code."""
    raise SystemExit("replaced below")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
