"""The connected parts of a mask, by numpy alone: runs of each row, joined where runs of neighbouring rows touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Blobs:
    """N parts: ``boxes`` (N, 4) are x0, y0, x1, y1 in pixels, from the outer edge of the first one; ``areas`` (N,) count pixels."""

    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]


def blobs(mask: NDArray[np.bool_]) -> Blobs:
    """Return the parts of a ``mask`` (H, W) whose pixels touch along a side or at a corner."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)  # a column of nothing either side: no run spans two rows
    padded[:, 1:-1] = mask
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return Blobs(np.zeros((0, 4), np.int64), np.zeros(0, np.int64))
    below = width + 2
    first = np.searchsorted(ends, starts + below, side="left")
    count = np.maximum(np.searchsorted(starts, ends + below, side="right") - first, 0)
    upper = np.repeat(np.arange(len(starts)), count)
    lower = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    label = _joined(len(starts), upper, lower)
    order = np.argsort(label, kind="stable")
    at = np.flatnonzero(np.diff(label[order], prepend=-1))
    rows = starts[order] // below
    x0 = np.minimum.reduceat(starts[order] % below, at) - 1
    x1 = np.maximum.reduceat((ends[order] - 1) % below, at)
    y0, y1 = np.minimum.reduceat(rows, at), np.maximum.reduceat(rows, at) + 1
    return Blobs(np.stack([x0, y0, x1, y1], axis=1), np.add.reduceat((ends - starts)[order], at))


def _joined(n: int, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each of ``n`` things the smallest of all that the pairs ``a``, ``b`` connect it with."""
    label = np.arange(n)
    while True:
        left, right = label[a], label[b]
        apart = left != right
        if not apart.any():
            return label
        a, b, left, right = a[apart], b[apart], left[apart], right[apart]
        np.minimum.at(label, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(label, label[label]):
            label = label[label]
