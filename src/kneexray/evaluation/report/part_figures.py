"""Figures of subgroups, calibration before and after, prediction sets, and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kneexray.evaluation.subgroups import group_name
from kneexray.pages.figure_style import INK, MUTED, SERIES, style
from kneexray.tasks import get_task

_DASHED = (0, (3, 2))


def forest(evaluation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, metric: str, title: str) -> Figure:
    """Return ``metric`` of each subgroup with its interval, about that of all images."""
    with style():
        figure = Figure(figsize=(4.8, 1.2 + 0.5 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        if (whole := evaluation[metric]["value"]) is not None:
            axes.axvline(whole, color=MUTED, lw=1, ls=_DASHED)
        for place, row in enumerate(rows):
            _interval(axes, row[metric], place, color=SERIES[0])
        _list(axes, [f"{group_name(row)}\n{row['n_patients']:,} patients" for row in rows])
    return figure


def _list(axes: Axes, names: Sequence[str]) -> None:
    """Write ``names`` down the y axis."""
    axes.set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticklabels(names)
    axes.grid(axis="x", lw=0.6)
    axes.tick_params(axis="y", length=0)


def _interval(axes: Axes, value: Mapping[str, float | None], place: float, *, color: str, marker: str = "o") -> None:
    """Draw a value and its interval as a point on a line along x; nothing where it is not defined."""
    if value["value"] is None:
        return
    if value["low"] is not None and value["high"] is not None:
        axes.hlines(place, value["low"], value["high"], color=color, lw=1.6)
    axes.plot(value["value"], place, marker=marker, ms=6, color=color, ls="")


def reliability(name: str, given: Mapping[str, Any], *, place: int) -> Figure:
    """Return the reliability diagram of an entry of ``calibration``, in the colour ``place``."""
    color = SERIES[place]
    with style():
        figure = Figure(figsize=(4.8, 4.2), layout="constrained")
        axes = figure.subplots()
        bins = [entry for entry in given["reliability"] if entry["n"]]
        axes.set_title(f"{name}: ECE {given['ece']['value']:.3f}, NLL {given['nll']['value']:.3f}")
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=_DASHED)
        for entry in bins:
            if entry["accuracy"]["low"] is not None:
                axes.vlines(entry["confidence"], entry["accuracy"]["low"], entry["accuracy"]["high"], color=color, lw=1.2)
        accuracy = [entry["accuracy"]["value"] for entry in bins]
        axes.plot([entry["confidence"] for entry in bins], accuracy, color=color, marker="o", ms=4.5, lw=1)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="Probability of the answer", ylabel="Share that is right")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(lw=0.6)
    return figure


def sets(evaluation: Mapping[str, Any], average: Mapping[str, Any], per_class: Mapping[str, Any], *, name: str, title: str) -> Figure:
    """Return ``measured`` (coverage) or ``mean_size`` of the sets of each true class: with one threshold, and with one a class."""
    task = get_task(evaluation["task"])
    with style():
        figure = Figure(figsize=(4.8, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        looks = ((average, "One threshold", SERIES[4], "o", -0.12), (per_class, "One a class", SERIES[0], "s", 0.12))
        for entry, kind, color, marker, offset in looks:
            for place, label in enumerate(task.labels):
                value = entry["per_class"][label][name]
                if value["value"] is None:
                    continue
                if value["low"] is not None:
                    axes.vlines(place + offset, value["low"], value["high"], color=color, lw=1.6)
                axes.plot(place + offset, value["value"], marker=marker, ms=6, color=color, ls="")
            axes.plot([], [], marker=marker, ms=6, color=color, ls="", label=kind)
        axes.set(xticks=range(len(task.labels)), xlim=(-0.5, len(task.labels) - 0.5))
        axes.set_xticklabels([task.display(place) for place in range(len(task.labels))])
        axes.grid(axis="y", lw=0.6)
        axes.tick_params(axis="x", length=0)
        if name == "measured":
            axes.axhline(average["coverage"], color=MUTED, lw=1, ls=_DASHED)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        else:
            axes.set_ylim(bottom=0)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def differences(rows: Sequence[tuple[str, Mapping[str, float | None]]]) -> Figure:
    """Return what B gains over A in each metric, by title, with its interval: to the right of zero B is better."""
    with style():
        figure = Figure(figsize=(4.8, 1.2 + 0.36 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.set_title("What B gains over A")
        axes.axvline(0, color=INK, lw=1)
        for place, (_, value) in enumerate(rows):
            told = value["low"] is not None and value["high"] is not None and (value["low"] > 0 or value["high"] < 0)
            _interval(axes, value, place, color=SERIES[0] if told else MUTED, marker="o" if told else "s")
        _list(axes, [title for title, _ in rows])
        reach = max(map(abs, axes.get_xlim()))
        axes.set(xlim=(-reach, reach), xlabel="A is better  ←  0  →  B is better")
    return figure
