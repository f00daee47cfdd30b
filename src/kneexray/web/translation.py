"""What the pages say, and in which language: message catalogues with the words of results looked up in them.

English for what a table of the house already says (tasks, sides, reasons, measurements, warnings) comes from that table;
``locales/en.json`` holds the rest, and every other language translates both. Messages have named placeholders (``str.format``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from kneexray import predict, priors, roi
from kneexray.measure import joint_space
from kneexray.render.reading import MESSAGES, NO_SIDE
from kneexray.render.wording import SIDES, derived, percent, title
from kneexray.roi import quality, resolution, sides
from kneexray.tasks import MEASUREMENTS, TASKS
from kneexray.types import REASONS, Knee, Measurement, Prediction, Side
from kneexray.writers.base import DISCLAIMER

LANGUAGES: MappingProxyType[str, str] = MappingProxyType({"en": "English", "hi": "हिन्दी", "es": "Español"})
"""Code -> own name of each language; the first is the default."""
WARNINGS: MappingProxyType[str, str] = MappingProxyType(
    {
        "inverted": roi.INVERTED,
        "by_place": sides.BY_PLACE,
        "side_unknown": sides.UNKNOWN,
        "by_marker": sides.BY_MARKER,
        "reversed": sides.REVERSED,
        "markers_contradictory": sides.CONTRADICTORY,
        "marker_disagrees": sides.DISAGREES,
        "marker_mirrored": sides.MIRRORED,
        "by_orientation": sides.BY_ORIENTATION,
        "orientation_disagrees": sides.ORIENTATION_DISAGREES,
        "header_contradictory": sides.HEADER_CONTRADICTORY,
        "table_contradicts": sides.TABLE_CONTRADICTS,
        "one_side_named": sides.ONE_NAMED,
        "other_person": priors.OTHER_PERSON,
        "no_map": predict.NO_MAP,
        "no_side_named": NO_SIDE,
        "no_joint_space": joint_space.IMPLAUSIBLE,
        "noisy": quality.NOISE_WARNING,
        "soft": resolution.SOFT_WARNING,
        **{f"caution.{name}": task.caution for name, task in TASKS.items() if task.caution},
    }
)
"""The warnings that are translated, by key; others (on faults of a DICOM file) stay in English."""


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return every message of a language of :data:`LANGUAGES`, by key."""
    text = resources.files("kneexray.web").joinpath("locales", f"{language}.json").read_text(encoding="utf-8")
    messages = dict(_tables()) if language == "en" else {}
    return MappingProxyType(messages | json.loads(text))


def choose(asked: str | None, *, accepted: str = "") -> str:
    """Return the language to answer in: the one ``asked`` for, else the best of an Accept-Language header, else English."""
    if asked is not None and asked in LANGUAGES:
        return asked
    for tag in sorted(_accepted(accepted), key=lambda pair: -pair[1]):
        if tag[0] in LANGUAGES and tag[1] > 0:
            return tag[0]
    return next(iter(LANGUAGES))


@dataclass(frozen=True, slots=True)
class Words:
    """The messages of one language: called with a key, and the values of its placeholders, it returns the text."""

    language: str

    def __call__(self, key: str, **values: object) -> str:
        """Return the message ``key``; raises KeyError for one that no catalogue has."""
        return catalogue(self.language)[key].format(**values)

    def count(self, key: str, number: int) -> str:
        """Return the message ``key.one`` or ``key.other``, with ``number`` in it."""
        return self(f"{key}.{'one' if number == 1 else 'other'}", n=number)

    def side(self, side: Side | None) -> str:
        """Return whose knee it is."""
        return self(f"side.{side or 'none'}")

    def task(self, name: str) -> str:
        """Return what a task asks, or its name if the table does not hold it."""
        return self(f"task.{name}.title") if name in TASKS else name

    def grade(self, prediction: Prediction, grade: int) -> str:
        """Return a grade as people write it: ``KL 2``, ``osteopenia``."""
        if not _known(prediction) or prediction.task == "kl":
            return TASKS["kl"].display(grade) if _known(prediction) else prediction.labels[grade]
        if TASKS[prediction.task].compartment:
            return self("grade", n=prediction.labels[grade])
        return self(f"task.{prediction.task}.label.{grade}")

    def meaning(self, prediction: Prediction) -> tuple[str, str]:
        """Return the predicted grade's meaning as its word, empty for tasks without, and the sentence: ``("mild", "definite ...")``."""
        return self.meaning_of(prediction.task, prediction.grade) if _known(prediction) else ("", "")

    def meaning_of(self, task: str, grade: int) -> tuple[str, str]:
        """Return the meaning of a grade of a task of the house: see :meth:`meaning`."""
        word, _, sentence = self(f"task.{task}.meaning.{grade}").rpartition(": ")
        return word, sentence

    def grades(self, prediction: Prediction) -> str:
        """Return the grades of the prediction set: ``KL 2``, ``KL 1 or KL 2``, ``KL 1 to KL 3``, ``none``."""
        grades = prediction.prediction_set
        names = [self.grade(prediction, grade) for grade in grades]
        if len(grades) > 2 and grades == tuple(range(grades[0], grades[-1] + 1)):
            return self("set.range", first=names[0], last=names[-1])
        return self("set.or").join(names) or self("set.none")

    def derived(self, prediction: Prediction) -> list[tuple[str, str, str]]:
        """Return the yes-or-no tasks that follow from this one, as (name, ``yes`` or ``no``, the probability of that answer)."""
        answers = [(name, probability >= 0.5, probability) for name, probability in derived(prediction)]
        return [(name, self(f"task.{name}.label.{int(yes)}"), percent(share if yes else 1 - share)) for name, yes, share in answers]

    def reading(self, key: str, **values: object) -> str:
        """Return a message of a knee's reading, one of :data:`kneexray.render.reading.MESSAGES`."""
        return self(f"reading.{key}", **values)

    def warning(self, text: str) -> str:
        """Return a warning in this language, or as it is."""
        key = next((key for key, english in WARNINGS.items() if english == text), None)
        return self(f"warning.{key}") if key else text

    def plane(self, knee: Knee) -> str:
        """Return at which plane the lengths of a knee in mm were taken; empty where there are none."""
        if not any(length.unit == "mm" for length in knee.measurements):
            return ""
        source = knee.radiograph.pixel_spacing_source
        return self("plane.detector" if source == "ImagerPixelSpacing" else "plane.film", source=source)

    def measured(self, measurement: Measurement) -> tuple[str, str]:
        """Return a length as people say it: its title, and its value with the unit."""
        unit, digits = ("mm", 1) if measurement.unit == "mm" else ("share", 3)
        return self(f"measure.{measurement.name}"), self(f"unit.{unit}", value=f"{measurement.value:.{digits}f}")


def _known(prediction: Prediction) -> bool:
    task = TASKS.get(prediction.task)
    return task is not None and task.labels == prediction.labels


def _accepted(header: str) -> Iterator[tuple[str, float]]:
    """Yield (language, weight) of an Accept-Language header (RFC 9110, section 12.5.4); what is malformed weighs nothing."""
    for part in header.split(","):
        tag, _, weight = part.partition(";q=")
        try:
            yield tag.strip().partition("-")[0].lower(), float(weight or 1)
        except ValueError:
            continue


def _tables() -> Iterator[tuple[str, str]]:
    """Yield the English messages that tables of the house hold."""
    yield "disclaimer", DISCLAIMER
    for side, name in SIDES.items():
        yield f"side.{side or 'none'}", name
    for task in TASKS.values():
        yield f"task.{task.name}.title", title(task.name)
        for grade, (label, meaning) in enumerate(zip(task.labels, task.meanings, strict=True)):
            yield f"task.{task.name}.meaning.{grade}", meaning
            if not label.isdigit():
                yield f"task.{task.name}.label.{grade}", label
    for key, message in MESSAGES.items():
        yield f"reading.{key}", message
    for code, reason in REASONS.items():
        yield f"reason.{code}", reason
    for name, quantity in MEASUREMENTS.items():
        yield f"measure.{name}", quantity.title
    for key, warning in WARNINGS.items():
        yield f"warning.{key}", warning
