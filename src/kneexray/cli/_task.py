"""Which task a command is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kneexray.tasks import Task

TaskOption = Annotated[str, typer.Option("--task", help="kl, oa or osteoporosis; told from the class names unless named.")]


def task_at(path: Path, name: str) -> Task:
    """Return the task that was named, or that the class names of ``path`` are of."""
    from kneexray.datasets.audit.items import task_of
    from kneexray.tasks import get_task

    return get_task(name) if name else task_of(path)
