"""A prediction in words and numbers, as the reports for people say it."""

from __future__ import annotations

from types import MappingProxyType

from kneexray.tasks import MEASUREMENTS, TASKS
from kneexray.types import Measurement, Prediction

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


def measured(measurement: Measurement) -> tuple[str, str]:
    """Return a length as people say it: (``Joint space width, medial``, ``4.2 mm`` or ``0.061 of the condyles' width``)."""
    value = f"{measurement.value:.1f} mm" if measurement.unit == "mm" else f"{measurement.value:.3f} of the condyles' width"
    return MEASUREMENTS[measurement.name].title, value
