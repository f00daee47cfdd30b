"""Checks of DICOM objects by dciodvfy."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def tool(*command: object) -> subprocess.CompletedProcess[str]:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} (Debian: dicom3tools, dcmtk) is not installed")
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace", check=False)


def errors_in(path: Path) -> list[str]:
    """What dciodvfy finds wrong, and dsrdump in a report."""
    found = [line for line in tool("dciodvfy", "-new", path).stderr.splitlines() if line.startswith("Error")]
    if path.stem.endswith("-sr"):
        answer = tool("dsrdump", path)
        found += [line for line in answer.stderr.splitlines() if "SpecificCharacterSet" not in line.replace(" ", "")]
        found += [] if answer.returncode == 0 else [f"dsrdump: {answer.returncode}"]
    return found
