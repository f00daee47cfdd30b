"""The learning curves of a run: read from ``metrics.jsonl``, drawn as one picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PANELS = (("loss", ("train_loss_epoch", "val_nll")), ("accuracy and QWK", ("val_accuracy", "val_qwk")), ("MAE (grades)", ("val_mae",)))


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a ``metrics.jsonl``, one an epoch; none where the file is not there yet."""
    place = Path(path)
    if not place.exists():
        return []
    return [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines() if line]


def write_curves(history: list[dict[str, Any]], path: str | Path) -> None:
    """Draw losses, accuracy, QWK and MAE against the epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for name in names:
            rows = [r for r in history if name in r]
            axes.plot([r["epoch"] for r in rows], [r[name] for r in rows], marker=".", label=name.replace("_epoch", "").replace("_", " "))
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
