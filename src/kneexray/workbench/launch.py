"""Starting the workbench: the command line that Streamlit gets."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from kneexray.workbench.palette import theme

HOST = "127.0.0.1"
"""The workbench reads whatever path its user names: it is for nobody but this machine's user."""


def arguments(paths: Sequence[Path], *, out: Path, port: int) -> list[str]:
    """Return the arguments of ``streamlit``: on the loopback address, no usage statistics, no question at the first start."""
    options = {
        "server.address": HOST,
        "server.port": str(port),
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": "false",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": HOST,
        "client.toolbarMode": "minimal",
        "client.showErrorLinks": "false",
        "logger.hideWelcomeMessage": "true",
        **{f"theme.{name}": value for name, value in theme().items()},
    }
    app = Path(__file__).with_name("app.py")
    flags = [f"--{name}={value}" for name, value in options.items()]
    return ["run", str(app), *flags, "--", str(out), *map(str, paths)]


def run(paths: Sequence[Path], *, out: Path, port: int) -> None:
    """Serve the workbench until it is interrupted; needs the ``workbench`` extra."""
    from streamlit.web.cli import main

    import_module("pandas")  # whole before any page runs: Altair peeks at it while another thread may be half through importing it
    main(arguments(paths, out=out, port=port), prog_name="streamlit", standalone_mode=False)
