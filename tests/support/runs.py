"""Tiny training runs on drawn knees, for the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kneexray.datasets import manifest as manifests
from kneexray.train.recipe import config as configs
from kneexray.train.run import train

RECIPE: dict[str, Any] = {
    "model": {"backbone": "mobilenetv2_050", "weights": ["none"], "drop_path_rate": 0.0},
    "input": {"size": 64, "progressive": [[0, 48], [1, 64]]},
    "optim": {"epochs": 3, "batch_size": 8, "warmup_epochs": 0.5, "average": 0.9},
    "select": {"monitor": "val_nll"},
}

IGNORED = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.onnx"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]
"""Warnings of other libraries that a run meets."""


def run(data: Path, folder: Path, *, resume: bool = False, **changes: object) -> dict[str, Any]:
    """Train the tiny recipe with ``changes`` of whole tables."""
    config = configs.validate({**RECIPE, **changes}, where="test")
    return train(config, manifests.load(data, task="kl"), folder, command=["kneexray", "train"], resume=resume)
