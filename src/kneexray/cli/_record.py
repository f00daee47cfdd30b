"""The record that a command leaves beside what it wrote."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path


def write_record(
    folder: Path,
    started: datetime,
    *,
    config: Mapping[str, object],
    inputs: Mapping[str, str],
    outputs: Mapping[str, object],
    device: str = "cpu",
) -> None:
    """Write ``folder/manifest.json``: what was asked, of which data (name to SHA-256), what came of it, and with what."""
    from kneexray import provenance

    record = provenance.run_manifest(
        command=sys.argv,
        config=config,
        inputs=inputs,
        outputs=outputs,
        started=started,
        finished=datetime.now(UTC),
        environment=provenance.environment(device=device),
    )
    provenance.write_manifest(folder / "manifest.json", record)
