"""What ``kneexray train`` and ``kneexray tune`` begin with."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kneexray.datasets.manifest import Manifest
    from kneexray.train.recipe.config import Config


def opened(recipe: str, data: Path, overrides: Sequence[str]) -> tuple[Config, Manifest, list[Manifest]]:
    """Return the recipe with its ``overrides``, the manifest of its task, and those of the tasks that share its backbone."""
    from kneexray.datasets import manifest as manifests
    from kneexray.train.recipe import config as configs
    from kneexray.train.recipe import shelf

    config = configs.load(shelf.find(recipe), overrides=overrides)
    manifest, *also = (manifests.load(data, task=task) for task in config.tasks)
    return config, manifest, also


def quiet(*libraries: str) -> None:
    """Keep off the screen what Lightning and other imported ``libraries`` tell their developers, unless ``--verbose`` asks for it."""
    if not logging.getLogger().isEnabledFor(logging.INFO):
        for name in ("lightning.pytorch", *libraries):
            logging.getLogger(name).setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", module=r"lightning\.")
