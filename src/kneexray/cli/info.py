"""``kneexray info``: what this installation can do, from pure tables, in well under a second."""

from __future__ import annotations

import json
import platform
from typing import Annotated, Any

import typer

from kneexray.version import __version__


def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List tasks, models, data sets, readers, writers and versions."""
    facts = collect()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(f"kneexray {facts['version']}  (for research use; not a medical device)\n")
    typer.echo("tasks")
    for task in facts["tasks"]:
        typer.echo(f"  {task['name']:14}{task['title']}: {', '.join(task['labels'])}")
    typer.echo("models that ship")
    for model in facts["models"]:
        typer.echo(
            f"  {model['task']:14}{model['model_id']}  "
            f"({model['parameters'] / 1e6:.1f} M parameters, {model['size']} px, {model['licence']})"
        )
    for name in ("readers", "writers", "datasets"):
        typer.echo(f"{name:16}{', '.join(facts[name])}")
    typer.echo("versions        " + ", ".join(f"{k} {v}" for k, v in facts["versions"].items()))


def collect() -> dict[str, Any]:
    """Return what ``info --json`` prints."""
    from kneexray.datasets.catalogue import CATALOGUE
    from kneexray.inference.bundle import CARD, shipped_models
    from kneexray.provenance import environment
    from kneexray.read import FORMATS
    from kneexray.tasks import TASKS
    from kneexray.writers import WRITERS

    models = []
    for folder in shipped_models():
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        models.append(
            {k: card[k] for k in ("task", "model_id", "parameters", "licence", "sha256", "scores")} | {"size": card["input"]["size"]}
        )
    return {
        "version": __version__,
        "tasks": [
            {"name": t.name, "title": t.title, "labels": t.labels, "meanings": t.meanings, "ordinal": t.ordinal} for t in TASKS.values()
        ],
        "models": models,
        "datasets": list(CATALOGUE),
        "readers": list(FORMATS),
        "writers": list(WRITERS),
        "versions": {"kneexray": __version__, "python": platform.python_version(), **environment()["packages"]},
    }
