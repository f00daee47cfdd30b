"""What can be graded: pure data. A new task is a new row of :data:`TASKS`.

Definitions: Kellgren & Lawrence, Ann Rheum Dis 1957;16:494 (grades); WHO Technical Report 843, 1994 (bone density classes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType

from kneexray.errors import ConfigError, choices


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: value, coding scheme designator and meaning (DICOM PS3.16, section 8).

    ``99KNEEXRAY`` is this package's own scheme, for what no public scheme that could be checked has a code for.
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Task:
    """One question asked of a knee.

    ``labels`` are the canonical names, in order; ``meanings`` the plain words for each. ``concept`` codes the question and
    ``codes`` the answer of each label. ``synonyms`` maps further
    spellings (lower case, letters and digits only) to a label. ``derived`` is (task, first positive grade) when the
    task needs no model of its own: OA is KL >= 2.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    meanings: tuple[str, ...]
    ordinal: bool
    concept: Code
    codes: tuple[Code, ...]
    synonyms: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))
    derived: tuple[str, int] | None = None

    def label_of(self, text: str) -> str | None:
        """Return the canonical label that ``text`` (a folder name, a CSV cell) stands for, or None: never a guess."""
        key = re.sub(r"[^a-z0-9]", "", text.lower())
        plain = {re.sub(r"[^a-z0-9]", "", label.lower()): label for label in self.labels}
        return plain.get(key) or self.synonyms.get(key)

    def display(self, grade: int) -> str:
        """Return the label as people write it: ``KL 2``, ``osteopenia``."""
        return f"KL {self.labels[grade]}" if self.name == "kl" else self.labels[grade]


_SCT, _OWN = "SCT", "99KNEEXRAY"


def _kl_synonyms() -> MappingProxyType[str, str]:
    words = ("normal", "doubtful", "mild", "moderate", "severe")
    table: dict[str, str] = {"healthy": "0", "minimal": "2"}
    for grade, word in enumerate(words):
        for spelling in (word, f"{grade}{word}", f"kl{grade}", f"grade{grade}", f"klgrade{grade}", f"kl{grade}{word}", f"{word}{grade}"):
            table[spelling] = str(grade)
    return MappingProxyType(table)


TASKS: MappingProxyType[str, Task] = MappingProxyType(
    {
        "kl": Task(
            name="kl",
            title="Kellgren-Lawrence grade",
            labels=("0", "1", "2", "3", "4"),
            meanings=(
                "normal: no feature of osteoarthritis",
                "doubtful: doubtful joint space narrowing, possible osteophytic lipping",
                "mild: definite osteophytes, possible joint space narrowing",
                "moderate: multiple osteophytes, definite narrowing, some sclerosis",
                "severe: large osteophytes, marked narrowing, severe sclerosis, bone-end deformity",
            ),
            ordinal=True,
            concept=Code("KL", _OWN, "Kellgren-Lawrence grade"),
            codes=tuple(Code(f"KL{grade}", _OWN, f"Kellgren-Lawrence grade {grade}") for grade in range(5)),
            synonyms=_kl_synonyms(),
        ),
        "oa": Task(
            name="oa",
            title="Radiographic osteoarthritis (KL >= 2)",
            labels=("no", "yes"),
            meanings=("no radiographic osteoarthritis (KL 0-1)", "radiographic osteoarthritis (KL 2-4)"),
            ordinal=True,
            concept=Code("OA", _OWN, "Radiographic knee osteoarthritis (KL >= 2)"),
            codes=(Code("272519000", _SCT, "Absent"), Code("52101004", _SCT, "Present")),
            synonyms=MappingProxyType(
                {"normal": "no", "healthy": "no", "negative": "no", "osteoarthritis": "yes", "oa": "yes", "positive": "yes"}
            ),
            derived=("kl", 2),
        ),
        "osteoporosis": Task(
            name="osteoporosis",
            title="Bone density class",
            labels=("normal", "osteopenia", "osteoporosis"),
            meanings=("normal: T-score -1 or above", "osteopenia: T-score between -1 and -2.5", "osteoporosis: T-score -2.5 or below"),
            ordinal=True,
            concept=Code("BDC", _OWN, "Bone density class"),
            codes=(Code("17621005", _SCT, "Normal"), Code("312894000", _SCT, "Osteopenia"), Code("64859006", _SCT, "Osteoporosis")),
            synonyms=MappingProxyType(
                {"healthy": "normal", "osteophenia": "osteopenia", "osteopenic": "osteopenia", "osteoporotic": "osteoporosis"}
            ),
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something measured on a knee: what people call it, and its code."""

    title: str
    code: Code


MEASUREMENTS: MappingProxyType[str, Quantity] = MappingProxyType(
    {
        "jsw_medial": Quantity("Joint space width, medial", Code("JSW-MED", _OWN, "Minimum medial tibiofemoral joint space width")),
        "jsw_lateral": Quantity("Joint space width, lateral", Code("JSW-LAT", _OWN, "Minimum lateral tibiofemoral joint space width")),
        "jsw_film_left": Quantity(
            "Joint space width, film's left", Code("JSW-FLEFT", _OWN, "Minimum tibiofemoral joint space width, left of image")
        ),
        "jsw_film_right": Quantity(
            "Joint space width, film's right", Code("JSW-FRIGHT", _OWN, "Minimum tibiofemoral joint space width, right of image")
        ),
    }
)
"""What :attr:`kneexray.types.Knee.measurements` may hold: of a knee of unknown side nobody can say which compartment is the medial."""


def get_task(name: str) -> Task:
    """Return the task called ``name``; raises :class:`~kneexray.errors.ConfigError` that lists the choices."""
    try:
        return TASKS[name]
    except KeyError:
        raise ConfigError(choices("task", name, TASKS)) from None
