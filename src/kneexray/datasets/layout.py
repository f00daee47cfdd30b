"""What a file's place says: its class and its split, told from the folders (and archives) above it. Never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

from kneexray.datasets.catalogue import CATALOGUE
from kneexray.errors import ConfigError
from kneexray.tasks import TASKS, Task

SPLIT_NAMES: MappingProxyType[str, str] = MappingProxyType(
    {
        "train": "train",
        "training": "train",
        "val": "val",
        "valid": "val",
        "validation": "val",
        "dev": "val",
        "test": "test",
        "testing": "test",
    }
)
_ARCHIVE_ENDING = re.compile(r"(?:\.zip|\.tar|\.tar\.\w+|\.tgz|\.tbz2|\.txz)?!?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """What the folders above a file say. ``label`` is None where they name no class of the task, or two; ``problem`` then says which."""

    label: str | None
    split: str
    problem: str = ""


def folders_of(name: str) -> list[str]:
    """Return the folders above the file ``name``, archives as folders without their ending: ``a.zip!/train.zip!/0/x.png`` is in a, train,
    0.
    """
    return [_ARCHIVE_ENDING.sub("", part) for part in name.replace("\\", "/").split("/")[:-1]]


def place(name: str, task: Task) -> Place:
    """Return what the folders of ``name`` (a path below the data set's root) say under ``task``."""
    folders = folders_of(name)
    splits = [SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in SPLIT_NAMES]
    labels = [label for folder in folders if (label := task.label_of(folder)) is not None]
    split = splits[-1] if splits else ""
    if len(set(labels)) == 1:
        return Place(labels[0], split)
    shown = "/".join(folders) or "(no folder)"
    return Place(None, split, f"{shown}: {'two classes in one path' if labels else 'no class'}")


def infer_task(names: Iterable[str]) -> Task | None:
    """Return the task whose classes the folders of most files name, or None where no folder names a class."""
    return best_task(folder for name in names for folder in folders_of(name))


def best_task(spellings: Iterable[str]) -> Task | None:
    """Return the task that most of ``spellings`` are classes of, or None where none is."""
    kinds = set(spellings)
    _ask(kinds)
    scores = {name: sum(task.label_of(kind) is not None for kind in kinds) for name, task in TASKS.items() if not task.compartment}
    best = max(scores, key=lambda name: scores[name])
    return TASKS[best] if scores[best] else None


def _ask(kinds: set[str]) -> None:
    """Raise :class:`ConfigError` for class names that are of more than one task, or of a scale that is shifted."""
    numbers = {kind for kind in kinds if kind.strip().isdigit()}
    if numbers == {"0", "1"}:
        raise ConfigError("the classes 0 and 1 may be KL grades, or osteoarthritis no and yes. Name the task: --task kl or --task oa.")
    check_scale(numbers)


def check_scale(kinds: Iterable[str]) -> None:
    """Raise :class:`ConfigError` for classes 1 to 5, which may be KL 0 to 4 counted from one."""
    numbers = {kind.strip() for kind in kinds}
    if numbers >= {"1", "2", "3", "4", "5"} and "0" not in numbers:
        raise ConfigError("the classes are 1 to 5, KL grades are 0 to 4: is 1 KL 0 or KL 1? Rename them, for instance to KL0 to KL4.")


def redundant(names: Iterable[str]) -> dict[str, str]:
    """Return the files that repeat others of the same public data set, each with the reason; see
    :class:`~kneexray.datasets.catalogue.record.Redundant`.
    """
    rules = [rule for card in CATALOGUE.values() for rule in card.redundant]
    listed = [(name, folders_of(name)) for name in names]
    present = {folder for _, folders in listed for folder in folders}
    active = {rule.folder: rule.reason for rule in rules if rule.folder in present and (not rule.beside or rule.beside in present)}
    found: dict[str, str] = {}
    for name, folders in listed:
        for folder in folders:
            if folder in active:
                found[name] = f"{folder}: {active[folder]}"
    return found
