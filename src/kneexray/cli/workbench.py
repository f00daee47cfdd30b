"""``kneexray workbench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def workbench(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN-or-FOLDER]...", help="Runs, evaluations, audits, bundles, manifests, films.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder for readers' decisions and new manifests.")] = Path("kneexray-workbench"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen at, on this machine only.")] = 8501,
) -> None:
    """Look at films, runs, evaluations and audits, and relabel, in the browser. For research use; not a medical device."""
    from kneexray.cli._extras import need

    need("workbench", "streamlit", "matplotlib", "pyarrow", "scipy", "sklearn")
    from kneexray.workbench import launch
    from kneexray.workbench.places import find

    find(paths or ())
    typer.echo(f"KneeXRay workbench at http://{launch.HOST}:{port} (stop with Ctrl-C). For research use; not a medical device.")
    launch.run(paths or (), out=out, port=port)
