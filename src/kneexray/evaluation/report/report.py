"""An evaluation as files: numbers, stored predictions, figures, tables for papers, and one self-contained HTML page."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from kneexray.errors import MissingExtraError
from kneexray.evaluation.inputs import SPLIT_QUALITY, EvaluationInput, usable
from kneexray.evaluation.metric_table import METRICS
from kneexray.evaluation.metrics import HEADLINE, PER_CLASS
from kneexray.evaluation.predictions_file import write_predictions
from kneexray.files import write_whole
from kneexray.pages.page import Section as Section
from kneexray.pages.page import Table as Table
from kneexray.pages.page import alarm, caution, data_uri, figure, page, section, short, table, tile, write_figures
from kneexray.tasks import get_task

Picture = Callable[[str], bytes | None]
"""From a row's file to a small PNG, JPEG or WebP, or None where there is none."""


FIGURES: MappingProxyType[str, str] = MappingProxyType(
    {
        "confusion_counts": "Each row is a true class. Colour is the share of the row.",
        "confusion_shares": "How the images of each true class were answered. A row sums to 100%.",
        "per_class": "Precision, recall and F1 with 95% intervals.",
        "reliability": "On the dashed line, an answer given with 80% is right in 80% of cases. Below it, the model is too sure.",
        "roc": "The dashed line is chance. AUC with 95% interval.",
        "precision_recall": "AP is average precision; a model without skill has AP equal to the class's share.",
    }
)


def write_evaluation(
    evaluation: dict[str, Any],
    inputs: EvaluationInput,
    out_dir: Path | str,
    *,
    thumbnail: Picture | None = None,
    heatmap: Picture | None = None,
    provenance: Mapping[str, str] = MappingProxyType({}),
    sections: Sequence[Section] = (),
) -> Path:
    """Write ``evaluation`` of ``inputs`` into ``out_dir`` and return the path of ``report.html``.

    ``metrics.json``, ``predictions.parquet`` (the rows that were evaluated), each figure as PNG and SVG, ``table.md``, ``table.tex``
    and ``report.html``.
    ``thumbnail`` and ``heatmap`` give the pictures of the worst errors (film; film with the model's heatmap laid over it).
    ``provenance`` rows (command, data, hash) go into the report as they are. Raises
    :class:`~kneexray.errors.MissingExtraError` without the ``eval`` extra and :class:`~kneexray.errors.OutputError` where the folder
    cannot be written.
    """
    try:
        from kneexray.evaluation.report import figures
        from kneexray.evaluation.report.parts import own_sections
    except ImportError:
        raise MissingExtraError("the evaluation report", "eval") from None
    rows, out = usable(inputs, invalid="drop"), Path(out_dir)
    evaluation = evaluation | {part.key: dict(part.data) for part in sections}
    shown = [*own_sections(evaluation), *sections]
    write_whole(out / "metrics.json", (json.dumps(evaluation, indent=2, allow_nan=False) + "\n").encode())
    write_predictions(out / "predictions.parquet", rows)
    captioned = {name: (drawing, FIGURES[name]) for name, drawing in figures.draw(evaluation, rows).items()}
    drawn = write_figures(captioned, shown, out=out)
    write_whole(out / "table.md", markdown_table(evaluation).encode())
    write_whole(out / "table.tex", latex_table(evaluation).encode())
    text = render(evaluation, rows, drawn, thumbnail=thumbnail, heatmap=heatmap, provenance=provenance, sections=shown)
    write_whole(out / "report.html", text.encode())
    return out / "report.html"


def worst_errors(inputs: EvaluationInput, *, most: int = 12) -> list[int]:
    """Return the rows of the worst wrong answers: by distance in grades where the task is ordinal, then by the answer's probability."""
    given, truth = np.asarray(inputs.probabilities), np.asarray(inputs.target)
    answer = given.argmax(axis=1)
    distance = np.abs(answer - truth) if get_task(inputs.task).ordinal else (answer != truth).astype(np.int64)
    order = np.lexsort((-given.max(axis=1), -distance))
    return [int(row) for row in order[:most] if distance[row]]


def markdown_table(evaluation: dict[str, Any]) -> str:
    """Return the main row as a Markdown table, 95% intervals in brackets."""
    names = [METRICS[name].title for name in HEADLINE]
    cells = [_number(evaluation[name], dash="–") for name in HEADLINE]
    head = ["Model", "Data", *names]
    row = [evaluation["model_id"].replace("|", "\\|"), f"{evaluation['n']} images of {_units(evaluation)}", *cells]
    lines = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), row)]
    return "\n".join(lines) + "\n"


def latex_table(evaluation: dict[str, Any]) -> str:
    """Return the main row as a LaTeX tabular (booktabs), a metric a line, 95% intervals in brackets."""
    lines = [f"{METRICS[name].title} & {_number(evaluation[name], dash='--')} \\\\" for name in HEADLINE]
    model = re.sub(r"([#$%&_{}])", r"\\\1", evaluation["model_id"].replace("\\", "/"))
    head = f"{model} & {evaluation['n']} images of {_units(evaluation)} \\\\"
    start = ["% needs \\usepackage{booktabs}", "\\begin{tabular}{lr}", "\\toprule", head, "\\midrule"]
    return "\n".join([*start, *lines, "\\bottomrule", "\\end{tabular}", ""])


def render(
    evaluation: dict[str, Any],
    inputs: EvaluationInput,
    drawn: Mapping[str, str],
    *,
    thumbnail: Picture | None = None,
    heatmap: Picture | None = None,
    provenance: Mapping[str, str] = MappingProxyType({}),
    sections: Sequence[Section] = (),
) -> str:
    """Return the HTML page; ``drawn`` holds the inline SVG of each figure."""
    task = get_task(evaluation["task"])
    splits, sources = ", ".join(evaluation["splits"]), ", ".join(evaluation["sources"])
    quality = evaluation["split_quality"]
    return page(
        "evaluation",
        title=f"{task.title}: {evaluation['model_id']}",
        subtitle=(
            f"{evaluation['n']:,} images of {_units(evaluation)}; split: {splits}; source: {sources}.",
            SPLIT_QUALITY[quality] if quality == "patient" else "",
        ),
        how="How these numbers were made",
        facts=({**_made(evaluation), **provenance}, {metric.title: metric.meaning for metric in METRICS.values()}),
        footer="Made by KneeXRay from stored probabilities (predictions.parquet); the same numbers are in metrics.json.",
        alarms="\n".join(alarm(part) for part in sections if part.alarm),
        cautions=caution("Read with care", [*([] if quality == "patient" else [SPLIT_QUALITY[quality]]), *evaluation["notes"]]),
        headline="\n".join(_tile(METRICS[name].title, evaluation[name]) for name in HEADLINE),
        oa=_oa(evaluation["oa"]),
        figures="\n".join(figure(drawn[name], text) for name, text in FIGURES.items()),
        per_class=table(classification_report(evaluation)),
        sections="\n".join(section(part, drawn) for part in sections),
        errors=_errors(inputs, thumbnail=thumbnail, heatmap=heatmap),
    )


def classification_report(evaluation: dict[str, Any]) -> Table:
    """Return precision, recall, F1 and support of each class and their averages, and the areas under the ROC and PR curves."""
    task, n = get_task(evaluation["task"]), f"{evaluation['n']:,}"
    rows = [
        (task.display(place), f"{row['support']:,}", *(short(row[name]) for name in PER_CLASS))
        for place, row in enumerate(evaluation["per_class"].values())
    ]
    averages = evaluation["averages"]
    macro = [short(value) for value in averages["macro"].values()]
    weighted = [short(value) for value in averages["weighted"].values()]
    rows += [("Mean of classes", n, *macro, short(evaluation["macro_auc"]), ""), ("Weighted by images", n, *weighted, "", "")]
    return Table("", ("Class", "Images", "Precision", "Recall", "F1", "AUC", "AP"), tuple(rows))


def _number(value: Mapping[str, float | None], *, dash: str) -> str:
    if value["value"] is None:
        return "n/a"
    return f"{value['value']:.3f}" + ("" if value["low"] is None else f" ({value['low']:.3f}{dash}{value['high']:.3f})")


def _units(evaluation: dict[str, Any]) -> str:
    n, unit = evaluation["n_patients"], evaluation["bootstrap"]["unit"]
    if unit == "image":
        return "unknown patients"
    return f"{n:,} {'near-duplicate ' if unit == 'cluster' else ''}{unit}{'' if n == 1 else 's'}"


def _tile(name: str, value: Mapping[str, float | None]) -> str:
    number, _, bounds = short(value, digits=3).partition("\n")
    return tile(name, number, bounds or "no interval")


def _oa(oa: dict[str, Any] | None) -> str:
    if oa is None:
        return ""
    tiles = "\n".join(_tile(name.capitalize() if name != "auc" else "AUC", oa[name]) for name in ("sensitivity", "specificity", "auc"))
    counts = f"{oa['n_positive']:,} images with, {oa['n_negative']:,} without"
    text = f"OA is KL 2 or more: {counts}. The answer is yes where the probability of OA is above {oa['threshold']:g}."
    return f'<h2>Osteoarthritis, yes or no</h2>\n<p class="muted">{escape(text)}</p>\n<dl class="numbers">\n{tiles}\n</dl>'


def _errors(inputs: EvaluationInput, *, thumbnail: Picture | None, heatmap: Picture | None) -> str:
    rows = worst_errors(inputs)
    if not rows:
        return "<p>No answer is wrong.</p>"
    cards = "\n".join(_error(inputs, row, [picture for picture in (thumbnail, heatmap) if picture]) for row in rows)
    legend = "The widest misses first, then the surest. Bars are the probabilities: blue the truth, orange the answer."
    return f'<p class="muted">{legend}</p>\n<div class="errors">\n{cards}\n</div>'


def _error(inputs: EvaluationInput, row: int, pictures: list[Picture]) -> str:
    task, values = get_task(inputs.task), inputs.probabilities[row]
    truth, answer = int(inputs.target[row]), int(np.argmax(values))
    films = "".join(f'<img src="{data_uri(found)}" alt="">' for picture in pictures if (found := picture(inputs.file[row])))
    bars = "".join(
        _bar(label, values[place], of="truth" if place == truth else "answer" if place == answer else "")
        for place, label in enumerate(task.labels)
    )
    text = f"True {task.display(truth)}, answered {task.display(answer)} ({values[answer]:.0%})"
    caption = f'<b>{escape(text)}</b><div class="chances" aria-hidden="true">{bars}</div><code>{escape(inputs.file[row])}</code>'
    return f"<figure>{f'<div class=films>{films}</div>' if films else ''}<figcaption>{caption}</figcaption></figure>"


def _bar(label: str, value: float, *, of: str) -> str:
    return f'<span class="{of}"><i><u style="height:{value:.0%}"></u></i>{escape(label)}</span>'


def _made(evaluation: dict[str, Any]) -> dict[str, str]:
    drawn, seed, unit = (evaluation["bootstrap"][key] for key in ("replicates", "seed", "unit"))
    packages = ("kneexray", "numpy", "scikit-learn", "matplotlib")
    return {
        "Model": evaluation["model_id"],
        "Task": get_task(evaluation["task"]).title,
        "Data": f"{evaluation['n']:,} images of {_units(evaluation)}",
        "Split": "; ".join(f"{name}: {n:,} images" for name, n in evaluation["splits"].items()),
        "Source": "; ".join(f"{name}: {n:,} images" for name, n in evaluation["sources"].items()),
        "Split quality": SPLIT_QUALITY[evaluation["split_quality"]],
        "Intervals": f"95% percentile intervals of {drawn:,} resamples with replacement, by {unit}, seed {seed}; "
        "none where more than 5% of the resamples leave a figure undefined.",
        "Versions": ", ".join([*(f"{name} {version(name)}" for name in packages), f"Python {platform.python_version()}"]),
    }
