"""Labelled knees as arrays: decoded once into a cache on disk, read back in whole batches."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kneexray.datasets.manifest import Example, Manifest
from kneexray.errors import DataError
from kneexray.preprocess import Geometry, preprocess
from kneexray.read import read_file
from kneexray.roi import whole_knee

logger = logging.getLogger(__name__)

VERSION = 2
"""Of what lies in a cache; it grows when reading or preprocessing change what a knee looks like."""


OVERSAMPLING = 1.25
"""How much finer cached training images are than the network's input: augmentation interpolates once more, and would blur them else."""


def whole_box(geometry: Geometry) -> Geometry:
    """Return the geometry of cached training images: the whole box, so that augmentation can look beyond the window, and finer."""
    return Geometry(size=round(OVERSAMPLING * geometry.size / geometry.zoom), zoom=1.0)


def cached(manifest: Manifest, examples: Sequence[Example], geometry: Geometry, *, dtype: str, folder: Path) -> NDArray[np.floating]:
    """Return the preprocessed knees of ``examples`` as a read-only memory map (N, 1, H, W) in ``dtype``, made on first use.

    The file's name is a hash of the images and the geometry, so that any change makes a new one. Raises
    :class:`DataError` listing the files that cannot be read.
    """
    key = json.dumps([[e.sha256 or e.path, e.side] for e in examples] + [asdict(geometry), dtype, VERSION])
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        logger.info("decoding %d images into %s", len(examples), path)
        partial = path.with_suffix(".partial")
        shape = (len(examples), 1, geometry.size, geometry.size)
        made = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
        _fill(made, manifest, examples, geometry)
        made.flush()
        partial.rename(path)
    images: NDArray[np.floating] = np.load(path, mmap_mode="r")
    return images


def _fill(images: NDArray[np.floating], manifest: Manifest, examples: Sequence[Example], geometry: Geometry) -> None:
    failures: list[str] = []

    def decode(i: int) -> None:
        example = examples[i]
        study = read_file(manifest.path_of(example))
        if len(study.radiographs) != 1:
            reason = study.rejections[0].detail if study.rejections else f"it holds {len(study.radiographs)} images, one is needed"
            failures.append(f"{example.path}: {reason}")
            return
        images[i] = preprocess(whole_knee(study.radiographs[0], side=example.side or None), geometry)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, range(len(examples))))
    if failures:
        shown = "\n  ".join(sorted(failures)[:10])
        raise DataError(f"{len(failures)} of {len(examples)} images cannot be used; mend them or take them out of the manifest:\n  {shown}")


class Knees(Dataset[tuple[Tensor, Tensor]]):
    """Images and labels that hand out a whole batch at a time: one slice of the cache, no per-image work."""

    def __init__(self, images: NDArray[np.floating], labels: Sequence[int]) -> None:
        self.images = images
        self.labels = np.asarray(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return images (N, 1, H, W) and labels (N,) of ``indices``."""
        return torch.from_numpy(self.images[indices]), torch.from_numpy(self.labels[indices])


class EpochShuffle(Sampler[int]):
    """A new order each epoch that depends on seed and epoch only, so that a resumed run sees what an unbroken one would have seen."""

    def __init__(self, length: int, *, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self):  # type: ignore[no-untyped-def]  # Iterator[int]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.length, generator=generator).tolist())


def loader(
    dataset: Knees, *, batch_size: int, sampler: Sampler[int] | None = None, drop_last: bool = False
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return a loader of whole batches. No worker processes: slicing a memory map costs less than handing tensors between processes."""
    return DataLoader(
        dataset, batch_size=batch_size, sampler=sampler, drop_last=drop_last, collate_fn=_identity, pin_memory=torch.cuda.is_available()
    )


def _identity(batch: Any) -> Any:
    return batch
