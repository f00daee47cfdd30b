"""What can be graded: pure data. A new task is a new row of :data:`TASKS`.

Definitions: Kellgren & Lawrence, Ann Rheum Dis 1957;16:494 (grades); Altman & Gold, Osteoarthritis Cartilage 2007;15 Suppl A:A1 (the OARSI
atlas: osteophytes, narrowing, sclerosis by compartment); WHO Technical Report 843, 1994 (bone density classes).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

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
    task needs no model of its own: OA is KL >= 2. A feature of one compartment names its ``compartment`` and, where it belongs to one,
    its ``bone``. ``unasked`` tasks may be answered by default; others only when they are asked for by name. A ``caution`` is said with
    every answer, whichever model gives it.
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
    compartment: Literal["medial", "lateral"] | None = None
    bone: Literal["femur", "tibia"] | None = None
    unasked: bool = False
    caution: str | None = None

    def label_of(self, text: str) -> str | None:
        """Return the canonical label that ``text`` (a folder name, a CSV cell) stands for, or None: never a guess.

        A number with a sign, a comparison, a question mark or a fraction is none: ``-1`` and ``>2`` say that nobody knows.
        """
        given = text.strip().lower()
        if re.search(r"[<>≤≥=?~]", given) or re.match(r"[-+−–]\s*\d", given) or re.fullmatch(r"\d+\s*[-/,;:|]\s*\d+.*", given):
            return None
        if number := re.fullmatch(r"(\d+)[.,](\d*)", given):
            if number[2].strip("0"):
                return None
            given = number[1]
        key = re.sub(r"[^a-z0-9]", "", given)
        plain = {re.sub(r"[^a-z0-9]", "", label.lower()): label for label in self.labels}
        return plain.get(key) or self.synonyms.get(key)

    def display(self, grade: int) -> str:
        """Return the label as people write it: ``KL 2``, ``osteopenia``."""
        if self.name == "kl":
            return f"KL {self.labels[grade]}"
        return f"grade {self.labels[grade]}" if self.compartment else self.labels[grade]


_SCT, _OWN = "SCT", "99KNEEXRAY"


def _kl_synonyms() -> MappingProxyType[str, str]:
    words = (("normal", "healthy"), ("doubtful", "questionable"), ("mild", "minimal"), ("moderate",), ("severe",))
    kinds = ("kl", "klg", "g", "grade", "klgrade", "class", "label", "kellgrenlawrence", "kellgrenlawrencegrade")
    table = {f"{kind}{grade}": str(grade) for grade in range(len(words)) for kind in kinds}
    for grade, spellings in enumerate(words):
        for word in spellings:
            numbers = (str(grade), *(f"{kind}{grade}" for kind in kinds))
            table |= {word: str(grade), **{f"{number}{word}": str(grade) for number in numbers}, f"{word}{grade}": str(grade)}
    return MappingProxyType(table)


def _features() -> Iterator[Task]:
    """Yield the tasks of the OARSI atlas: osteophytes and sclerosis of each bone, narrowing of each compartment, grades 0-3."""
    bones: tuple[Literal["femur", "tibia"], ...] = ("femur", "tibia")
    compartments: tuple[Literal["medial", "lateral"], ...] = ("medial", "lateral")
    for compartment in compartments:
        for bone in bones:
            yield _feature(f"osteophyte_{bone[0]}{compartment[0]}", "Osteophytes", compartment, bone)
    for compartment in compartments:
        yield _feature(f"jsn_{compartment}", "Joint space narrowing", compartment, None)
    for compartment in compartments:
        for bone in bones:
            yield _feature(f"sclerosis_{bone[0]}{compartment[0]}", "Sclerosis", compartment, bone)


def _feature(name: str, what: str, compartment: Literal["medial", "lateral"], bone: Literal["femur", "tibia"] | None) -> Task:
    where = f"{compartment} {bone}" if bone else f"{compartment} compartment"
    kind = {"osteophyte": "OP", "jsn": "JSN", "sclerosis": "SCL"}[name.partition("_")[0]]
    code = f"{kind}-{bone[0] if bone else ''}{compartment[:3]}".upper()  # short: DICOM allows 16 characters, and "-SET" follows
    extents = ("none", "mild", "moderate", "severe")
    return Task(
        name=name,
        title=f"{what}, {where}",
        labels=("0", "1", "2", "3"),
        meanings=tuple(f"{extent}: OARSI grade {grade}" for grade, extent in enumerate(extents)),
        ordinal=True,
        concept=Code(code, _OWN, f"{what}, {where}"),
        codes=tuple(Code(f"OARSI{grade}", _OWN, f"OARSI grade {grade}, {extent}") for grade, extent in enumerate(extents)),
        synonyms=MappingProxyType(
            {spelling: str(g) for g, extent in enumerate(extents) for spelling in (f"grade{g}", f"{g}{extent}", *([extent] if g else []))}
        ),
        compartment=compartment,
        bone=bone,
    )


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
            unasked=True,
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
                {
                    **dict.fromkeys(("0", "normal", "healthy", "negative", "nooa", "nonoa", "false"), "no"),
                    **dict.fromkeys(("1", "osteoarthritis", "oa", "positive", "true"), "yes"),
                }
            ),
            derived=("kl", 2),
            unasked=True,
        ),
        **{task.name: task for task in _features()},
        "knee_replacement": Task(
            name="knee_replacement",
            title="Knee replacement within nine years",
            labels=("no", "yes"),
            meanings=("no replacement of this knee within nine years", "a replacement of this knee within nine years"),
            ordinal=True,
            concept=Code("TKR9Y", _OWN, "Total knee replacement within nine years"),
            codes=(Code("TKR9Y-NO", _OWN, "No knee replacement"), Code("TKR9Y-YES", _OWN, "Knee replacement")),
            caution="the chance of a knee replacement is research: it was learnt from one cohort of volunteers and their surgeons' "
            "choices, and is no advice to anybody",
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


FEATURES: tuple[str, ...] = tuple(name for name, task in TASKS.items() if task.compartment)
"""The tasks of the OARSI atlas."""
GROUPS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType({"reading": ("kl", "oa", *FEATURES)})
"""Names that stand for several tasks wherever tasks are asked for."""


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """Return the tasks that ``names`` stand for, groups replaced by their tasks, each once."""
    return tuple(dict.fromkeys(task for name in names for task in GROUPS.get(name, (name,))))


def mirror_image(name: str) -> str:
    """Return the task that answers for the same place on a knee's mirror image: medial becomes lateral, and what has no side stays."""
    task = TASKS[name]
    if task.compartment is None:
        return name
    other = {"medial": "lateral", "lateral": "medial"}[task.compartment]
    like = (name.partition("_")[0], other, task.bone)
    return next(n for n in FEATURES if (n.partition("_")[0], TASKS[n].compartment, TASKS[n].bone) == like)


def mirror_columns(tasks: Sequence[str]) -> list[int]:
    """Return, for the logits of ``tasks`` side by side, which column of the mirror image's answers each one's is."""
    starts, place = {}, 0
    for task in tasks:
        starts[task] = place
        place += len(TASKS[task].labels)
    columns: list[int] = []
    for task in tasks:
        other = mirror_image(task)
        start = starts.get(other, starts[task])
        columns += range(start, start + len(TASKS[task].labels))
    return columns


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something measured on a knee: what people call it, and its code."""

    title: str
    code: Code


MEASUREMENTS: MappingProxyType[str, Quantity] = MappingProxyType(
    {
        "jsw_medial": Quantity("Joint space width, medial", Code("JSW-MED", _OWN, "Minimum medial tibiofemoral joint space width")),
        "jsw_lateral": Quantity("Joint space width, lateral", Code("JSW-LAT", _OWN, "Minimum lateral tibiofemoral joint space width")),
        **{
            f"jsw_{side}_{place}": Quantity(
                f"Joint space width, {side}, at 0.{place} of the condyles' width",
                Code(f"JSW-{side[:3].upper()}-{place}", _OWN, f"{side.capitalize()} tibiofemoral joint space width at x = 0.{place}"),
            )
            for side, places in (("medial", range(150, 301, 25)), ("lateral", range(700, 901, 25)))
            for place in places
        },
        "condyle_width": Quantity("Width of the femoral condyles", Code("CFW", _OWN, "Width of the femoral condyles")),
        "jsw_film_left": Quantity(
            "Joint space width, film's left", Code("JSW-FLEFT", _OWN, "Minimum tibiofemoral joint space width, left of image")
        ),
        "jsw_film_right": Quantity(
            "Joint space width, film's right", Code("JSW-FRIGHT", _OWN, "Minimum tibiofemoral joint space width, right of image")
        ),
    }
)
"""What :attr:`kneexray.types.Knee.measurements` may hold: of a knee of unknown side nobody can say which compartment is the medial."""
LENGTHS: tuple[str, ...] = ("jsw_medial", *(name for name in MEASUREMENTS if name[-3:].isdigit()))
"""The lengths that a grading network may give, as shares of the condyles' width: the least medial width, and those at fixed places."""


def opposite(length: str) -> str | None:
    """Return the length at the same place of the mirror image (``jsw_medial_150``: ``jsw_lateral_850``), None where there is none."""
    if not length[-3:].isdigit():
        return None
    side, place = ("lateral" if "_medial_" in length else "medial"), 1000 - int(length[-3:])
    name = f"jsw_{side}_{place}"
    return name if name in LENGTHS else None


def get_task(name: str) -> Task:
    """Return the task called ``name``; raises :class:`~kneexray.errors.ConfigError` that lists the choices."""
    try:
        return TASKS[name]
    except KeyError:
        raise ConfigError(choices("task", name, [*TASKS, *GROUPS])) from None
