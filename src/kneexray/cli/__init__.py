"""The command line: one thin file a command group, heavy imports inside the commands."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``kneexray`` and exit: 0 everything asked was done, 1 something failed, 2 wrong use."""
    from kneexray.cli.app import run

    sys.exit(run(sys.argv[1:]))
