"""``kneexray predict``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kneexray import __version__
from kneexray.errors import ConfigError, choices
from kneexray.writers import DEFAULT_FORMATS, WRITERS

if TYPE_CHECKING:
    from kneexray.roi import Mode
    from kneexray.types import FilmResult

UNANSWERED = frozenset({"not_found", "no_permission", "failed"})
"""Reasons that are no answer about an image: the command then exits with 1."""


def predict(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="Files, folders, globs or archives; DICOM or images.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write reports into.")],
    task: Annotated[str, typer.Option(help="What to grade, separated by commas: kl, oa.")] = "kl",
    model: Annotated[list[Path] | None, typer.Option(help="A bundle in place of the model that ships for its task.")] = None,
    formats: Annotated[str, typer.Option("--format", help=f"Which files to write: {', '.join(WRITERS)}.")] = ",".join(DEFAULT_FORMATS),
    roi: Annotated[str, typer.Option(help="auto: decide whether the image is the crop of one knee; whole: it is.")] = "auto",
    coverage: Annotated[float, typer.Option(help="How often the prediction set shall hold the true grade: 0.5 to 0.99, or 1.")] = 0.9,
    per_class: Annotated[bool, typer.Option("--per-class", help="Hold --coverage within every true grade, not only on average.")] = False,
    heatmap: Annotated[bool, typer.Option(help="Draw where the model looked.")] = True,
    jobs: Annotated[int, typer.Option(min=0, help="Threads (0: one a core).")] = 0,
) -> None:
    """Grade the knees in PATHS and write reports into OUT. For research use; not a medical device."""
    raise typer.Exit(
        grade_into(
            paths,
            out,
            tasks=_names(task),
            formats=_names(formats),
            jobs=jobs,
            models=model or (),
            roi_mode=roi_mode(roi),
            coverage=coverage,
            per_class=per_class,
            heatmaps=heatmap,
        )
    )


def grade_into(
    paths: Sequence[str | Path],
    out: Path,
    *,
    tasks: Sequence[str] = ("kl",),
    formats: Sequence[str] = DEFAULT_FORMATS,
    jobs: int = 0,
    **options: Any,
) -> int:
    """Grade ``paths``, write every format and the run's manifest into ``out``, print a summary, and return the exit code.

    ``options`` go to :class:`kneexray.predict.Predictor`.
    """
    from kneexray import provenance
    from kneexray.predict import Predictor
    from kneexray.writers import FolderWriter, RunFacts

    started = datetime.now(UTC)
    environment = provenance.environment()
    predictor = Predictor(tasks=tasks, threads=_threads(paths), **options)
    facts = RunFacts(
        command=provenance.command_line(sys.argv, home=str(Path.home())),
        started=started,
        models=predictor.model_facts(),
        versions={"kneexray": __version__, **environment["packages"]},
    )
    counts: Counter[str] = Counter()
    with FolderWriter(out, formats=formats, run=facts) as writer:
        try:
            for result in _progress(predictor.predict(paths, jobs=jobs)):
                writer.add(result)
                counts["films"] += 1
                counts["graded"] += len({id(p.knee) for p in result.predictions})
                counts.update(rejection.reason for rejection in result.rejections)
        finally:
            record = provenance.run_manifest(
                command=sys.argv,
                config={"paths": [str(path) for path in paths], "tasks": tasks, "formats": formats, "jobs": jobs, **options},
                inputs={grader.bundle.card.model_id: grader.bundle.card.sha256 for grader in predictor.graders},
                outputs={"counts": dict(counts), "notes": writer.notes},
                started=started,
                finished=datetime.now(UTC),
                environment=environment,
            )
            provenance.write_manifest(out / "manifest.json", record)
    refused = {reason: n for reason, n in counts.items() if reason not in ("films", "graded")}
    listed = ", ".join(f"{n} {reason}" for reason, n in sorted(refused.items())) or "none"
    typer.echo(f"{counts['films']} file(s): {counts['graded']} knee(s) graded; refused: {listed} -> {out}")
    for note in writer.notes:
        typer.echo(note)
    typer.echo("For research use. Not a medical device.")
    return 1 if UNANSWERED & refused.keys() else 0


def roi_mode(text: str) -> Mode:
    """Return ``text`` as a mode of :func:`kneexray.roi.find_knees`; raises :class:`ConfigError` that lists the choices."""
    if text == "auto":
        return "auto"
    if text == "whole":
        return "whole"
    raise ConfigError(choices("--roi", text, ("auto", "whole")))


def _threads(paths: Sequence[str | Path]) -> int:
    """How many cores one network call uses: all of them for one film, one where many films keep the others busy."""
    return 0 if len(paths) == 1 and Path(paths[0]).is_file() else 1


def _progress(results: Iterable[FilmResult]) -> Iterator[FilmResult]:
    """Pass ``results`` on, counting them on the terminal where there is one."""
    if not sys.stderr.isatty():
        yield from results
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("grading", total=None, rate="")
        for result in results:
            yield result
            task = progress.tasks[0]
            progress.update(bar, advance=1, rate=f"{task.speed:.0f}/s" if task.speed else "")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
