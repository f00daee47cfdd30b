"""What a run was: its command, its inputs and outputs, and what it ran on, so that every figure can be traced and made again.

Nothing here says who ran it or where: no host, no user, and a path under the home folder is written from ``~``. Paths are otherwise
as the user gave them.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

from kneexray.files import OutputFile
from kneexray.version import __version__

VERSION = 1
"""Of the manifest's layout; it grows when a key changes its meaning or goes."""


def run_manifest(
    *,
    command: Sequence[str],
    config: Mapping[str, object],
    inputs: Mapping[str, str],
    outputs: Mapping[str, object],
    started: datetime,
    finished: datetime,
    environment: Mapping[str, object],
) -> dict[str, Any]:
    """Return the record of a run, in plain JSON types; a pure function of the facts given.

    ``command`` is ``sys.argv``; ``inputs`` maps each model, manifest or data set to its SHA-256; ``outputs`` is what came of it
    (files, counts, scores); ``environment`` comes from :func:`environment`. The seed belongs in ``config``. Numbers that are not
    finite become None.
    """
    manifest: dict[str, Any] = _plain(
        {
            "version": VERSION,
            "command": command_line(command),
            "started": started,
            "finished": finished,
            "seconds": round((finished - started).total_seconds(), 3),
            "config": config,
            "inputs": inputs,
            "outputs": outputs,
            "environment": environment,
        }
    )
    return manifest


def command_line(command: Sequence[str], *, home: str = "") -> str:
    """Return ``sys.argv`` as a person would type it: without the folder of the program, and with ``~`` for ``home``."""
    if not command:
        return ""
    program = PurePath(command[0]).name
    typed = shlex.join(["kneexray" if program in {"__main__.py", "kneexray.exe"} else program, *command[1:]])
    return str(without_home(typed, home=home))


def environment(*, device: str = "cpu") -> dict[str, Any]:
    """Return what this process runs on: the versions of KneeXRay and what it is built on, its commit, the system, the ``device``.

    Packages are not imported for it. Those that are not installed, and those that only development needs, are not listed.
    """
    return {
        "kneexray": __version__,
        "git": _commit(Path(__file__).resolve().parents[2]),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "device": device,
        "packages": _packages(),
    }


def write_manifest(path: Path, manifest: Mapping[str, object]) -> None:
    """Write a manifest as JSON; raises :class:`~kneexray.errors.OutputError` where that fails."""
    home = os.path.expanduser("~")  # noqa: PTH111 (pathlib's fails where there is no home)
    text = json.dumps(without_home(manifest, home=home), indent=2, ensure_ascii=False, allow_nan=False)
    with OutputFile(path) as file:
        file.write(f"{text}\n")
        file.finish()


def without_home(value: Any, *, home: str) -> Any:
    """Return a plain JSON value in which every path under ``home`` starts with ``~`` instead."""
    if isinstance(value, str):
        return re.sub(rf"(?<![\w.~-]){re.escape(home)}(?![\w.-])", "~", value) if len(home) > 1 else value
    if isinstance(value, Mapping):
        return {without_home(key, home=home): without_home(item, home=home) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [without_home(item, home=home) for item in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (Sequence, set, frozenset)):
        return [_plain(item) for item in value]
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)  # numpy; paths and the like


def _packages() -> dict[str, str]:
    try:
        requirements = metadata.requires("kneexray") or []
    except metadata.PackageNotFoundError:  # run from a folder that was never installed
        return {}
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in requirements if 'extra == "dev"' not in line.replace("'", '"')}
    found: dict[str, str] = {}
    for name in sorted(names - {"kneexray"}):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # of an extra that was not asked for
            continue
    return found


def _commit(root: Path) -> dict[str, object] | None:
    """Return the commit of the checkout at ``root`` and whether files differ from it; None where there is no checkout, commit or git."""
    if not (root / ".git").exists():
        return None
    describe = ["git", "--no-optional-locks", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(describe, capture_output=True, text=True, timeout=2, check=True, stdin=subprocess.DEVNULL).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": answer.removesuffix("-dirty"), "modified": answer.endswith("-dirty")}
