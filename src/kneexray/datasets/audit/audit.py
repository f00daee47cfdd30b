"""The audit: copies, conflicts, leaks, confounds and suspicious images of any data, found once and told plainly."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneexray.cores import available_cores
from kneexray.datasets.audit import confounds as confounding
from kneexray.datasets.audit.items import Item
from kneexray.datasets.audit.near import Candidate, candidates
from kneexray.datasets.audit.register import describe, likeness, overlay
from kneexray.datasets.audit.scan import Scan, resized, scan, view
from kneexray.datasets.groups import Groups
from kneexray.datasets.manifest import Manifest, audit_beside
from kneexray.errors import DataError
from kneexray.read import read_bytes

VERSION = 1
SMALLEST = 64
"""Images with a side below this many pixels are pointed out."""
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images (places in the audit's items) that show the same film, and what was done to one of them to make the other.

    ``agreement`` is the correlation of their detail once laid over each other; ``points`` how many details agree.
    """

    first: int
    second: int
    how: str
    agreement: float
    points: int


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """What was found. Groups hold places in ``items``: ``exact`` by bytes or pixels, ``clusters`` by any likeness (the exact ones
    included).
    """

    items: tuple[Item, ...]
    scans: tuple[Scan, ...]
    exact: tuple[tuple[int, ...], ...]
    clusters_at: tuple[tuple[int, ...], ...]
    pairs: tuple[Pair, ...]
    confounds: tuple[confounding.Confound, ...]
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def clusters(self) -> tuple[tuple[str, ...], ...]:
        """The files of each cluster."""
        return tuple(self.files(group) for group in self.clusters_at)

    @property
    def near(self) -> tuple[tuple[int, ...], ...]:
        """The clusters whose images are not all identical."""
        return tuple(group for group in self.clusters_at if len({self.scans[i].pixel_sha256 for i in group}) > 1)

    def files(self, group: Iterable[int]) -> tuple[str, ...]:
        """Return the names of a group's images."""
        return tuple(self.items[i].file for i in group)

    @property
    def conflicts(self) -> tuple[tuple[int, ...], ...]:
        """The clusters whose images carry different labels of one task."""
        return tuple(group for group in self.clusters_at if self._disputed(group))

    def _disputed(self, group: Iterable[int]) -> bool:
        labels = {(item.task, item.label) for item in map(self.items.__getitem__, group) if item.label}
        return len(labels) > len({task for task, _ in labels})

    @property
    def leaks(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """What lies in more than one split, with its kind: ``exact`` and ``near`` copies, re-cropped ones (``recrop``), knees of one
        ``patient``; and, as ``sets``, copies in more than one of the sets that were audited together.
        """
        cropped = {place for pair in self.pairs if "cropped" in pair.how for place in (pair.first, pair.second)}
        near = set(self.near)
        found: list[tuple[str, tuple[int, ...]]] = []
        for group in self.clusters_at:
            if self._splits(group) > 1:
                found.append(("recrop" if any(place in cropped for place in group) else "near" if group in near else "exact", group))
            if len({self.items[place].collection for place in group}) > 1:
                found.append(("sets", group))
        patients: defaultdict[str, list[int]] = defaultdict(list)
        for place, item in enumerate(self.items):
            if item.patient_id:
                patients[item.patient_id].append(place)
        return (*found, *(("patient", tuple(group)) for group in patients.values() if self._splits(group) > 1))

    def _splits(self, group: Iterable[int]) -> int:
        return len({self.items[place].split for place in group if self.items[place].split})

    @property
    def suspicious(self) -> tuple[tuple[int, str], ...]:
        """The images that are probably no use as they are, each with the reason."""
        return tuple((place, reason) for place, seen in enumerate(self.scans) if (reason := _suspicion(seen)))


def audit(items: Sequence[Item], *, jobs: int = 0, progress: Callable[[int], None] = lambda done: None) -> Audit:
    """Look at every image of ``items`` and return what was found; needs the ``data`` extra (OpenCV).

    Each image is decoded once, likely copies once more. Time grows near-linearly with the number of images, memory by some 25 KB an
    image. ``jobs`` is the number of threads (0: one a core); ``progress`` is told how many images were seen.
    """
    return conclude(items, scanned(items, jobs=jobs, progress=progress), jobs=jobs)


def scanned(items: Sequence[Item], *, jobs: int = 0, progress: Callable[[int], None] = lambda done: None) -> list[Scan]:
    """Return what each image of ``items`` is like."""
    found: list[Scan] = []
    todo = iter(items)
    with ThreadPoolExecutor(jobs or available_cores()) as pool:
        while batch := list(islice(todo, _BATCH)):
            for seen in pool.map(scan, batch):
                found.append(seen)
                progress(len(found))
    return found


def conclude(items: Sequence[Item], scans: Sequence[Scan], *, jobs: int = 0) -> Audit:
    """Return what the ``scans`` of ``items`` say together."""
    exact = _identical(scans)
    one_each = [place for place, seen in enumerate(scans) if not seen.problem and exact.find(place) == place]
    likely = [
        Candidate(one_each[c.first], one_each[c.second], c.mirrored, c.votes)
        for c in candidates([scans[place].points for place in one_each])
    ]
    with ThreadPoolExecutor(jobs or available_cores()) as pool:
        pairs = _verified(items, scans, likely, pool)
    clusters = _identical(scans)
    for pair in pairs:
        clusters.join(pair.first, pair.second)
    tasks = Counter(item.task for item in items if item.label)
    asked = tasks.most_common(1)[0][0] if tasks else ""  # labels of several tasks cannot be told apart together
    known = [place for place, item in enumerate(items) if item.label and item.task == asked and not scans[place].problem]
    found = confounding.confounds(
        [items[i].label for i in known],
        sizes=[(scans[i].height, scans[i].width) for i in known],
        encodings=[scans[i].kind for i in known],
        n_bytes=[scans[i].n_bytes for i in known],
    )
    unreadable = sum(bool(seen.problem) for seen in scans)
    return Audit(
        items=tuple(items),
        scans=tuple(scans),
        exact=tuple(map(tuple, exact.several())),
        clusters_at=tuple(map(tuple, clusters.several())),
        pairs=tuple(pairs),
        confounds=tuple(found),
        figures={"images": len(items), "unreadable": unreadable, "candidates": len(likely), "pairs": len(pairs)},
    )


def to_dict(found: Audit, *, digest: str) -> dict[str, Any]:
    """Return the audit as ``audit.json`` holds it; ``digest`` is of the manifest that was audited."""
    return {
        "version": VERSION,
        "digest": digest,
        "files": {item.file: seen.sha256 for item, seen in zip(found.items, found.scans, strict=True)},
        "figures": found.figures,
        "splits": dict(Counter(item.split for item in found.items if item.split)),
        "labels": dict(Counter(item.label for item in found.items if item.label)),
        "exact_groups": [list(found.files(group)) for group in found.exact],
        "near_groups": [list(found.files(group)) for group in found.near],
        "near_pairs": [
            {"files": list(found.files((p.first, p.second))), "how": p.how, "agreement": round(p.agreement, 3), "points": p.points}
            for p in found.pairs
        ],
        "label_conflicts": [
            {"files": list(found.files(group)), "labels": [found.items[i].label for i in group]} for group in found.conflicts
        ],
        "split_leaks": [
            {"kind": kind, "files": list(found.files(group)), "splits": [found.items[i].split for i in group]}
            for kind, group in found.leaks
        ],
        "confounds": [confound.to_dict() for confound in found.confounds],
        "suspicious": [{"file": found.items[place].file, "reason": reason} for place, reason in found.suspicious],
    }


def beside(manifest: Manifest) -> Path | None:
    """Return the audit of this very data that lies beside its manifest, or None."""
    known = audit_beside(manifest)
    return None if known is None else known[0]


def clusters_of(path: Path, manifest: Manifest) -> list[list[str]]:
    """Return the clusters in the ``audit.json`` at ``path``, files as ``manifest`` names them: told by their hashes, by name where it has
    none. Files that are gone since are left out. Raises :class:`DataError` where the audit did not see every image of ``manifest``.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        hashes = {str(file): str(sha256) for file, sha256 in stored["files"].items()}
        groups = [[hashes[file] for file in group] for group in [*stored["exact_groups"], *stored["near_groups"]]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is no audit that can be read ({error}). Run 'kneexray data audit' on the manifest.") from error
    here: defaultdict[str, list[str]] = defaultdict(list)
    seen = set(hashes.values()) - {""}
    for example in manifest.examples:
        sha256 = example.sha256 or hashes.get(example.path, "")
        if sha256 not in seen:
            raise DataError(
                f"{path}: did not see {example.path}, or not as it is now. Audit this manifest: kneexray data audit MANIFEST --out DIR."
            )
        here[sha256].append(example.path)
    return [[file for sha256 in dict.fromkeys(group) for file in here[sha256]] for group in groups]


def _identical(scans: Sequence[Scan]) -> Groups:
    """Return the images grouped by bytes and by pixels."""
    groups, first = Groups(len(scans)), dict[str, int]()
    for place, seen in enumerate(scans):
        for key in (seen.sha256, seen.pixel_sha256):
            if key:
                groups.join(first.setdefault(key, place), place)
    return groups


def _verified(items: Sequence[Item], scans: Sequence[Scan], likely: Sequence[Candidate], pool: ThreadPoolExecutor) -> list[Pair]:
    """Return the candidates that are copies indeed, in order."""

    @lru_cache(maxsize=64)
    def pictures(place: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        plain = resized(read_bytes(items[place].source.load(), source=items[place].file).radiographs[0].pixels)
        return view(plain), plain.astype(np.uint8)

    def judge(candidate: Candidate) -> Pair | None:
        over = overlay(scans[candidate.first].points, scans[candidate.second].points, flip=candidate.mirrored)
        if over is None:
            return None
        like = likeness(pictures(candidate.first), pictures(candidate.second), over)
        return Pair(candidate.first, candidate.second, describe(over, like), like.agreement, over.points) if like.same else None

    return [pair for pair in pool.map(judge, likely) if pair is not None]


def _suspicion(seen: Scan) -> str:
    if seen.problem:
        return f"cannot be read: {seen.problem}"
    if seen.constant:
        return f"nearly constant: its grey values span {seen.spread:.1%} of the range"
    if seen.inverted:
        return "looks inverted: bone dark, background bright"
    if min(seen.height, seen.width) < SMALLEST:
        return f"small: {seen.width} x {seen.height} pixels"
    return ""
