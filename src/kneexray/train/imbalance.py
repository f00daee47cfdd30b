"""Unequal classes: draw rare ones more often, or let them weigh more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from kneexray.train.recipe.config import ImbalanceConfig, Sampling


def class_weights(counts: Sequence[int], config: ImbalanceConfig) -> list[float] | None:
    """Return a weight for each class from its count in the training split, mean 1 over the images or the classes; None for no weights.

    ``inverse``: N / (K n_k), so that every class weighs the same in all. ``effective``: (1 - beta) / (1 - beta^n_k), scaled to a mean of
    1 over the classes (Cui et al. 2019, arXiv:1901.05555): images of a class resemble each other, so the gain of one more shrinks.
    """
    n = np.asarray(counts, dtype=np.float64)
    if config.weights == "none":
        return None
    if config.weights == "inverse":
        weights = n.sum() / (len(n) * n)
    else:
        weights = (1 - config.beta) / (1 - config.beta**n)
        weights *= len(n) / weights.sum()
    return [float(w) for w in weights]


def draws(counts: Sequence[int], sampling: Sampling) -> list[int]:
    """Return how many images of each class an epoch draws.

    ``over``: as many as the largest class has; ``under``: as the smallest; ``class_aware``: the same number of each, as many images in
    all as there are (Shen et al. 2016, arXiv:1512.05830); ``sqrt``: in proportion to the root of the counts, as many in all as there
    are (Mahajan et al. 2018, arXiv:1805.00932).
    """
    n = np.asarray(counts, dtype=np.float64)
    shares = {
        "none": n,
        "over": np.full_like(n, n.max()),
        "under": np.full_like(n, n.min()),
        "class_aware": np.full_like(n, n.sum() / len(n)),
        "sqrt": np.sqrt(n) * n.sum() / np.sqrt(n).sum(),
    }[sampling]
    return [max(1, round(float(share))) for share in shares]


class EpochShuffle(Sampler[int]):
    """A new draw and order each epoch that depend on seed and epoch only, so that a resumed run sees what an unbroken one would have seen.

    Of each class of ``classes`` (N,) as many are drawn as ``sampling`` says: all of them as often as it goes, the rest at random.
    """

    def __init__(self, classes: NDArray[np.int64], *, seed: int, sampling: Sampling = "none") -> None:
        self.length = len(classes)
        self.seed = seed
        self.epoch = 0
        self.members: list[tuple[Tensor, int]] = []
        if sampling != "none":
            groups = [np.flatnonzero(classes == c) for c in np.unique(classes)]
            wanted = draws([len(g) for g in groups], sampling)
            self.members = [(torch.from_numpy(g), count) for g, count in zip(groups, wanted, strict=True)]
            self.length = sum(wanted)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator)
        if self.members:
            order = torch.cat([_repeated(rows, count, generator) for rows, count in self.members])[order]
        return iter(order.tolist())


def _repeated(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` of ``rows``: each as often as it goes, the rest drawn without repetition."""
    whole, rest = divmod(count, len(rows))
    return torch.cat([rows.repeat(whole), rows[torch.randperm(len(rows), generator=generator)[:rest]]])
