"""Splits that keep patients, or clusters of near-duplicate images, together: stratified, seeded, the same to the byte on every machine."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kneexray.datasets.groups import Groups
from kneexray.datasets.manifest import CLUSTER, Manifest
from kneexray.errors import ConfigError, DataError

Unit = Literal["patient", "image"]
UNITS: tuple[Unit, ...] = get_args(Unit)
SPLITS: Mapping[int, tuple[str, ...]] = {1: ("train",), 2: ("train", "val"), 3: ("train", "val", "test")}


@dataclass(frozen=True, slots=True)
class Part:
    """A split and its share of the images, in [0, 1]."""

    name: str
    share: float


def parse_fractions(text: str) -> tuple[Part, ...]:
    """Return the parts that ``text`` names: ``80/20`` is train and val, ``70/10/20`` train, val and test.

    Raises :class:`~kneexray.errors.ConfigError` unless it is two or three positive numbers that sum to 100.
    """
    try:
        numbers = [float(part) for part in text.split("/")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or min(numbers) <= 0 or abs(sum(numbers) - 100) > 1e-6:
        raise ConfigError(
            f"fractions {text!r} are not two or three positive numbers that sum to 100. Write 80/20 (train/val) or 70/10/20 "
            "(train/val/test)."
        )
    return tuple(Part(name, number / 100) for name, number in zip(SPLITS[len(numbers)], numbers, strict=True))


def split(
    manifest: Manifest, *, parts: Sequence[Part], seed: int, clusters: Iterable[Sequence[str]] = (), by: Unit = "patient"
) -> Manifest:
    """Return ``manifest`` with every image put into one of ``parts``; an earlier split is forgotten.

    Images of one patient stay together, and so do those of one of ``clusters`` (files as the manifest names them). An image without a
    patient gets its cluster as ``patient_id`` (``cluster:...``), so that later figures say what the split kept apart. ``by="image"`` keeps
    nothing together, as many published splits do, to measure what that is worth; such a split says of itself that it is one. Raises
    :class:`DataError` where there are fewer groups than parts.
    """
    grouped, place = _placed(manifest, parts, seed, clusters, by)
    examples = tuple(replace(e, split=parts[place[row]].name) for row, e in enumerate(grouped.examples))
    return replace(grouped, examples=examples, leaks=())


def folds(manifest: Manifest, *, k: int, seed: int, clusters: Iterable[Sequence[str]] = (), by: Unit = "patient") -> tuple[Manifest, ...]:
    """Return ``k`` manifests, each with another fold as ``val`` and the rest as ``train``; see :func:`split`."""
    if k < 2:
        raise ConfigError(f"{k} folds are asked for; two or more are needed.")
    grouped, place = _placed(manifest, [Part(f"fold{i}", 1 / k) for i in range(k)], seed, clusters, by)
    return tuple(
        replace(
            grouped,
            examples=tuple(replace(e, split="val" if place[row] == i else "train") for row, e in enumerate(grouped.examples)),
            leaks=(),
        )
        for i in range(k)
    )


def with_groups(manifest: Manifest, *, clusters: Iterable[Sequence[str]] = ()) -> Manifest:
    """Return ``manifest`` with a ``patient_id`` for every image: its own, or one that stands for its cluster.

    Where clusters tie patients together (one image under two names), all of them get one ``cluster:`` id: they cannot be told apart.
    """
    examples = manifest.examples
    rows = {e.path: row for row, e in enumerate(examples)}
    groups = Groups(len(examples))
    first: dict[str, int] = {}
    for row, example in enumerate(examples):
        if example.patient_id:
            groups.join(first.setdefault(example.patient_id, row), row)
    for cluster in clusters:
        known = [rows[file] for file in cluster if file in rows]
        for row in known[1:]:
            groups.join(known[0], row)
    named = list(examples)
    for members in groups.all():
        patients = {examples[row].patient_id for row in members}
        if len(patients) == 1 and "" not in patients:
            continue
        key = min(examples[row].sha256 or examples[row].path for row in members)
        for row in members:
            named[row] = replace(examples[row], patient_id=f"{CLUSTER}{hashlib.sha256(key.encode()).hexdigest()[:12]}")
    return replace(manifest, examples=tuple(named))


def _placed(
    manifest: Manifest, parts: Sequence[Part], seed: int, clusters: Iterable[Sequence[str]], by: Unit
) -> tuple[Manifest, NDArray[np.int64]]:
    if by == "image":
        alone = tuple(replace(e, patient_id=e.path) for e in manifest.examples)
        return manifest, _dealt(replace(manifest, examples=alone), parts, seed)
    grouped = with_groups(manifest, clusters=clusters)
    return grouped, _dealt(grouped, parts, seed)


def _dealt(manifest: Manifest, parts: Sequence[Part], seed: int) -> NDArray[np.int64]:
    """Return the part (N,) of each image: large groups first, each to the part that lacks most of what it holds."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for row, example in enumerate(manifest.examples):
        members[example.patient_id].append(row)
    if len(members) < len(parts):
        raise DataError(f"{len(members)} group(s) of images cannot make {len(parts)} splits. Give more data, or ask for fewer splits.")
    labels = np.asarray(manifest.labels(manifest.examples))
    classes = len(manifest.task.labels)
    shares = np.array([part.share for part in parts])
    wanted = shares[:, None] * np.bincount(labels, minlength=classes)  # (parts, classes)
    have = np.zeros_like(wanted)
    place = np.zeros(len(labels), dtype=np.int64)
    keys = {key: hashlib.sha256(f"{seed} {_content(manifest, rows)}".encode()).hexdigest() for key, rows in members.items()}
    for key in sorted(members, key=lambda key: (-len(members[key]), keys[key])):
        rows = members[key]
        held = np.bincount(labels[rows], minlength=classes)
        lack = ((wanted - have) / np.maximum(shares[:, None], 1e-9) * held).sum(axis=1)
        room = (wanted.sum(axis=1) - have.sum(axis=1)) / shares
        chosen = int(np.lexsort((-room, -np.round(lack, 9)))[0])
        have[chosen] += held
        place[rows] = chosen
    empty = [part.name for i, part in enumerate(parts) if have[i].sum() == 0]
    if empty:
        raise DataError(f"no group of images is left for split {', '.join(empty)}. Give more data, or larger fractions.")
    return place


def _content(manifest: Manifest, rows: Sequence[int]) -> str:
    """Return what a group is whatever its files are called: its hashes, or its names where those are not known."""
    return min(manifest.examples[row].sha256 or manifest.examples[row].path for row in rows)


def summary(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Return the number of images of each class in each split: train, val, test and then others, in order."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for example in manifest.examples:
        counts[example.split or "(none)"][example.label] += 1
    names = dict.fromkeys([*(name for name in SPLITS[3] if name in counts), *counts])
    return {name: {label: counts[name][label] for label in manifest.task.labels} for name in names}
