"""``kneexray batch``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kneexray.errors import ConfigError, choices
from kneexray.inference.engines import PROVIDERS

if TYPE_CHECKING:
    from kneexray.batch.plan import Plan
    from kneexray.predict import Predictor

ENGINES = ("local", "ray")

logger = logging.getLogger(__name__)


def batch(
    source: Annotated[
        str, typer.Argument(help="A folder, glob or archive, a CSV or Parquet with a column of paths, or a URL of these: s3, gs, https.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write Parquet shards into.")],
    engine: Annotated[str, typer.Option(help="local: processes on this machine; ray: a Ray cluster.")] = "local",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the batch that OUT holds, if it does.")] = False,
    task: Annotated[str, typer.Option(help="What to grade, separated by commas: kl, oa.")] = "kl",
    model: Annotated[list[Path] | None, typer.Option(help="A bundle in place of the model that ships for its task.")] = None,
    roi: Annotated[str, typer.Option(help="auto: decide whether the image is the crop of one knee; whole: it is.")] = "auto",
    coverage: Annotated[float, typer.Option(help="How often the prediction set shall hold the true grade: 0.5 to 0.99, or 1.")] = 0.9,
    per_class: Annotated[bool, typer.Option("--per-class", help="Hold --coverage within every true grade, not only on average.")] = False,
    heatmap: Annotated[bool, typer.Option(help="Draw where the model looked: one picture a knee.")] = False,
    provider: Annotated[str, typer.Option(help=f"What the network runs on: auto, {', '.join(PROVIDERS)}.")] = "auto",
    jobs: Annotated[int, typer.Option(min=0, help="Processes (0: one a core).")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Films a network call; 1 suits a CPU, 16 and more a GPU.")] = 1,
    shard_films: Annotated[int, typer.Option(min=0, help="Films a shard (0: by their number, 16 to 1024).")] = 0,
) -> None:
    """Grade the films of SOURCE, however many, into Parquet shards in OUT; a run that was cut off goes on with --resume."""
    from kneexray.cli._extras import need
    from kneexray.cli.predict import roi_mode

    need("batch", "pyarrow")
    if engine not in ENGINES:
        raise ConfigError(choices("--engine", engine, ENGINES))
    if engine == "ray":
        need("ray", "ray", "pandas")
    from kneexray.predict import Predictor

    predictor = Predictor(
        tasks=[name.strip() for name in task.split(",") if name.strip()],
        models=model or (),
        roi_mode=roi_mode(roi),
        coverage=coverage,
        per_class=per_class,
        heatmaps=heatmap,
        threads=1,
        provider=provider,
    )
    options = {"task": task, "roi": roi, "coverage": coverage, "per_class": per_class, "heatmap": heatmap, "batch_size": batch_size}
    raise typer.Exit(_run(source, out, predictor, options, engine=engine, resume=resume, jobs=jobs, shard_films=shard_films))


def _run(
    source: str, out: Path, predictor: Predictor, options: dict[str, Any], *, engine: str, resume: bool, jobs: int, shard_films: int
) -> int:
    """Plan or go on, grade what is left, write the manifest and say what came of it; return the exit code."""
    from kneexray import __version__, provenance
    from kneexray.batch.plan import open_plan
    from kneexray.batch.shards import counts, finished, remove_partial
    from kneexray.cli.predict import UNANSWERED

    started = datetime.now(UTC)
    environment = provenance.environment(device=predictor.device)
    models = {grader.bundle.card.model_id: grader.bundle.card.sha256 for grader in predictor.graders}
    fixed = {**options, "device": predictor.device, "models": models, "kneexray": __version__}
    plan = open_plan(out, source=source, options=fixed, shard_films=shard_films, resume=resume)
    remove_partial(out)
    before = finished(out)
    left = [shard for shard in range(plan.shards) if shard not in before]
    logger.info("%d films in %d shards, %d of them finished", plan.films, plan.shards, len(before))
    try:
        _grade(plan, predictor, left, engine=engine, jobs=jobs)
    finally:
        remove_partial(out)
        knees, refused = counts(out)
        record = provenance.run_manifest(
            command=sys.argv,
            config={"source": source, "engine": engine, "resume": resume, "jobs": jobs, "shard_films": plan.shard_films, **fixed},
            inputs=models,
            outputs={
                "films": plan.films,
                "shards": plan.shards,
                "shards_finished": len(finished(out)),
                "shards_finished_before": len(before),
                "knees": dict(knees),
                "refused": dict(refused),
            },
            started=started,
            finished=datetime.now(UTC),
            environment=environment,
        )
        provenance.write_manifest(out / "manifest.json", record)
    listed = ", ".join(f"{n} {reason}" for reason, n in sorted(refused.items())) or "none"
    typer.echo(f"{plan.films} file(s): {max(knees.values(), default=0)} knee(s) graded; refused: {listed} -> {out} ({plan.shards} shards)")
    typer.echo("For research use. Not a medical device.")
    return 1 if UNANSWERED & refused.keys() else 0


def _grade(plan: Plan, predictor: Predictor, left: list[int], *, engine: str, jobs: int) -> None:
    if not left:
        return
    films = sum(plan.size(shard) for shard in left)
    with _bar(plan.films, done=plan.films - films) as advance:
        if engine == "ray":
            from kneexray.batch.ray import grade_ray

            progress = grade_ray(plan, predictor, left, jobs=jobs)
        else:
            from kneexray.batch.local import grade_local

            progress = grade_local(plan, predictor, left, jobs=jobs)
        for more in progress:
            advance(more)


@contextmanager
def _bar(total: int, *, done: int) -> Iterator[Callable[[int], None]]:
    """Show how many films are done, how many a second, and how long it still takes; on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("grading", total=total, completed=done, rate="")

        def advance(films: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, advance=films, rate=f"{speed:.0f}/s" if speed else "")

        yield advance
