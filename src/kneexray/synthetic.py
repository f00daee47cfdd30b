"""Synthetic knee radiographs for demos and tests: drawn from a small statistical model of how knees look, no patient's image.

The model holds, for each KL grade, a mean image of aligned right knees, and the principal components of how knees differ from
their grade's mean, both over 5,778 training crops (see :mod:`kneexray.makers.appearance`). A knee is drawn as mean plus random
amounts of the components, with film grain.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneexray.files import output_errors
from kneexray.geometry import resample

SIZE = 299
"""Side of a drawn crop in pixels, that of the public crops."""


SPREAD = 0.8
"""Standard deviation of the amounts of a random knee, in units of the training crops'."""


def draw_knee(grade: int, *, seed: int | None = None, size: int = SIZE) -> NDArray[np.float32]:
    """Return the crop of a right knee of KL ``grade`` 0-4: (size, size) float32 in [0, 1], bone bright.

    Without ``seed`` the grade's exemplar is drawn: the knee that the demo shows. With one, a random knee.
    """
    model = _model()
    amounts = (
        model["exemplars"][grade] if seed is None else np.random.default_rng([grade, seed]).normal(0, SPREAD, len(model["components"]))
    )
    return render(model, grade, amounts=amounts.astype(np.float32), seed=seed or 0, size=size)


def render(
    model: Mapping[str, NDArray[Any]], grade: int, *, amounts: NDArray[np.float32], seed: int, size: int = SIZE
) -> NDArray[np.float32]:
    """Return the knee of ``grade`` with ``amounts`` (C,) of the components of an appearance ``model``, with film grain of ``seed``."""
    side = model["means"].shape[-1]
    weights = amounts * model["deviations"] * model["component_scale"]  # (C,)
    image: NDArray[np.float32] = model["means"][grade].astype(np.float32) + np.tensordot(
        weights, model["components"].astype(np.float32), axes=1
    )
    image = resample(image, (0, 0, side, side), size=(size, size))
    low, high = np.percentile(image, (0.5, 99.5))
    image = 0.08 + 0.84 * (image - low) / (high - low)
    drawn: NDArray[np.float32] = np.clip(image + _grain(size, seed=seed) * image, 0, 1).astype(np.float32)
    return drawn


def _grain(size: int, *, seed: int) -> NDArray[np.float32]:
    """Return (size, size) noise of three coarsenesses about 0: film grain, and a texture somewhat like trabecular bone's."""
    rng = np.random.default_rng([seed, 1])
    total = np.zeros((size, size), np.float32)
    for share, amount in ((1.0, 0.012), (0.5, 0.016), (0.25, 0.016)):
        coarse = max(2, round(size * share))
        noise = rng.normal(0, amount, (coarse, coarse)).astype(np.float32)
        total += resample(noise, (0, 0, coarse, coarse), size=(size, size))
    return total


def write_films(folder: Path) -> list[Path]:
    """Write the exemplar of each KL grade into ``folder`` as ``synthetic-kl-0.png`` ... ``-4.png``, and return the paths."""
    paths = []
    for grade in range(len(_model()["means"])):
        path = folder / f"synthetic-kl-{grade}.png"
        image = Image.fromarray((draw_knee(grade) * 255).round().astype(np.uint8))
        with output_errors(path):
            image.save(path)
        paths.append(path)
    return paths


@cache
def _model() -> dict[str, NDArray[Any]]:
    path = resources.files("kneexray") / "models" / "appearance.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in ("means", "components", "component_scale", "deviations", "exemplars")}
