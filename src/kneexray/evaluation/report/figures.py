"""The figures of an evaluation: confusion matrix, classes, reliability, ROC, precision and recall."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from kneexray.evaluation import metrics
from kneexray.evaluation.inputs import EvaluationInput
from kneexray.pages.figure_style import CELL, INK, MUTED, ON_CELL, RULE, SERIES, style
from kneexray.tasks import get_task

_STYLES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (8, 2)))
_SIZE = (4.8, 4.5)


def draw(evaluation: dict[str, Any], inputs: EvaluationInput) -> dict[str, Figure]:
    """Return the figures of ``evaluation`` by file stem; ``inputs`` are the rows that it was made from."""
    with style():
        return {
            "confusion_counts": _confusion(evaluation, shares=False),
            "confusion_shares": _confusion(evaluation, shares=True),
            "per_class": _per_class(evaluation),
            "reliability": _reliability(evaluation),
            "roc": _roc(evaluation, inputs),
            "precision_recall": _precision_recall(evaluation, inputs),
        }


def _names(evaluation: dict[str, Any]) -> list[str]:
    task = get_task(evaluation["task"])
    return [task.display(place) for place in range(len(task.labels))]


def _axes(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes


def _confusion(evaluation: dict[str, Any], *, shares: bool) -> Figure:
    counts = np.array(evaluation["confusion_matrix"], dtype=np.float64)  # (K, K), true class first
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    names = _names(evaluation)
    figure, axes = _axes("Confusion matrix, row shares" if shares else "Confusion matrix, images")
    for (row, column), value in np.ndenumerate(share):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=CELL, alpha=value, lw=0))
        text = (f"{value:.0%}" if total[row, 0] else "–") if shares else f"{counts[row, column]:.0f}"
        color = ON_CELL if value > 0.65 else INK if value else MUTED
        axes.text(column, row, text, ha="center", va="center", weight="bold" if row == column else "normal", color=color)
    edges = np.arange(len(names) + 1) - 0.5
    axes.hlines(edges, edges[0], edges[-1], color=RULE, lw=0.8)
    axes.vlines(edges, edges[0], edges[-1], color=RULE, lw=0.8)
    axes.set(xticks=range(len(names)), yticks=range(len(names)), xlim=(edges[0], edges[-1]), ylim=(edges[-1], edges[0]), aspect="equal")
    axes.set_xticklabels(names)
    axes.set_yticklabels([f"{name}\nn = {n:.0f}" for name, n in zip(names, total[:, 0], strict=True)])
    axes.set(xlabel="Answer of the model", ylabel="Truth")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _per_class(evaluation: dict[str, Any]) -> Figure:
    figure, axes = _axes("Each class")
    rows = list(evaluation["per_class"].values())
    names = ("precision", "recall", "f1")
    for offset, (name, color) in enumerate(zip(names, (SERIES[0], SERIES[3], SERIES[2]), strict=True)):
        for place, row in enumerate(rows):
            value, low, high = (row[name][key] for key in ("value", "low", "high"))
            if value is None:
                continue
            left = place + (offset - 1) * 0.27
            axes.bar(left, value, width=0.24, color=color)
            if low is not None:
                axes.vlines(left, low, high, color=INK, lw=1)
    handles: list[Any] = [axes.bar(0, 0, color=color) for color in (SERIES[0], SERIES[3], SERIES[2])]
    axes.set(xticks=range(len(rows)), ylim=(0, 1.02), xlim=(-0.6, len(rows) - 0.4))
    axes.set_xticklabels([f"{name}\nn = {row['support']}" for name, row in zip(_names(evaluation), rows, strict=True)])
    axes.grid(axis="y", lw=0.6)
    axes.tick_params(axis="x", length=0)
    figure.legend(handles, ["Precision", "Recall", "F1"], loc="outside lower center", ncols=3)
    return figure


def _reliability(evaluation: dict[str, Any]) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    ece = evaluation["ece"]["value"]
    upper.set_title(f"Reliability, ECE {ece:.3f}")
    upper.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (3, 2)))
    bins = [entry for entry in evaluation["reliability"] if entry["n"]]
    for entry in bins:
        if entry["accuracy"]["low"] is not None:
            upper.vlines(entry["confidence"], entry["accuracy"]["low"], entry["accuracy"]["high"], color=SERIES[0], lw=1.2)
    upper.plot(
        [entry["confidence"] for entry in bins], [entry["accuracy"]["value"] for entry in bins], color=SERIES[0], marker="o", ms=4.5, lw=1
    )
    upper.set(ylabel="Share that is right", xlim=(0, 1), ylim=(0, 1.02))
    upper.grid(lw=0.6)
    lower.bar([(entry["from"] + entry["to"]) / 2 for entry in bins], [entry["n"] for entry in bins], width=0.9 / metrics.BINS, color=MUTED)
    lower.set(xlabel="Probability of the answer", ylabel="Images")
    lower.xaxis.set_major_formatter(PercentFormatter(1.0))
    upper.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def _roc(evaluation: dict[str, Any], inputs: EvaluationInput) -> Figure:
    figure, axes = _axes("ROC, each class against the rest")
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (3, 2)))
    rows = evaluation["per_class"].values()
    for place, (name, row, look) in enumerate(zip(_names(evaluation), rows, _looks(len(rows)), strict=True)):
        auc = row["auc"]
        if auc["value"] is None:
            continue
        false_rate, true_rate = metrics.roc(inputs.probabilities[:, place], np.asarray(inputs.target) == place)
        axes.plot(false_rate, true_rate, label=f"{name}: AUC {_bounded(auc)}", **look)
    axes.set(xlabel="1 − specificity", ylabel="Sensitivity")
    return _finish(figure, axes)


def _precision_recall(evaluation: dict[str, Any], inputs: EvaluationInput) -> Figure:
    figure, axes = _axes("Precision and recall")
    rows = evaluation["per_class"].values()
    for place, (name, row, look) in enumerate(zip(_names(evaluation), rows, _looks(len(rows)), strict=True)):
        if row["auc"]["value"] is None:
            continue
        precision, recall = metrics.precision_recall(inputs.probabilities[:, place], np.asarray(inputs.target) == place)
        label = f"{name}: AP {_bounded(row['ap'])}, share {row['support'] / evaluation['n']:.2f}"
        axes.plot(recall, precision, label=label, drawstyle="steps-post", **look)
    axes.set(xlabel="Recall", ylabel="Precision")
    return _finish(figure, axes)


def _bounded(value: dict[str, float | None]) -> str:
    return f"{value['value']:.2f}" + ("" if value["low"] is None else f" ({value['low']:.2f}–{value['high']:.2f})")


def _looks(classes: int) -> list[dict[str, Any]]:
    """Return colour and line style of each class, the colours spread over the series."""
    places = np.linspace(0, len(SERIES) - 1, classes).round().astype(int) if classes <= len(SERIES) else np.arange(classes) % len(SERIES)
    return [{"color": SERIES[place], "ls": style, "lw": 1.7} for place, style in zip(places, cycle(_STYLES), strict=False)]


def _finish(figure: Figure, axes: Axes) -> Figure:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")
    axes.grid(lw=0.6)
    labels = axes.get_legend_handles_labels()[1]
    if labels:
        columns = 2 if max(map(len, labels)) < 30 else 1
        figure.legend(loc="outside lower center", ncols=columns, handlelength=2.6, columnspacing=1.2)
    else:
        axes.text(0.5, 0.5, "Not defined:\nall images are of one class", ha="center", va="center", color=MUTED)
    return figure
