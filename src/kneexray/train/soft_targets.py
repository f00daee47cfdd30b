"""Targets that are no labels: soft answers of tables, lengths; and what becomes of targets on a knee's mirror image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kneexray.datasets.manifest import Example
from kneexray.errors import ConfigError
from kneexray.tasks import LENGTHS, TASKS, mirror_columns, mirror_image, opposite
from kneexray.train import answers
from kneexray.train.data import Batch
from kneexray.train.recipe.config import Config

SCALE = 20.0
"""Of lengths in their loss: shares of the condyles' width become numbers about one."""
_TURN = 0.1
"""Where the loss of a scaled length turns from square to linear."""


def from_answers(config: Config, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Return what the tables of ``distil.answers`` say of ``examples``: probabilities of all tasks (N, K), and lengths (N, L)."""
    width = sum(len(TASKS[task].labels) for task in config.tasks)
    rows = torch.from_numpy(answers.of(examples, answers.read(config.distil.answers, tasks=config.tasks), width + len(LENGTHS)))
    return rows[:, :width], rows[:, width:]


def read_lengths(config: Config, examples: Sequence[Example]) -> Tensor:
    """Return the lengths (N, L) that ``lengths.table`` has of ``examples``; raises :class:`ConfigError` where it has none of any."""
    found = torch.from_numpy(answers.of(examples, answers.lengths(config.lengths.table), len(LENGTHS)))
    if bool(torch.isnan(found).all()):
        raise ConfigError(f"lengths.table: {config.lengths.table} has no length of any training image, by patient_id and side.")
    return found


def blended(own: Tensor, taught: Tensor | None, *, weight: float) -> Tensor:
    """Return lengths (N, L) read, mixed with those taught by ``weight``; where only one of them is known, that one."""
    if taught is None:
        return own
    both = (1 - weight) * own + weight * taught
    return torch.where(torch.isnan(own), taught, torch.where(torch.isnan(taught), own, both))


def length_loss(found: Tensor, target: Tensor) -> Tensor:
    """Return the mean smooth L1 loss of lengths (N, L), in units of 1 / SCALE, over those that are known."""
    known = ~torch.isnan(target)
    apart = F.smooth_l1_loss(SCALE * found, SCALE * target.nan_to_num(), reduction="none", beta=_TURN)
    return (apart * known).sum() / known.sum().clamp(min=1)


def imitation(logits: Sequence[Tensor], taught: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the divergence of each task's logits (N, K) from soft targets side by side (N, sum K), weighed and summed.

    Knees that nothing is known of, NaN, take no part.
    """
    total = logits[0].new_zeros(())
    start = 0
    for given, weight in zip(logits, weights, strict=True):
        target = taught[:, start : start + given.shape[1]]
        start += given.shape[1]
        known = ~torch.isnan(target[:, 0])
        apart = F.kl_div(F.log_softmax(given, dim=1), target.nan_to_num().to(given.dtype), reduction="none").sum(dim=1)
        total = total + weight * (apart * known).sum() / known.sum().clamp(min=1)
    return total


def has_sides(tasks: Sequence[str]) -> bool:
    """Say whether the mirror image of a knee has other targets for some of ``tasks``."""
    return any(TASKS[task].compartment for task in tasks)


def mirrored(batch: Batch, tasks: Sequence[str], turned: Tensor) -> Batch:
    """Return ``batch`` with the images ``turned`` (N,) mirrored, and with them what is medial and lateral in their targets."""

    def pick(values: Tensor, other: Tensor) -> Tensor:
        return torch.where(turned.to(values.device).view(-1, *[1] * (values.ndim - 1)), other, values)

    places = [list(tasks).index(other) if (other := mirror_image(task)) in tasks else i for i, task in enumerate(tasks)]
    taught, lengths = batch.taught, batch.lengths
    if taught is not None and taught.shape[1] > len(TASKS[tasks[0]].labels):
        taught = pick(taught, taught[:, mirror_columns(tasks)])
    if lengths is not None:
        nothing = torch.full_like(lengths[:, :1], torch.nan)
        others = [LENGTHS.index(there) if (there := opposite(name)) else len(LENGTHS) for name in LENGTHS]
        lengths = pick(lengths, torch.cat([lengths, nothing], dim=1)[:, others])
    return Batch(pick(batch.images, batch.images.flip(3)), pick(batch.labels, batch.labels[:, places]), taught, lengths)
