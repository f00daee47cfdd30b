"""Synthetic knee radiographs for demos and tests: drawn from a small statistical model of how knees look, no patient's image.

The model holds, for each KL grade, a mean image of aligned right knees, and the principal components of how knees differ from
their grade's mean, both over 5,778 training crops (see :mod:`kneexray.train.appearance`). A knee is drawn as mean plus random
amounts of the components, with film grain.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneexray.preprocess import resample

SIZE = 299
"""Side of a drawn crop in pixels, that of the public crops."""


def draw_knee(grade: int, *, seed: int | None = None, size: int = SIZE, grain: float = 0.012) -> NDArray[np.float32]:
    """Return the crop of a right knee of KL ``grade`` 0-4: (size, size) float32 in [0, 1], bone bright.

    Without ``seed`` the grade's exemplar is drawn: a typical knee of the grade. With one, a random knee.
    """
    model = _model()
    amounts = model["exemplars"][grade] if seed is None else np.random.default_rng([grade, seed]).normal(0, 0.8, len(model["components"]))
    side = model["means"].shape[-1]
    image = model["means"][grade] + np.tensordot(amounts * model["deviations"], model["components"], axes=1)  # (side, side)
    image = resample(image.astype(np.float32), (0, 0, side, side), size=(size, size))
    noise = np.random.default_rng([grade, seed or 0, 1]).normal(0, 1, (size, size)).astype(np.float32)
    low, high = np.percentile(image, (0.5, 99.5))
    return np.clip(0.08 + 0.84 * (image - low) / (high - low) + grain * noise, 0, 1).astype(np.float32)


@cache
def _model() -> dict[str, NDArray[Any]]:
    path = resources.files("kneexray") / "models" / "appearance.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {
            "means": arrays["means"].astype(np.float32),
            "components": arrays["components"].astype(np.float32) * arrays["component_scale"][:, None, None],
            "deviations": arrays["deviations"].astype(np.float32),
            "exemplars": arrays["exemplars"].astype(np.float32),
        }
