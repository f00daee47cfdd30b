"""The labels of a run: one row an image, one column a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from kneexray.datasets.manifest import Example, Manifest
from kneexray.errors import DataError

MISSING = -1
"""The label of an image that a task knows nothing of."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A split: one example an image, and labels (N, T) with :data:`MISSING` where a task has none."""

    examples: tuple[Example, ...]
    labels: NDArray[np.int64]

    def counts(self, classes: Sequence[int]) -> list[list[int]]:
        """Return, for each task, how many images each of its ``classes`` grades has."""
        columns = zip(self.labels.T, classes, strict=True)
        return [np.bincount(column[column != MISSING], minlength=k).tolist() for column, k in columns]

    def strata(self) -> NDArray[np.int64]:
        """Return what sampling balances, (N,): the class that an image has in the first task that knows it, counted through the tasks."""
        first = (self.labels != MISSING).argmax(axis=1)
        offset = np.concatenate([[0], np.cumsum(self.labels.max(axis=0) + 1)[:-1]])
        strata: NDArray[np.int64] = self.labels[np.arange(len(first)), first] + offset[first]
        return strata


def collect(manifests: Sequence[Manifest], split: str) -> Labelled:
    """Return split ``split`` of ``manifests``, one a task. With one task its rows stay as they are; with more a file that several name
    is one row.
    """
    if len(manifests) == 1:
        examples = manifests[0].split(split)
        return Labelled(examples, np.asarray(manifests[0].labels(examples), dtype=np.int64)[:, None])
    place: dict[str, int] = {}
    found: list[Example] = []
    marks: list[tuple[int, int, int]] = []
    for column, manifest in enumerate(manifests):
        examples = manifest.split(split)
        for example, label in zip(examples, manifest.labels(examples), strict=True):
            row = place.setdefault(example.path, len(found))
            if row == len(found):
                found.append(example)
            marks.append((row, column, label))
    labels = np.full((len(found), len(manifests)), MISSING, dtype=np.int64)
    for row, column, label in marks:
        labels[row, column] = label
    return Labelled(tuple(found), labels)


def check_splits(manifests: Sequence[Manifest]) -> None:
    """Raise :class:`DataError` where a file or a patient is in 'train' for one task and in 'val' for another."""
    for one, other in permutations(manifests, 2):
        for key in ("path", "patient_id"):
            train, val = ({getattr(e, key) for e in m.examples if e.split == s} - {""} for m, s in ((one, "train"), (other, "val")))
            if both := sorted(train & val):
                raise DataError(
                    f"{len(both)} value(s) of '{key}' are in split 'train' for task '{one.task.name}' and in 'val' for "
                    f"'{other.task.name}', first {both[0]}. Split all tasks' rows together: kneexray data split."
                )
