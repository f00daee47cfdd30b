"""What the runs of a cross-validation say of the images that they held out: each judged by the one network that did not learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kneexray.datasets.manifest import Example, Manifest
from kneexray.errors import ConfigError
from kneexray.train import data
from kneexray.train.export.graph import Exported
from kneexray.train.networks.models import GradingNet
from kneexray.train.recipe.config import Config
from kneexray.train.run_folder import cache

BATCH = 16


def are_folds(splits: Sequence[Manifest]) -> bool:
    """Say whether the data of several runs are the folds of a cross-validation, and not one split.

    Raises :class:`ConfigError` where they are neither: images that some hold out and others do not, but not each by one alone.
    """
    held = [frozenset(e.path for e in manifest.split("val")) for manifest in splits]
    if len(set(held)) == 1:
        return False
    if sum(map(len, held)) > len(frozenset().union(*held)):
        raise ConfigError("the runs hold out different images that overlap: they are neither of one split nor folds of one another.")
    return True


def answers(
    members: Sequence[tuple[GradingNet, int]],
    configs: Sequence[Config],
    splits: Sequence[Manifest],
    *,
    runs: Sequence[Path],
    mirrored: bool,
) -> tuple[Manifest, NDArray[np.float32]]:
    """Return the folds' held-out examples, split ``fold-0``, ``fold-1`` ..., and the logits (N, K) of the member that held each out."""
    examples: list[Example] = []
    logits: list[NDArray[np.float32]] = []
    for number, (member, config, manifest, run) in enumerate(zip(members, configs, splits, runs, strict=True)):
        judged = manifest.split("val")
        images = data.cached(manifest, judged, config.input.geometry, dtype="float32", folder=cache(run))
        net = Exported([member], mirrored=mirrored).eval()
        with torch.inference_mode():
            for start in range(0, len(judged), BATCH):
                logits.append(net(torch.from_numpy(np.array(images[start : start + BATCH])))[0].numpy())
        examples.extend(replace(example, split=f"fold-{number}") for example in judged)
    return replace(splits[0], examples=tuple(examples)), np.concatenate(logits)
