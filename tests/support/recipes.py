"""The smallest recipe that trains: a plain network on drawn knees of 32 px."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, Any] = {
    "model": {"backbone": "cnn", "cnn": {"channels": [4, 8]}, "weights": ["none"], "drop_rate": 0.0},
    "input": {"size": 32},
    "optim": {"epochs": 2, "batch_size": 20, "lr": 3e-3, "average": 0.0},
    "select": {"monitor": "val_nll"},
}
