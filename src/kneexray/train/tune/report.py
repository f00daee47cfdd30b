"""A search as one self-contained HTML page: what was tried, what came of it, which values mattered."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from types import MappingProxyType

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kneexray.files import write_whole
from kneexray.pages.figure_style import MUTED, SERIES, style
from kneexray.pages.page import Section, Table, caution, page, section, tile, write_figures
from kneexray.train.tune.search import FAILED, best_trial

PAGE = "report.html"
FEWEST = 4
"""With fewer finished trials nothing is said of which values mattered."""
WORDS: MappingProxyType[TrialState, str] = MappingProxyType(
    {TrialState.COMPLETE: "finished", TrialState.PRUNED: "given up", TrialState.FAIL: "failed"}
)


def write_report(study: optuna.Study, out: Path, *, monitor: str, provenance: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Write the page of a search, and its figures as PNG and SVG, into ``out``; return the page's path."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state in WORDS]
    finished = [t for t in trials if t.state == TrialState.COMPLETE]
    best = best_trial(study)
    with style():
        sections = [
            Section(
                key="search",
                title="The search",
                lead="A trial that did worse than half of those before it at the same epoch was given up.",
                figures={
                    "history": (_history(finished, study, monitor), "Each finished trial, and the best so far as a line."),
                    "curves": (_curves(trials, monitor), f"{monitor} after each epoch; trials that were given up are grey."),
                },
            ),
            Section(
                key="values",
                title="Which values",
                lead=_what_mattered(study, finished),
                figures={key.replace(".", "_"): (_slice(finished, key, monitor), f"What came of each {key}.") for key in _keys(trials)},
            ),
            Section(key="trials", title="All trials", lead="Best is the figure of a trial's best epoch.", tables=(_table(trials),)),
        ]
    drawn = write_figures({}, sections, out=out / "figures")
    counts = {word: sum(t.state == state for t in trials) for state, word in WORDS.items()}
    verdict = "No trial came to its end." if best is None else f"Trial {best.number} did best; its recipe is best.toml."
    html = page(
        "compare",
        title=f"A search of {len(trials)} trials",
        subtitle=(f"{monitor}, {'the smaller' if study.direction == StudyDirection.MINIMIZE else 'the larger'} the better.",),
        how="How this was made",
        facts=(dict(provenance),),
        footer="Made by KneeXRay with Optuna; the same numbers are in study.db.",
        verdict=escape(verdict),
        cautions=caution("Read with care", _cautions(trials, best)),
        headline="\n".join(
            [
                tile(f"best {monitor}", "n/a" if best is None else f"{best.value:.4f}", "" if best is None else f"trial {best.number}"),
                *(tile(word, str(n), "") for word, n in counts.items()),
            ]
        ),
        sections="\n".join(section(part, drawn) for part in sections),
    )
    write_whole(out / PAGE, html)
    return out / PAGE


def _cautions(trials: list[FrozenTrial], best: FrozenTrial | None) -> list[str]:
    told = []
    if best is not None:
        told.append(
            "The best figure was chosen from all on the same images: it flatters. Judge the recipe on images that no trial has seen."
        )
    failed = [t for t in trials if t.state == TrialState.FAIL]
    return told + [f"Trial {t.number} failed: {t.user_attrs.get(FAILED, 'it was stopped')}" for t in failed[:5]]


def _what_mattered(study: optuna.Study, finished: list[FrozenTrial]) -> str:
    """Return how much of the spread of the finished trials each key accounts for (Hutter et al. 2014, fANOVA), in words."""
    if len(finished) < FEWEST or len({t.value for t in finished}) < 2:
        return f"With fewer than {FEWEST} different finished trials nothing can be said of which values mattered."
    shares = optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
    return f"Share of the spread that each key accounts for: {', '.join(f'{key} {share:.0%}' for key, share in shares.items())}."


def _keys(trials: list[FrozenTrial]) -> list[str]:
    return list(dict.fromkeys(key for trial in trials for key in trial.params))


def _history(finished: list[FrozenTrial], study: optuna.Study, monitor: str) -> Figure:
    figure, axes = _panel("Trials", xlabel="trial", ylabel=monitor)
    pick = min if study.direction == StudyDirection.MINIMIZE else max
    values = [t.value for t in finished if t.value is not None]
    numbers = [t.number for t in finished]
    axes.plot(numbers, values, ls="", marker="o", ms=5, color=SERIES[0])
    axes.step(numbers, [pick(values[: i + 1]) for i in range(len(values))], where="post", color=SERIES[4], lw=1.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _curves(trials: list[FrozenTrial], monitor: str) -> Figure:
    figure, axes = _panel("Learning curves", xlabel="epoch", ylabel=monitor)
    for trial in trials:
        color, alpha = (SERIES[0], 0.8) if trial.state == TrialState.COMPLETE else (MUTED, 0.5)
        steps = sorted(trial.intermediate_values.items())
        axes.plot([step for step, _ in steps], [value for _, value in steps], color=color, lw=1.2, alpha=alpha)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _slice(finished: list[FrozenTrial], key: str, monitor: str) -> Figure:
    figure, axes = _panel("", xlabel=key, ylabel=monitor)
    tried = [t for t in finished if key in t.params]
    kind = tried[0].distributions[key] if tried else None
    places = [t.params[key] for t in tried]
    if isinstance(kind, CategoricalDistribution):
        places = [kind.choices.index(choice) for choice in places]
        axes.set_xticks(range(len(kind.choices)), [str(choice) for choice in kind.choices])
        axes.set_xlim(-0.5, len(kind.choices) - 0.5)
    axes.plot(places, [t.value for t in tried], ls="", marker="o", ms=5, color=SERIES[0])
    if isinstance(kind, FloatDistribution | IntDistribution) and kind.log:
        axes.set_xscale("log")
    return figure


def _panel(title: str, *, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid(lw=0.6)
    axes.ticklabel_format(axis="y", useOffset=False)
    return figure, axes


def _table(trials: list[FrozenTrial]) -> Table:
    keys = _keys(trials)
    rows = tuple(
        (
            str(t.number),
            WORDS[t.state],
            "" if t.value is None else f"{t.value:.4f}",
            str(len(t.intermediate_values)),
            *(_plain(t.params.get(key)) for key in keys),
        )
        for t in trials
    )
    return Table("", ("Trial", "State", "Best", "Epochs", *keys), rows)


def _plain(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
