"""A manifest without what an audit found: conflicts dropped, one file a cluster kept, every drop told with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kneexray.datasets.audit.audit import Audit
from kneexray.datasets.manifest import CLUSTER, Example, Manifest
from kneexray.errors import DataError
from kneexray.tasks import Task


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file that the cleaned manifest does not hold, and why."""

    file: str
    reason: str


def clean(found: Audit, *, task: Task, root: Path) -> tuple[Manifest, tuple[Dropped, ...]]:
    """Return the cleaned manifest (paths absolute) and what was dropped.

    Of a cluster the image with most pixels is kept, then the larger file, then the first by name; of copies with different labels none.
    Unreadable, constant and unlabelled images are dropped; the other suspicious ones stay, to be looked at. An image of an unknown patient
    gets a ``cluster:`` id of its own, since its copies are gone. Raises :class:`DataError` where images lie inside archives, or nothing is
    left.
    """
    packed = next((item.file for item in found.items if item.path is None), None)
    if packed is not None:
        raise DataError(
            f"{packed} lies inside an archive, and a manifest cannot name it there. Run 'kneexray data prepare' first, then audit its "
            "manifest."
        )
    reasons: dict[int, str] = {}
    for group in found.conflicts:
        labels = ", ".join(sorted({found.items[i].label for i in group if found.items[i].label}))
        reasons |= dict.fromkeys(group, f"one film under different labels ({labels})")
    for place, (item, seen) in enumerate(zip(found.items, found.scans, strict=True)):
        if seen.problem or seen.constant:
            reasons[place] = "cannot be read" if seen.problem else "nearly constant"
        elif item.task != task.name:
            reasons.setdefault(place, f"no label of task '{task.name}'")
    for group in found.clusters_at:
        left = [place for place in group if place not in reasons]
        if len(left) > 1:
            kept = min(left, key=lambda i: (-found.scans[i].height * found.scans[i].width, -found.scans[i].n_bytes, found.items[i].file))
            same = {i for i in left if found.scans[i].pixel_sha256 == found.scans[kept].pixel_sha256}
            reasons |= {i: f"{'identical to' if i in same else 'near-duplicate of'} {found.items[kept].file}" for i in left if i != kept}
    examples = tuple(_example(found, place) for place in range(len(found.items)) if place not in reasons)
    if not examples:
        raise DataError(
            f"nothing is left: all {len(found.items)} images were dropped. See the reasons in audit.json; is the task the right one?"
        )
    dropped = tuple(Dropped(found.items[place].file, reasons[place]) for place in sorted(reasons))
    return Manifest(task, examples, root), dropped


def _example(found: Audit, place: int) -> Example:
    item, seen = found.items[place], found.scans[place]
    patient = item.patient_id or f"{CLUSTER}{seen.pixel_sha256[:12]}"
    path = str((item.path or Path(item.file)).resolve())
    return Example(path, item.label, item.task, patient, item.side, item.split, item.data_set, seen.sha256, item.sex)
