"""The figures of the shortcut tests and of the tests of heatmaps; to be drawn within :func:`kneexray.pages.figure_style.style`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from kneexray.evaluation.metrics import Floats
from kneexray.evaluation.probes.corruptions import CORRUPTIONS
from kneexray.evaluation.probes.sample import estimate
from kneexray.pages import figure_style

if TYPE_CHECKING:
    from kneexray.evaluation.probes.outcome import Outcome

_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": figure_style.SERIES[4], "ls": "-"},
    {"color": figure_style.SERIES[0], "ls": (0, (5, 1.5))},
    {"color": figure_style.SERIES[2], "ls": (0, (1.5, 1.2))},
)


def curves(outcomes: Mapping[str, Sequence[Outcome]], *, majority: float) -> Figure:
    """Return accuracy and QWK over the strengths of each change, as small multiples; ``majority`` is the accuracy to fall to."""
    figure, panels = _panels(outcomes)
    for axes, (name, found) in zip(panels, outcomes.items(), strict=True):
        axes.axhline(majority, color=figure_style.MUTED, lw=1, ls=(0, (3, 2)))
        places = np.arange(len(found))
        _band(axes, places, [o.accuracy for o in found], label="Accuracy", marker="o", ms=3.5, **_LOOKS[1])
        _band(axes, places, [o.qwk for o in found], label="QWK", marker="o", ms=3.5, **_LOOKS[0])
        for values, look in (([o.accuracy[0] for o in found], _LOOKS[1]), ([o.qwk[0] for o in found], _LOOKS[0])):
            _mark_unchanged(axes, name, found, values, color=look["color"])
        axes.set_ylim(-0.1, 1)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def refusals(outcomes: Mapping[str, Sequence[Outcome]]) -> Figure:
    """Return the largest share that the gate would refuse of each change, and at which strength."""
    figure = Figure(figsize=(4.8, 4.5), layout="constrained")
    axes = figure.subplots()
    worst = {name: max(found, key=lambda o: o.refused) for name, found in outcomes.items()}
    places = np.arange(len(worst))
    axes.barh(places, [o.refused for o in worst.values()], color=figure_style.SERIES[0], height=0.65)
    for place, (name, o) in enumerate(worst.items()):
        at = f" at {o.strength:g}" if o.refused and CORRUPTIONS[name].unit else ""
        axes.text(o.refused + 0.02, place, f"{o.refused:.0%}{at}", va="center", fontsize=8)
    axes.set_yticks(places, [CORRUPTIONS[name].title for name in worst], fontsize=8.5)
    axes.invert_yaxis()
    axes.set(title="Refused by the gate, at most", xlim=(0, 1.15), xticks=(0, 0.5, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.tick_params(axis="y", length=0)
    return figure


def erasure(deletion: Mapping[str, Sequence[Floats]], insertion: Mapping[str, Sequence[Floats]], *, shares: Floats) -> Figure:
    """Return the probability of the answer, (1 + B,) at each of ``shares``, as the image is blurred away and brought back by each map."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, of in ((left, deletion), (right, insertion)):
        for (title, samples), look in zip(of.items(), _LOOKS, strict=True):
            _band(axes, shares, samples, label=title, **look)
        axes.set_ylim(0, 1)
        axes.grid(lw=0.6)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    left.set(title="Deletion", xlabel="Share blurred away", ylabel="Probability of the answer")
    right.set(title="Insertion", xlabel="Share brought back")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def randomisation(alike: Floats, unsigned: Floats, *, depths: Sequence[float]) -> Figure:
    """Return correlations, and their sizes without the sign, (D, 1 + B) each, over the shares of weights that were randomised."""
    figure = Figure(figsize=(4.8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=figure_style.MUTED, lw=1, ls=(0, (3, 2)))
    _band(axes, np.arange(len(depths)), alike, label="Correlation", marker="o", ms=4, **_LOOKS[0])
    _band(axes, np.arange(len(depths)), unsigned, label="Without its sign", marker="o", ms=4, **_LOOKS[1])
    axes.set_xticks(range(len(depths)), ["last\nlayer", *(f"{depth:.0%}" for depth in depths[1:])])
    axes.set(title="Model randomisation", xlabel="Weights shuffled, from the last layer on", ylabel="Rank correlation", ylim=(-0.6, 1))
    axes.grid(axis="y", lw=0.6)
    axes.legend(loc="upper right")
    return figure


def _panels(outcomes: Mapping[str, Sequence[Outcome]]) -> tuple[Figure, list[Axes]]:
    """Return a panel a change, its strengths spaced evenly."""
    columns = 3
    rows = -(-len(outcomes) // columns)
    figure = Figure(figsize=(7.2, 1.75 * rows), layout="constrained")
    grid: list[Axes] = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes in grid[len(outcomes) :]:
        axes.remove()
    panels = grid[: len(outcomes)]
    for axes, (name, found) in zip(panels, outcomes.items(), strict=True):
        change = CORRUPTIONS[name]
        axes.set_title(change.title, fontsize=9.5, pad=4)
        ticks = [f"{o.strength:g}" for o in found] if change.unit else ["no", "yes"]
        axes.set_xticks(range(len(found)), ticks, fontsize=7.5)
        axes.set_xlabel(change.unit, fontsize=8)
        axes.set_xlim(-0.4, len(found) - 0.6)
        axes.grid(axis="y", lw=0.6)
    return figure, panels


def _mark_unchanged(axes: Axes, name: str, found: Sequence[Outcome], values: Sequence[float], *, color: str) -> None:
    """Open the mark of the unchanged film."""
    place = next(place for place, o in enumerate(found) if o.strength == CORRUPTIONS[name].identity)
    axes.plot(place, values[place], "o", ms=4.5, mfc=figure_style.PAPER, mec=color)


def _band(axes: Axes, at: ArrayLike, samples: Iterable[Floats], *, color: str, **look: Any) -> None:
    """Draw the estimates of ``samples``, (1 + B,) each, as a line in its band of intervals."""
    found = [estimate(values) for values in samples]
    middle, low, high = (np.array([e[name] for e in found], dtype=np.float64) for name in ("value", "low", "high"))
    axes.fill_between(np.asarray(at), low, high, color=color, alpha=0.18, lw=0)
    axes.plot(np.asarray(at), middle, color=color, lw=1.6, **look)
