"""Pictures of what the network is fed: augmented images, class by class, for a person to look at before a long run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kneexray.datasets.manifest import Manifest
from kneexray.files import make_folder
from kneexray.train import data, labels
from kneexray.train.augment import mix, mixes
from kneexray.train.data import Batch
from kneexray.train.module import augmented, class_names
from kneexray.train.recipe.config import Config
from kneexray.train.run import check

KNEES, DRAWS = 4, 7
"""Rows and augmented columns of a sheet."""
CELL = 192
"""Side of one image in a sheet, pixels."""


def write_preview(config: Config, tasks: Sequence[Manifest], out: Path) -> list[Path]:
    """Write a PNG sheet of training images a class of the first of ``tasks``, and ``mixed.png`` where the recipe mixes images.

    A row is one knee: first as validation sees it, then :data:`DRAWS` draws of what training sees. Return the paths.
    """
    check(config, tasks)
    make_folder(out)
    fit = labels.collect(tasks, "train")
    task = tasks[0].task
    of_class = [np.flatnonzero(fit.labels[:, 0] == grade)[:KNEES] for grade in range(len(task.labels))]
    sheets = {f"{task.name}-{label}": (rows, False) for label, rows in zip(task.labels, of_class, strict=True)}
    if mixes(config.augment):
        sheets["mixed"] = (np.array([rows[0] for rows in of_class]), True)
    generator = torch.Generator().manual_seed(config.seed)
    paths = []
    for name, (rows, mixing) in sheets.items():
        examples = [fit.examples[row] for row in rows]
        geometry = config.input.geometry
        seen = torch.from_numpy(data.decode(tasks[0], examples, geometry))
        batch = Batch(torch.from_numpy(data.decode(tasks[0], examples, data.whole_box(geometry))), torch.from_numpy(fit.labels[rows]))
        columns = [seen]
        for _ in range(DRAWS):
            images = augmented(batch, config, size=geometry.size, generator=generator)
            if mixing:
                images, _ = mix(images, [], config.augment, generator=generator, labels=class_names(batch, config))
            columns.append(images)
        paths.append(out / f"{name}.png")
        Image.fromarray(_sheet(columns)).save(paths[-1])
    return paths


def _sheet(columns: Sequence[Tensor]) -> NDArray[np.uint8]:
    """Return columns of images, each (N, 1, H, W) in [0, 1], as one picture (N * CELL, len(columns) * CELL)."""
    cells = [torch.nn.functional.interpolate(c, size=(CELL, CELL), mode="bilinear", antialias=True)[:, 0] for c in columns]
    picture = torch.cat([torch.cat(list(c)) for c in cells], dim=1)  # (N * CELL, columns * CELL)
    sheet: NDArray[np.uint8] = (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return sheet
