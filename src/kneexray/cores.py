"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux mounts control groups (version 2, or the ``cpu`` controller of version 1)."""


def available_cores() -> int:
    """Return how many cores this process may use, at least 1: the least of its affinity and the quota of its control group."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(CGROUP)
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def _quota(root: Path) -> float | None:
    """Return the cores that the control group below ``root`` grants; None without a limit."""
    try:
        if (root / "cpu.max").exists():
            given, period = (root / "cpu.max").read_text(encoding="ascii").split()
        else:
            given, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip() for name in ("quota", "period"))
        return None if given in ("max", "-1") else float(given) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
