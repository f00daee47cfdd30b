"""A model bundle: a folder with ``model.onnx``, its card ``card.json`` and golden inputs and outputs. No pickle.

The card is the one record of a model: what it answers, how its input is made, how sure it may be, what it was made
from, what it scored, and the hash that ties all this to the network's bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kneexray.errors import BundleError, choices
from kneexray.inference.calibration import Calibration
from kneexray.inference.preprocess import Geometry
from kneexray.tasks import FEATURES, TASKS, Task

CARD, NETWORK, GOLDEN = "card.json", "model.onnx", "golden.npz"
SHIPPED: MappingProxyType[str, str] = MappingProxyType(
    {**dict.fromkeys(("kl", *FEATURES, "knee_replacement"), "reading"), "osteoporosis": "osteoporosis"}
)
"""Task -> folder under ``kneexray/models`` of the model that ships for it."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputCard(_Record):
    """See :class:`kneexray.inference.preprocess.Geometry`. Input is float32 (N, 1, size, size) in [0, 1]; the network standardises it."""

    size: int
    zoom: float
    shift_y: float
    region: Literal["knee", "cartilage"] = "knee"


class DataCard(_Record):
    """What the model was trained on; ``sha256`` is of every file's hash, label and split."""

    title: str
    licence: str
    sha256: str
    images: int
    patients: int
    split_quality: Literal["patient", "cluster", "image"]


class MemberCard(_Record):
    """One trained network of the model, and the command that made it. A model of several answers with their mean."""

    command: str
    recipe: dict[str, Any]
    starting_point: str
    starting_point_licence: str
    best_epoch: int
    environment: dict[str, Any]


class HeadCard(_Record):
    """A further task that the same network answers in the same pass: as for the first, what it grades and how sure it may be."""

    task: str
    labels: tuple[str, ...]
    calibration: dict[str, Any]
    scores: dict[str, Any]
    warnings: tuple[str, ...] = ()


class Card(_Record):
    """Everything said about a model. ``scores`` are on the split ``scores_on``; each has its 95 % interval.

    ``also`` are further tasks, whose logits and class maps follow those of ``task`` in the network's outputs, in this order; medial and
    lateral are those of a right knee. ``lengths`` names what the output ``lengths`` holds: shares of the condyles' width.
    ``class_map`` says whether the network gives the output ``cam``. ``quantization`` is there for a network of 8 bits: how it was made,
    and what that changed (:func:`kneexray.train.export.quantize.quantize`).
    """

    format_version: Literal[1, 2] = 1
    model_id: str
    task: str
    labels: tuple[str, ...]
    licence: str
    sha256: str
    input: InputCard
    mirrored_averaging: bool
    class_map: bool = True
    parameters: int
    quantization: dict[str, Any] | None = None
    calibration: dict[str, Any]
    command: str
    data: DataCard
    members: tuple[MemberCard, ...]
    scores_on: str
    scores: dict[str, Any]
    intended_use: str
    limitations: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    also: tuple[HeadCard, ...] = ()
    lengths: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the network answers, in the order of its outputs."""
        return (self.task, *(head.task for head in self.also))

    def head(self, task: str) -> HeadCard:
        """Return what the card says of one of its :attr:`tasks`."""
        if task == self.task:
            return HeadCard(task=task, labels=self.labels, calibration=self.calibration, scores=self.scores, warnings=self.warnings)
        return next(head for head in self.also if head.task == task)

    def columns(self, task: str) -> slice:
        """Return which of the network's logits and class maps belong to one of its :attr:`tasks`."""
        sizes = dict(zip(self.tasks, (len(self.labels), *(len(head.labels) for head in self.also)), strict=True))
        start = sum(sizes[name] for name in self.tasks[: self.tasks.index(task)])
        return slice(start, start + sizes[task])


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle, its hash verified."""

    folder: Path
    card: Card

    @property
    def task(self) -> Task:
        """The question that the model answers."""
        return TASKS[self.card.task]

    @property
    def geometry(self) -> Geometry:
        """What the model sees of a knee."""
        return Geometry(**self.card.input.model_dump())

    @property
    def calibration(self) -> Calibration:
        """How logits of the first task become probabilities and prediction sets."""
        return Calibration.from_dict(self.card.calibration)

    def calibration_of(self, task: str) -> Calibration:
        """How logits of one of the card's tasks become probabilities and prediction sets."""
        return Calibration.from_dict(self.card.head(task).calibration)

    @property
    def network(self) -> Path:
        """The ONNX file."""
        return self.folder / NETWORK


def shipped(task: str) -> Path:
    """Return the folder of the model that ships for ``task``; raises :class:`BundleError` that lists the tasks that have one."""
    if task not in SHIPPED:
        raise BundleError(f"no model ships for task '{task}' ({choices('task with a model', task, SHIPPED)}) Give one with --model BUNDLE.")
    return Path(str(resources.files("kneexray"))) / "models" / SHIPPED[task]


def shipped_models() -> tuple[Path, ...]:
    """Return the folders of all models that ship, each once."""
    return tuple(dict.fromkeys(map(shipped, SHIPPED)))


def default_tasks() -> tuple[str, ...]:
    """Return the tasks that are answered unasked: those of shipped models whose card bears no warning, and what derives from them."""
    cards = [read_card(folder) for folder in shipped_models()]
    sound = {task for card in cards for task in card.tasks if not card.head(task).warnings}
    return tuple(name for name, task in TASKS.items() if task.unasked and (task.derived[0] if task.derived else name) in sound)


def read_card(folder: str | Path) -> Card:
    """Return the card of a bundle without opening its network. Raises :class:`BundleError`."""
    path = Path(folder) / CARD
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(
            f"{folder}: is no model bundle ({CARD} cannot be read: {error.strerror}). Give a folder made by 'kneexray export'."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{path}: is no card that this version of KneeXRay knows ({where}: {first['msg']}). Export the model again."
        ) from None


def open_bundle(folder: str | Path) -> Bundle:
    """Return the bundle in ``folder`` after checking that its network is the one that the card describes.

    Raises :class:`BundleError` for an absent, altered or foreign bundle.
    """
    place = Path(folder)
    card = read_card(place)
    for head in map(card.head, card.tasks):
        if head.task not in TASKS or tuple(head.labels) != TASKS[head.task].labels:
            raise BundleError(
                f"{place}: grades task '{head.task}' with labels {', '.join(head.labels)}, which this version of KneeXRay does not know."
            )
    try:
        digest = sha256_of(place / NETWORK)
    except OSError as error:
        raise BundleError(f"{place}: {NETWORK} cannot be read ({error.strerror}). Export or fetch the bundle again.") from error
    if digest != card.sha256:
        raise BundleError(
            f"{place}: {NETWORK} is not the network that the card describes "
            f"(SHA-256 {digest[:12]}..., the card says {card.sha256[:12]}...). "
            f"It was altered or damaged: export or fetch the bundle again."
        )
    return Bundle(folder=place, card=card)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
