"""Which images may be copies of each other: locality-sensitive hashing of their points, near-linear in the number of images.

Each descriptor gets one key a table, the signs of random projections (Charikar, STOC 2002): descriptors of a copied detail share a key
often, others hardly ever. The number of bits grows with the number of points, so that a key stays rare. Pairs of points that share a key,
point the same way and are of like size vote for their pair of images; mirrored copies vote through mirrored descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneexray.datasets.audit.scan import Points

TABLES = 8
NEIGHBOURS = 24
"""With how many of the points that share its key a point is compared: what many images have in common costs no more than that."""
MOST = 4
"""How many candidates an image puts forward: those with most votes."""
FEWEST_VOTES = 8
"""Copies get 30 and more among 400 knees, fewer among more images, whose keys are longer; so do chance votes, which are spread ever
thinner.
"""
TURN = 25.0  # degrees
GROWTH = 1.3  # doublings of size
_SEED = 20
_SAMPLE = 20_000
_BLOCK = 50_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """Images ``first`` < ``second`` that may be copies; ``mirrored``: one of them left-right flipped."""

    first: int
    second: int
    mirrored: bool
    votes: int


def root_sift(descriptor: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return descriptors (N, 128) so that their dot product is their Hellinger affinity (Arandjelovic & Zisserman, CVPR 2012)."""
    values = descriptor.astype(np.float32)
    values /= np.maximum(values.sum(axis=1, keepdims=True), 1)
    return np.sqrt(values, out=values)


def _mirror_order() -> NDArray[np.intp]:
    """Return how the 4 x 4 cells of 8 directions of a descriptor change places when its image is mirrored."""
    order = np.arange(128).reshape(4, 4, 8)[::-1]
    return order[:, :, (8 - np.arange(8)) % 8].ravel()


MIRROR_ORDER = _mirror_order()


def mirrored(points: Points) -> Points:
    """Return the points of the left-right flipped image, without looking at it again."""
    frame = points.frame.copy()
    frame[:, 0] = points.shape[1] - 1 - frame[:, 0]
    frame[:, 3] = (180 - frame[:, 3]) % 360
    return Points(frame, points.descriptor[:, MIRROR_ORDER], points.shape)


def candidates(images: Sequence[Points]) -> list[Candidate]:
    """Return the pairs of ``images`` that are worth a closer look, in order; the same each time."""
    counts = np.array([len(image.frame) for image in images])
    if counts.sum() == 0:
        return []
    owner = np.repeat(np.arange(len(images), dtype=np.int32), counts)
    descriptor = np.concatenate([image.descriptor for image in images])
    size = np.log2(np.concatenate([image.frame[:, 2] for image in images]))
    angle = np.concatenate([image.frame[:, 3] for image in images])
    plain, flipped = _keys(descriptor)
    found = []
    for flip in (False, True):
        pairs = [_colliding(plain[table], flipped[table] if flip else None, owner, size, angle) for table in range(TABLES)]
        found += _elected(np.concatenate(pairs), len(images), flip)
    return sorted(found, key=lambda c: (c.first, c.second, c.mirrored))


def _keys(descriptor: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return the key of each descriptor (N, 128), and of each mirrored one, in every table: (tables, N) both."""
    n = len(descriptor)
    bits = int(np.clip(np.ceil(np.log2(n)), 12, 30))
    mean = root_sift(descriptor[:: max(1, n // _SAMPLE)]).mean(axis=0)
    planes = np.random.default_rng(_SEED).standard_normal((128, TABLES * bits), dtype=np.float32)
    turned = np.empty_like(planes)
    turned[MIRROR_ORDER] = planes  # to mirror a descriptor, or the planes the other way round, is the same
    weights = np.left_shift(1, np.arange(bits)).astype(np.uint32)
    plain, flipped = np.empty((TABLES, n), np.uint32), np.empty((TABLES, n), np.uint32)
    for start in range(0, n, _BLOCK):
        block = slice(start, start + _BLOCK)
        root = root_sift(descriptor[block])
        for out, normals in ((plain, planes), (flipped, turned)):
            signs = (root @ normals > mean @ planes).reshape(len(root), TABLES, bits)
            out[:, block] = (signs @ weights).T
    return plain, flipped


def _colliding(
    keys: NDArray[np.uint32],
    flipped: NDArray[np.uint32] | None,
    owner: NDArray[np.int32],
    size: NDArray[np.float32],
    angle: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Return the pairs of images (first << 32 | second) whose points share a key, one entry a pair of points.

    With the keys of ``flipped`` points, those pairs of which one is mirrored: plain points against mirrored ones.
    """
    if flipped is not None:
        keys = np.concatenate([keys, flipped])
        owner, size = np.tile(owner, 2), np.tile(size, 2)
        angle = np.concatenate([angle, (180 - angle) % 360])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    lengths = np.diff(np.append(starts, len(keys)))
    position = np.arange(len(keys)) - np.repeat(starts, lengths)  # among those of its key
    later = np.flatnonzero(position)
    is_flipped = order >= len(order) // 2
    found = []
    for step in range(1, NEIGHBOURS * (1 if flipped is None else 2)):
        later = later[position[later] >= step]
        if len(later) == 0:
            break
        a, b = order[later - step], order[later]
        if flipped is not None:
            other = is_flipped[later] != is_flipped[later - step]
            a, b = a[other], b[other]
        turn = np.abs((angle[a] - angle[b] + 180) % 360 - 180)
        alike = (owner[a] != owner[b]) & (turn < TURN) & (np.abs(size[a] - size[b]) < GROWTH)
        first, second = owner[a[alike]].astype(np.int64), owner[b[alike]].astype(np.int64)
        found.append(np.minimum(first, second) << 32 | np.maximum(first, second))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _elected(pairs: NDArray[np.int64], n: int, flip: bool) -> list[Candidate]:
    """Return the pairs with enough votes that are among the first of one of their images."""
    pairs, votes = np.unique(pairs, return_counts=True)
    keep = votes >= FEWEST_VOTES
    pairs, votes = pairs[keep], votes[keep]
    first, second = pairs >> 32, pairs & 0xFFFFFFFF
    elected = _leading(first, votes, n) | _leading(second, votes, n) if len(pairs) else np.zeros(0, bool)
    rows = zip(first[elected].tolist(), second[elected].tolist(), votes[elected].tolist(), strict=True)
    return [Candidate(a, b, flip, count) for a, b, count in rows]


def _leading(image: NDArray[np.int64], votes: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """Say which pairs are among the :data:`MOST` of ``image`` with most votes."""
    order = np.lexsort((-votes, image))
    starts = np.searchsorted(image[order], np.arange(n))
    rank = np.empty(len(image), np.int64)
    rank[order] = np.arange(len(image)) - starts[image[order]]
    return rank < MOST
