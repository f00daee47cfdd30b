"""Soft targets from trained bundles: what the teachers say of each training image, computed once a run.

A student that learns a teacher's whole distribution learns which grades resemble each other and where the labels are noise
(Hinton, Vinyals & Dean 2015, arXiv:1503.02531). A teacher answers images that it was trained on with more certainty than new
ones; ``distil.temperature`` above 1 takes some of that back.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kneexray.datasets.manifest import Example, Manifest
from kneexray.errors import ConfigError
from kneexray.inference.bundle import Bundle, open_bundle
from kneexray.inference.session import Session
from kneexray.train import data
from kneexray.train.recipe.config import DistilConfig

logger = logging.getLogger(__name__)

CHUNK = 64
"""How many images are held at a time."""


def open_teachers(config: DistilConfig, *, task: str) -> tuple[Bundle, ...]:
    """Return the bundles of ``config.teachers``; raises :class:`ConfigError` for one that answers another task than ``task``."""
    teachers = tuple(open_bundle(folder) for folder in config.teachers)
    for teacher in teachers:
        if teacher.card.task != task:
            raise ConfigError(f"distil.teachers: {teacher.folder} answers task '{teacher.card.task}', the recipe trains '{task}'.")
    return teachers


def teacher_logits(teachers: Sequence[Bundle], manifest: Manifest, examples: Sequence[Example], *, folder: Path) -> NDArray[np.float32]:
    """Return the mean logits (N, K) of ``teachers`` for ``examples``, not augmented, each teacher seeing its own geometry.

    They are computed on first use and kept in ``folder``, in a file whose name is a hash of the images and the teachers.
    """
    key = json.dumps([[e.sha256 or e.path, e.side] for e in examples] + [[t.card.sha256 for t in teachers], data.VERSION])
    path = folder / f"teachers-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        sessions = [Session(teacher).load() for teacher in teachers]
        chunks = [examples[i : i + CHUNK] for i in range(0, len(examples), CHUNK)]
        rows = []
        for number, chunk in enumerate(chunks, start=1):
            answers = [s.run(data.decode(manifest, chunk, s.bundle.geometry), cam=False)[0] for s in sessions]
            rows.append(np.mean(answers, axis=0, dtype=np.float32))
            logger.info("teachers answered %d of %d images", min(number * CHUNK, len(examples)), len(examples))
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, np.concatenate(rows))
        partial.rename(path)
    logits: NDArray[np.float32] = np.load(path)
    return logits


def soften(logits: NDArray[np.float32], config: DistilConfig) -> Tensor:
    """Return the teachers' probabilities (N, K) at ``config.temperature``."""
    return torch.from_numpy(logits).div(config.temperature).softmax(dim=1)


def imitation(logits: Tensor, taught: Tensor, config: DistilConfig) -> Tensor:
    """Return the mean divergence of the student from the teachers' softened probabilities ``taught`` (N, K), times temperature squared.

    The square keeps the size of the gradient independent of the temperature (Hinton et al., section 2).
    """
    student = F.log_softmax(logits / config.temperature, dim=1)
    return F.kl_div(student, taught.to(student.dtype), reduction="batchmean") * config.temperature**2
