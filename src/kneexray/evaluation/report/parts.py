"""The parts of an evaluation's page that most reports leave out: subgroups, calibration before and after, prediction sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kneexray.evaluation.metric_table import METRICS
from kneexray.evaluation.report import part_figures
from kneexray.evaluation.subgroups import group_name, measured
from kneexray.pages.page import Section, Table, short
from kneexray.tasks import get_task

SHOWN = 0.9
"""The coverage whose sets are shown a class."""

SCALINGS = {"raw": "none: the network's own", "temperature": "temperature", "vector": "vector (a weight and bias a class)"}
FOREST = "With 95% intervals; the dashed line is all images."
KINDS = {"average": "on average", "per_class": "within each class"}


def own_sections(evaluation: Mapping[str, Any]) -> list[Section]:
    """Return the sections that ``evaluation``, the content of ``metrics.json``, has something to say in."""
    made = (_subgroups(evaluation), _calibration(evaluation), _prediction_sets(evaluation))
    return [section for section in made if section is not None]


def _subgroups(evaluation: Mapping[str, Any]) -> Section | None:
    rows = evaluation["subgroups"]
    if not rows:
        return None
    shown = [row for row in rows if not row["too_small"]]
    names = measured(evaluation["task"])
    cells = tuple(
        (
            group_name(row),
            f"{row['n']:,}",
            f"{row['n_patients']:,}",
            *(["too few"] * len(names) if row["too_small"] else [short(row[name]) for name in names]),
        )
        for row in rows
    )
    lead = (
        "The same model on parts of the data. Intervals of groups are wide, and groups differ in their mix of classes, which alone moves "
        "every figure: a gap is worth looking into where the intervals hardly touch."
    )
    drawn = [name for name in ("accuracy", "qwk") if shown and name in names]
    return Section(
        key="subgroups",
        title="Subgroups",
        lead=lead,
        figures={name: (part_figures.forest(evaluation, shown, metric=name, title=METRICS[name].title), FOREST) for name in drawn},
        tables=(Table("", ("Group", "Images", "Patients", *(METRICS[name].title for name in names)), cells),),
    )


def _calibration(evaluation: Mapping[str, Any]) -> Section | None:
    found = evaluation["calibration"]
    if found is None:
        return None
    rows = tuple(
        (title, *(short(found[name][metric], digits=3) for metric in ("nll", "brier", "ece", "accuracy")))
        for name, title in SCALINGS.items()
        if name in found
    )
    lead = (
        f"The network's own probabilities against scaled ones, on these {evaluation['n']:,} images. Each fifth of the patients was "
        "scaled as fitted on the other four fifths, so that none calibrated itself. The lower NLL decides between the two scalings: "
        f"{found['chosen']}."
    )
    figures = {
        "before": (part_figures.reliability("Before", found["raw"], place=4), "The network's own probabilities."),
        "after": (part_figures.reliability("After", found[found["chosen"]], place=0), f"After {found['chosen']} scaling."),
    }
    return Section(
        key="calibration",
        title="Calibration, before and after",
        lead=lead,
        figures=figures,
        tables=(Table("", ("Scaling", "NLL", "Brier", "ECE", "Accuracy"), rows),),
    )


def _prediction_sets(evaluation: Mapping[str, Any]) -> Section | None:
    found = evaluation["prediction_sets"]
    if found is None:
        return None
    task = get_task(evaluation["task"])
    overall = tuple(
        (
            f"{entry['coverage']:.0%} {KINDS[entry['kind']]}",
            short(entry["measured"], digits=3),
            short(entry["mean_size"]),
            short(entry["singletons"]),
        )
        for entry in found["sets"]
    )
    average, per_class = (next(e for e in found["sets"] if e["kind"] == kind and e["coverage"] == SHOWN) for kind in KINDS)
    classes = tuple(
        (
            task.display(place),
            *(short(entry["per_class"][label][name]) for entry in (average, per_class) for name in ("measured", "mean_size")),
        )
        for place, label in enumerate(task.labels)
    )
    lead = (
        "A prediction set names every class that cannot be ruled out; it should hold the true one as often as was asked for. Sets "
        "were calibrated on four fifths of the patients and measured on the other fifth, in turn, each patient weighing one. One "
        "threshold keeps the promise on average; one a class keeps it within every class, at the price of larger sets."
    )
    caption = f"By the true class, {SHOWN:.0%} asked for, with 95% intervals."
    columns = ("Asked for", "Held the truth", "Classes in a set", "Sets of one class")
    held, size = "Held", "Size"
    return Section(
        key="sets",
        title="Prediction sets",
        lead=lead,
        figures={
            name: (part_figures.sets(evaluation, average, per_class, name=name, title=title), caption)
            for name, title in (("measured", "Sets that hold the true class"), ("mean_size", "Classes in a set, mean"))
        },
        tables=(
            Table("", columns, overall),
            Table(
                f"By the true class, {SHOWN:.0%} asked for: one threshold (on average), then one a class.",
                ("Class", f"{held}, average", f"{size}, average", f"{held}, each class", f"{size}, each class"),
                classes,
            ),
        ),
    )
