"""A knee's structured reading: a table by compartment, and findings and impression as sentences.

Sentences are made by rules from calibrated answers, never from a network. How sure a finding is said to be follows from its probability and
its prediction set: *definite* where it is as probable as the sets' coverage and the set holds no grade 0, *probable* where the answer
is a grade above 0 otherwise, *cannot be excluded* where the answer is 0 but the set holds a grade above it, or where no finding is less
probable than the coverage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from kneexray.geometry import box_under
from kneexray.render import wording
from kneexray.tasks import FEATURES, TASKS
from kneexray.types import Knee, Measurement, Prediction

Doubt = Literal["none", "possible", "probable", "definite"]

NO_SIDE = "features are not given by compartment: the knee's side is not known"
"""The warning on a knee of unknown side of which features were asked."""

MESSAGES: MappingProxyType[str, str] = MappingProxyType(
    {
        "findings": "Findings",
        "impression": "Impression",
        "compartment.medial": "Medial compartment",
        "compartment.lateral": "Lateral compartment",
        "narrowing": "Joint space narrowing",
        "osteophyte.femur": "Osteophytes, femur",
        "osteophyte.tibia": "Osteophytes, tibia",
        "sclerosis.femur": "Sclerosis, femur",
        "sclerosis.tibia": "Sclerosis, tibia",
        "width": "Minimum joint space",
        "doubt.definite": "definite, grade {grade}",
        "doubt.probable": "probable, grade {grade}",
        "doubt.possible": "cannot be excluded",
        "doubt.none": "none",
        "nothing": "{compartment}: no narrowing, osteophytes or sclerosis.",
        "found": "{compartment}: {parts}.",
        "part": "{what}: {doubt}",
        "and_none": "no other finding",
        "least": "{what}: {width}.",
        "grade": "Kellgren-Lawrence grade {grade} ({probability}; {coverage} prediction set: {set}).",
        "oa.definite": "Radiographic osteoarthritis.",
        "oa.probable": "Probable radiographic osteoarthritis ({probability}).",
        "oa.possible": "Radiographic osteoarthritis is not likely but cannot be excluded ({probability}).",
        "oa.none": "No radiographic osteoarthritis.",
        "mainly.medial": "Narrowing is mainly medial.",
        "mainly.lateral": "Narrowing is mainly lateral.",
        "contradiction": "The answers contradict each other: KL 0 with definite osteophytes. Look at the film.",
        "no_side": "The side is not known: findings are not given by compartment.",
    }
)
"""What a reading says, in English; the web pages have it in other languages under the same keys."""

Say = Callable[..., str]


def english(key: str, **values: object) -> str:
    """Return a message of :data:`MESSAGES`."""
    return MESSAGES[key].format(**values)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a feature's ``key`` in the messages, its prediction in each compartment, None where there is none."""

    key: str
    medial: Prediction | None
    lateral: Prediction | None


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was read of one knee. ``rows`` is the table; ``widths`` the least joint space of each compartment."""

    rows: tuple[Row, ...]
    widths: Mapping[str, Measurement] = field(default_factory=lambda: MappingProxyType({}))
    main: Mapping[str, Prediction] = field(default_factory=lambda: MappingProxyType({}))
    sided: bool = True

    def findings(self, say: Say = english) -> tuple[str, ...]:
        """Return a sentence a compartment."""
        if not self.rows:
            return () if self.sided else (say("no_side"),)
        return tuple(self._compartment(compartment, say) for compartment in ("medial", "lateral"))

    def impression(self, say: Say = english) -> tuple[str, ...]:
        """Return what it comes to: grade, osteoarthritis, where the narrowing is, and whether answers contradict each other."""
        return tuple(self._impression(say))

    @property
    def contradicts(self) -> bool:
        """Whether KL 0 goes with a definite osteophyte, which the scale rules out."""
        kl = self.main.get("kl")
        osteophytes = [p for row in self.rows if row.key.startswith("osteophyte") for p in (row.medial, row.lateral) if p is not None]
        return kl is not None and kl.grade == 0 and any(p.grade > 0 and doubt(p) == "definite" for p in osteophytes)

    def _compartment(self, compartment: str, say: Say) -> str:
        mine = [(row.key, prediction) for row in self.rows if (prediction := getattr(row, compartment)) is not None]
        named = say(f"compartment.{compartment}")
        parts = [say("part", what=say(key).lower(), doubt=said(prediction, say)) for key, prediction in mine if doubt(prediction) != "none"]
        rest = [say("and_none")] if 0 < len(parts) < len(mine) else []
        found = say("found", compartment=named, parts="; ".join([*parts, *rest])) if parts else say("nothing", compartment=named)
        width = self.widths.get(compartment)
        return found if width is None else f"{found} {say('least', what=say('width'), width=wording.measured(width)[1])}"

    def _impression(self, say: Say) -> Iterator[str]:
        if (kl := self.main.get("kl")) is not None:
            yield say(
                "grade",
                grade=kl.label,
                probability=wording.percent(float(kl.probabilities[kl.grade])),
                coverage=f"{kl.coverage * 100:g} %",
                set=wording.set_in_words(kl),
            )
        if (oa := self.main.get("oa")) is not None:
            yield say(f"oa.{doubt(oa)}", probability=wording.percent(float(oa.probabilities[1])))
        narrowing = next((row for row in self.rows if row.key == "narrowing"), None)
        if narrowing and narrowing.medial and narrowing.lateral and narrowing.medial.grade != narrowing.lateral.grade:
            yield say("mainly.medial" if narrowing.medial.grade > narrowing.lateral.grade else "mainly.lateral")
        if self.contradicts:
            yield say("contradiction")


def reading_of(predictions: Sequence[Prediction]) -> Reading | None:
    """Return the reading of one knee from all its predictions; None where no feature was asked."""
    given = {prediction.task: prediction for prediction in predictions}
    if not given:
        return None
    knee = predictions[0].knee
    rows = tuple(_rows(given))
    sided = NO_SIDE not in predictions[0].warnings
    if not rows and sided:
        return None
    main = {name: prediction for name, prediction in given.items() if name not in FEATURES}
    return Reading(rows, MappingProxyType(_widths(knee)), MappingProxyType(main), sided)


def doubt(prediction: Prediction) -> Doubt:
    """Return how sure a finding is: of a grade above 0, or that there is none."""
    finding = 1 - float(prediction.probabilities[0])
    if prediction.grade > 0:
        return "definite" if finding >= prediction.coverage and 0 not in prediction.prediction_set else "probable"
    excluded = 1 - finding >= prediction.coverage and prediction.prediction_set == (0,)
    return "none" if excluded else "possible"


def said(prediction: Prediction, say: Say = english) -> str:
    """Return a feature's answer with its doubt: ``probable, grade 1``."""
    return say(f"doubt.{doubt(prediction)}", grade=prediction.label)


def record(predictions: Sequence[Prediction]) -> dict[str, object] | None:
    """Return the reading of one knee as JSON has it; None where there is none."""
    reading = reading_of(predictions)
    if reading is None:
        return None
    first = predictions[0]
    table = {
        prediction.task: {
            "grade": prediction.grade,
            "probability": float(prediction.probabilities[prediction.grade]),
            "probability_of_finding": float(1 - prediction.probabilities[0]),
            "certainty": doubt(prediction),
        }
        for row in reading.rows
        for prediction in (row.medial, row.lateral)
        if prediction is not None
    }
    return {
        "file": first.source,
        "side": first.knee.side,
        "box": list(box_under(first.knee.radiograph.stored, first.knee.box)),
        "features": table,
        "findings": list(reading.findings()),
        "impression": list(reading.impression()),
        "contradiction": reading.contradicts,
    }


def _rows(given: Mapping[str, Prediction]) -> Iterator[Row]:
    """Yield the table's rows, narrowing first."""
    features = {name: TASKS[name] for name in FEATURES if name in given}
    keys = {"jsn": "narrowing"}
    order = dict.fromkeys((name.partition("_")[0], task.bone) for name, task in features.items())
    for kind, bone in sorted(order, key=lambda pair: pair[0] != "jsn"):
        mine = {task.compartment: given[name] for name, task in features.items() if (name.partition("_")[0], task.bone) == (kind, bone)}
        yield Row(keys.get(kind, f"{kind}.{bone}"), mine.get("medial"), mine.get("lateral"))


def _widths(knee: Knee) -> dict[str, Measurement]:
    named = {m.name: m for m in knee.measurements}
    return {compartment: named[f"jsw_{compartment}"] for compartment in ("medial", "lateral") if f"jsw_{compartment}" in named}
