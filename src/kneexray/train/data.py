"""Labelled knees as arrays: decoded once into a cache on disk, read back in whole batches."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kneexray.cores import available_cores
from kneexray.datasets.manifest import Example, Manifest
from kneexray.errors import DataError
from kneexray.inference.preprocess import Geometry, preprocess
from kneexray.read import read_file
from kneexray.roi import whole_knee

logger = logging.getLogger(__name__)

VERSION = 3
"""Of what lies in a cache; it grows when reading or preprocessing change what a knee looks like."""


OVERSAMPLING = 1.25
"""How much finer cached training images are than the network's input: augmentation interpolates once more, and would blur them else."""


def whole_box(geometry: Geometry) -> Geometry:
    """Return the geometry of cached training images: the whole box, so that augmentation can look beyond the window, and finer."""
    return Geometry(size=round(OVERSAMPLING * geometry.size / geometry.zoom), region=geometry.region)


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


def decode(manifest: Manifest, examples: Sequence[Example], geometry: Geometry) -> NDArray[np.float32]:
    """Return the preprocessed knees of ``examples``, (N, 1, H, W). Raises :class:`DataError` listing the files that cannot be read."""
    images = np.empty((len(examples), 1, geometry.size, geometry.size), dtype=np.float32)
    _fill(images, manifest, examples, geometry)
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

    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(decode, range(len(examples))))
    if failures:
        shown = "\n  ".join(sorted(failures)[:10])
        raise DataError(f"{len(failures)} of {len(examples)} images cannot be used; mend them or take them out of the manifest:\n  {shown}")


class Batch(NamedTuple):
    """Images (N, 1, H, W), each task's labels (N, T), and what a recipe may add, NaN where nothing is known of a knee.

    ``taught`` are soft targets: of teachers for the first task (N, K), of tables of answers for all tasks side by side. ``lengths`` (N, L)
    are shares of the condyles' width, in the order of :data:`kneexray.tasks.LENGTHS`.
    """

    images: Tensor
    labels: Tensor
    taught: Tensor | None = None
    lengths: Tensor | None = None


class Knees(Dataset[Batch]):
    """Images and labels that hand out a whole batch at a time: one slice of the cache, no per-image work."""

    def __init__(
        self, images: NDArray[np.floating], labels: NDArray[np.int64], *, taught: Tensor | None = None, lengths: Tensor | None = None
    ) -> None:
        self.images = images
        self.labels = labels
        self.taught = taught
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return the batch of ``indices``."""
        taught, lengths = (None if known is None else known[indices] for known in (self.taught, self.lengths))
        return Batch(torch.from_numpy(self.images[indices]), torch.from_numpy(self.labels[indices]), taught, lengths)


def loader(dataset: Knees, *, batch_size: int, sampler: Iterable[int] | None = None, drop_last: bool = False) -> DataLoader[Batch]:
    """Return a loader of whole batches. No worker processes: slicing a memory map costs less than handing tensors between processes."""
    return DataLoader(
        dataset, batch_size=batch_size, sampler=sampler, drop_last=drop_last, collate_fn=_identity, pin_memory=torch.cuda.is_available()
    )


def _identity(batch: Any) -> Any:
    return batch
