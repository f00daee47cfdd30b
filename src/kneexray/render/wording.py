"""A prediction in words and numbers, as the reports for people say it."""

from __future__ import annotations

from types import MappingProxyType

from kneexray.tasks import MEASUREMENTS, TASKS
from kneexray.types import Change, Knee, Measurement, Prediction

LENGTH = "Joint space width"
_MONTH = 30.44
SIDES: MappingProxyType[str | None, str] = MappingProxyType({"R": "Right knee", "L": "Left knee", None: "Knee, side not stated"})


def title(task: str) -> str:
    """Return what a task asks, or its name if the table does not hold it."""
    return TASKS[task].title.replace(">= ", "≥\u00a0") if task in TASKS else task


def display(prediction: Prediction, grade: int) -> str:
    """Return a grade as people write it: ``KL 2``, ``osteopenia``."""
    task = TASKS.get(prediction.task)
    return task.display(grade) if task and task.labels == prediction.labels else prediction.labels[grade]


def meaning(prediction: Prediction) -> str:
    """Return what the predicted grade means, in plain words; empty where no task says so."""
    task = TASKS.get(prediction.task)
    if not task or task.labels != prediction.labels:
        return ""
    return task.meanings[prediction.grade].removeprefix(f"{prediction.label}: ")


def set_in_words(prediction: Prediction) -> str:
    """Return the grades of the prediction set: ``KL 2``, ``KL 1 or KL 2``, ``KL 1 to KL 3``, ``none``."""
    grades = prediction.prediction_set
    names = [display(prediction, grade) for grade in grades]
    if len(grades) > 2 and grades == tuple(range(grades[0], grades[-1] + 1)):
        return f"{names[0]} to {names[-1]}"
    return " or ".join(names) or "none"


def percent(probability: float) -> str:
    """Return a probability in whole percent; what is not quite 0 or 1 is not called so."""
    if 0 < probability < 0.005:
        return "< 1 %"
    if 0.995 <= probability < 1:
        return "> 99 %"
    return f"{probability * 100:.0f} %"


def derived(prediction: Prediction) -> list[tuple[str, float]]:
    """Return the tasks that follow from this one, as (name, probability of the positive): osteoarthritis is KL 2 or more."""
    base = TASKS.get(prediction.task)
    return [
        (task.name, float(prediction.probabilities[task.derived[1] :].sum()))
        for task in TASKS.values()
        if base and task.derived and task.derived[0] == base.name and base.labels == prediction.labels
    ]


def since(days: int) -> str:
    """Return how long ago: ``12 days earlier``, ``14 months earlier``, ``3.5 years earlier``."""
    if days < 2 * _MONTH:
        return f"{days} day{'s' * (days != 1)} earlier"
    return f"{days / _MONTH:.0f} months earlier" if days < 2 * 365 else f"{days / 365.25:.1f} years earlier"


def grade_changed(prediction: Prediction) -> list[tuple[str, str]]:
    """Return what changed in a grade since an earlier film, as rows of (name, value); none without one."""
    change, before = prediction.change, prediction.earlier
    if change is None or before is None:
        return []
    grade = int(before.argmax())
    return [
        (_capital(since(change.days)), f"{display(prediction, grade)} ({percent(float(before[grade]))})"),
        ("Expected grade then and now", f"{change.before:.2f}, {change.now:.2f}"),
        ("Change", _difference(change, digits=2)),
    ]


def lengths(knee: Knee) -> list[tuple[str, str]]:
    """Return the lengths of a knee, each with what changed since an earlier film, as rows of (name, value)."""
    rows = []
    for length in knee.measurements:
        rows.append(measured(length))
        if length.change:
            rows.append((_capital(since(length.change.days)), _length(length.change.before, length.unit)))
            rows.append(("Change", _difference(length.change, digits=1 if length.unit == "mm" else 3, unit=length.unit)))
    return rows


def plane(knee: Knee) -> str:
    """Return at which plane the lengths of a knee in mm were taken; empty where there are none."""
    if not any(length.unit == "mm" for length in knee.measurements):
        return ""
    source = knee.radiograph.pixel_spacing_source
    if source == "ImagerPixelSpacing":
        return "Lengths are those at the detector (ImagerPixelSpacing); the knee itself is some percent smaller."
    return f"Lengths go by the film's {source}, as it stands."


def _difference(change: Change, *, digits: int, unit: str = "1") -> str:
    """Return ``+0.62, beyond noise (0.41)``."""
    mm = " mm" if unit == "mm" else ""
    text = f"{change.difference:+.{digits}f}{mm}"
    if change.noise is None:
        return f"{text} (noise not measured)"
    return f"{text}, {'beyond' if change.exceeds_noise else 'within'} noise ({change.noise:.{digits}f}{mm})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _length(value: float, unit: str) -> str:
    return f"{value:.1f} mm" if unit == "mm" else f"{value:.3f} of the condyles' width"


def measured(measurement: Measurement) -> tuple[str, str]:
    """Return a length as people say it: (``Joint space width, medial``, ``4.2 mm`` or ``0.061 of the condyles' width``)."""
    return MEASUREMENTS[measurement.name].title, _length(measurement.value, measurement.unit)
