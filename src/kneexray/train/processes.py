"""Several processes that train one network, started by ``torchrun``: who holds what of a batch, and how their numbers become one.

At an equal ``batch_size``, which is that of all processes together, they take the steps that one process would take: they see the same
batches, with the same augmentation, and divide by the same sums. What differs is dropout, which each draws for itself, and on CPUs batch
norm, whose statistics are those of a process's own images there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.utils.data import Sampler

from kneexray.errors import ConfigError
from kneexray.train.imbalance import EpochShuffle


@dataclass(frozen=True, slots=True)
class Share:
    """One of ``world`` processes. The first writes the files."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes what all need once."""
        return self.rank == 0

    def rows(self, total: int) -> list[int]:
        """Return which of a batch of ``total`` images are this process's, in order.

        An image and its counterpart from the other end of the batch go together, so that mixing finds the same pairs as one process.
        """
        return [i for i in range(total) if min(i, total - 1 - i) % self.world == self.rank]

    def batch_size(self, wanted: int, *, images: int) -> int:
        """Return the batch size of all processes together: at most ``images``, and one that they can share evenly.

        Raises :class:`ConfigError` where ``wanted`` is none.
        """
        step = 2 * self.world if self.world > 1 else 1
        if wanted % step or images < step:
            near = max(step, wanted - wanted % step)
            raise ConfigError(
                f"optim.batch_size = {wanted} with {images} images: {self.world} processes share batches of multiples of {step}. "
                f"Try --set optim.batch_size={near}, or fewer processes."
            )
        return min(wanted, images - images % step)


ALONE = Share()


@contextmanager
def joined() -> Iterator[Share]:
    """Join the processes that ``torchrun`` started, and leave them at the end; the one process where it started none."""
    if not distributed.is_torchelastic_launched():
        yield ALONE
        return
    began = not distributed.is_initialized()
    if began:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Share(distributed.get_rank(), distributed.get_world_size())
    finally:
        if began:
            distributed.destroy_process_group()


def layout(share: Share) -> tuple[int, int]:
    """Return how many processes a node runs and how many nodes there are, as ``torchrun`` says."""
    local = int(os.environ["LOCAL_WORLD_SIZE"]) if share.world > 1 else 1
    return local, share.world // local


@contextmanager
def first_goes_ahead(share: Share) -> Iterator[None]:
    """Let the first process make what the others then find made. The run folder must be on a file system that all see."""
    if not share.first:
        distributed.barrier()
    yield
    if share.first and share.world > 1:
        distributed.barrier()


def averaged(total: Tensor) -> Tensor:
    """Return a sum over this process's images averaged over the processes: what to divide by, where gradients are averaged too."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return total
    everyone = total.detach().clone()
    distributed.all_reduce(everyone)
    return everyone / distributed.get_world_size()


def gathered(values: Tensor, *, rows: int) -> Tensor:
    """Return the values (rows, ...) of a split dealt out by :func:`dealt`, from each process's own."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)[:rows]


def dealt(rows: int, share: Share) -> list[int]:
    """Return the rows of a split that this process judges; as many for each, the first once more where they do not come out even."""
    return [row % rows for row in range(share.rank, -(-rows // share.world) * share.world, share.world)]


class Shared(Sampler[int]):
    """Of each whole batch that ``sampler`` makes, this process's rows."""

    def __init__(self, sampler: EpochShuffle, *, batch_size: int, share: Share) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.share = share
        self.rows = share.rows(batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_size * len(self.rows)

    def __iter__(self) -> Iterator[int]:
        order = list(self.sampler)
        for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
            yield from (order[start + row] for row in self.rows)
