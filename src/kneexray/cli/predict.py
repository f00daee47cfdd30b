"""``kneexray predict``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kneexray.errors import ConfigError, choices
from kneexray.inference.engines import PROVIDERS
from kneexray.version import __version__
from kneexray.writers import DEFAULT_FORMATS, WRITERS

if TYPE_CHECKING:
    from kneexray.predict import Predictor
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
    prior: Annotated[
        list[Path] | None,
        typer.Option(help="Earlier films of the same patients, to report changes; images need a CSV: path, patient_id, date, side."),
    ] = None,
    coverage: Annotated[float, typer.Option(help="How often the prediction set shall hold the true grade: 0.5 to 0.99, or 1.")] = 0.9,
    per_class: Annotated[bool, typer.Option("--per-class", help="Hold --coverage within every true grade, not only on average.")] = False,
    heatmap: Annotated[bool, typer.Option(help="Draw where the model looked.")] = True,
    jobs: Annotated[int, typer.Option(min=0, help="Threads (0: one a core).")] = 0,
    provider: Annotated[str, typer.Option(help=f"What the network runs on: auto, {', '.join(PROVIDERS)}.")] = "auto",
) -> None:
    """Grade the knees in PATHS and write reports into OUT. For research use; not a medical device."""
    raise typer.Exit(
        grade_into(
            paths,
            out,
            tasks=_names(task),
            formats=_names(formats),
            jobs=jobs,
            prior=prior or (),
            models=model or (),
            roi_mode=roi_mode(roi),
            coverage=coverage,
            per_class=per_class,
            heatmaps=heatmap,
            provider=provider,
        )
    )


def grade_into(
    paths: Sequence[str | Path],
    out: Path,
    *,
    tasks: Sequence[str] = ("kl",),
    formats: Sequence[str] = DEFAULT_FORMATS,
    jobs: int = 0,
    prior: Sequence[Path] = (),
    **options: Any,
) -> int:
    """Grade ``paths``, write every format and the run's manifest into ``out``, print a summary, and return the exit code.

    ``prior`` are earlier films of the same patients, and tables that say whose films are and when they were taken
    (:class:`kneexray.priors.Visits`). ``options`` go to :class:`kneexray.predict.Predictor`.
    """
    from kneexray import provenance
    from kneexray.predict import Predictor
    from kneexray.read import find_sources
    from kneexray.writers import FolderWriter, RunFacts, clear_earlier

    started = datetime.now(UTC)
    predictor = Predictor(tasks=tasks, threads=_threads(paths), **options)
    compared = _Compared(predictor, paths, prior, jobs=jobs) if prior else None
    environment = provenance.environment(device=predictor.device)
    facts = RunFacts(
        command=provenance.command_line(sys.argv, home=str(Path.home())),
        started=started,
        models=predictor.model_facts(),
        versions={"kneexray": __version__, **environment["packages"]},
    )
    clear_earlier(out)
    counts: Counter[str] = Counter()
    with FolderWriter(out, formats=formats, run=facts) as writer:
        try:
            for result in _progress(compared or predictor.predict_sources(find_sources(paths, without=out), jobs=jobs)):
                writer.add(result)
                counts["films"] += 1
                counts["graded"] += len({id(p.knee) for p in result.predictions})
                counts.update(rejection.reason for rejection in result.rejections)
        finally:
            record = provenance.run_manifest(
                command=sys.argv,
                config={
                    "paths": [str(path) for path in paths],
                    "tasks": tasks,
                    "formats": formats,
                    "jobs": jobs,
                    "prior": prior,
                    **options,
                },
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
    for note in (*writer.notes, *(compared.notes() if compared else ())):
        typer.echo(note)
    typer.echo("For research use. Not a medical device.")
    return 1 if UNANSWERED & refused.keys() else 0


class _Compared:
    """The results of ``paths``, with what changed since the films of ``prior``."""

    def __init__(self, predictor: Predictor, paths: Sequence[str | Path], prior: Sequence[Path], *, jobs: int) -> None:
        from kneexray.priors import History, Visits, noise_of
        from kneexray.read import find_sources
        from kneexray.tables import SUFFIXES

        tables = [path for path in prior if path.suffix.lower() in SUFFIXES]
        visits = Visits.read(tables)
        present = {Path(path).resolve() for path in paths}
        films = [path for path in prior if path not in tables]
        films += [path for path in visits.paths if path not in present]
        self._history = History(visits, noise=noise_of(predictor))
        self._refused: Counter[str] = Counter()
        for result in predictor.predict_sources(visits.told(find_sources(films)), jobs=jobs):
            self._history.add(result)
            self._refused.update(rejection.reason for rejection in result.rejections)
        self._results = predictor.predict_sources(visits.told(find_sources(paths)), jobs=jobs)

    def __iter__(self) -> Iterator[FilmResult]:
        return map(self._history.compared, self._results)

    def notes(self) -> Iterator[str]:
        counts = self._history.counts
        yield f"{counts['compared']} knee(s) compared with an earlier film."
        yield from (f"{n} knee(s) not compared: {why}." for why, n in counts.items() if why != "compared")
        yield from (f"{n} earlier film(s) not graded: {reason}." for reason, n in self._refused.items())


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
