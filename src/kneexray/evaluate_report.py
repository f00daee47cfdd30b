"""An evaluation as files: numbers, stored predictions, figures, tables for papers, and one self-contained HTML page."""

from __future__ import annotations

import base64
import json
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from kneexray.errors import MissingExtraError
from kneexray.evaluate import SPLIT_QUALITY, EvaluationInput, usable
from kneexray.metrics import HEADLINE, PER_CLASS
from kneexray.predictions_file import write_predictions, write_whole
from kneexray.tasks import get_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = Callable[[str], bytes | None]
"""From a row's file to a small PNG, JPEG or WebP, or None where there is none."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a report: its caption, the names of its columns, and rows of text, a cell a column."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Section:
    """A further test of a model, as a part of its evaluation.

    ``lead`` says in plain words what was done, on how many images, and what came of it; ``alarm``, where not empty, what a reader
    must not miss. ``figures`` maps a name to a figure drawn within :func:`kneexray.plots.style` and its caption; they are written as
    ``<key>_<name>.png`` and ``.svg``. ``data``, plain JSON values, goes into ``metrics.json`` under ``key``.
    """

    key: str
    title: str
    lead: str
    alarm: str = ""
    figures: Mapping[str, tuple[Figure, str]] = MappingProxyType({})
    tables: tuple[Table, ...] = ()
    data: Mapping[str, Any] = MappingProxyType({})


METRICS: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "accuracy": ("Accuracy", "Share of images whose answer (the most probable class) is the true class."),
        "balanced_accuracy": ("Balanced accuracy", "Mean recall over the classes."),
        "qwk": ("QWK", "Cohen's kappa with quadratic weights: agreement beyond chance, far misses weighing more. 1 is perfect."),
        "mae": ("MAE, grades", "Mean distance between answer and truth, in grades. Lower is better."),
        "macro_f1": ("Macro F1", "Mean F1 over the classes."),
        "macro_auc": ("Macro AUC", "Mean area under the ROC curve, each class against the rest."),
        "ece": (
            "ECE",
            "Expected calibration error of the answer's probability, 15 equal bins. Lower is better; resampling biases it upwards.",
        ),
        "brier": ("Brier", "Squared error of the probabilities, summed over classes (0 to 2). Lower is better."),
        "nll": ("NLL", "Mean negative log probability of the true class, in nats. Lower is better."),
    }
)
"""Name and meaning of each metric of the main row."""

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
        from kneexray import plots
    except ImportError:
        raise MissingExtraError("the evaluation report", "eval") from None
    rows, out = usable(inputs, invalid="drop"), Path(out_dir)
    evaluation = evaluation | {section.key: dict(section.data) for section in sections}
    write_whole(out / "metrics.json", (json.dumps(evaluation, indent=2, allow_nan=False) + "\n").encode())
    write_predictions(out / "predictions.parquet", rows)
    figures = {name: (figure, FIGURES[name]) for name, figure in plots.draw(evaluation, rows).items()}
    figures |= {f"{section.key}_{name}": figure for section in sections for name, figure in section.figures.items()}
    drawn = {}
    for name, (figure, caption) in figures.items():
        write_whole(out / f"{name}.png", plots.png(figure))
        write_whole(out / f"{name}.svg", plots.svg(figure))
        drawn[name] = _inline(plots.svg(figure, transparent=True).decode(), name, label=caption)
    write_whole(out / "table.md", markdown_table(evaluation).encode())
    write_whole(out / "table.tex", latex_table(evaluation).encode())
    page = render(evaluation, rows, drawn, thumbnail=thumbnail, heatmap=heatmap, provenance=provenance, sections=sections)
    write_whole(out / "report.html", page.encode())
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
    names = [METRICS[name][0] for name in HEADLINE]
    cells = [_number(evaluation[name], dash="–") for name in HEADLINE]
    head = ["Model", "Data", *names]
    row = [evaluation["model_id"].replace("|", "\\|"), f"{evaluation['n']} images of {_units(evaluation)}", *cells]
    lines = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), row)]
    return "\n".join(lines) + "\n"


def latex_table(evaluation: dict[str, Any]) -> str:
    """Return the main row as a LaTeX tabular (booktabs), a metric a line, 95% intervals in brackets."""
    lines = [f"{METRICS[name][0]} & {_number(evaluation[name], dash='--')} \\\\" for name in HEADLINE]
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
    template = Template((resources.files("kneexray") / "templates" / "evaluation.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{task.title}: {evaluation['model_id']}"),
        subtitle=escape(f"{evaluation['n']:,} images of {_units(evaluation)}; split: {splits}; source: {sources}."),
        split_quality="" if evaluation["split_quality"] != "patient" else escape(SPLIT_QUALITY["patient"]),
        alarms="\n".join(_alarm(section) for section in sections if section.alarm),
        cautions=_cautions(evaluation),
        headline="\n".join(_tile(METRICS[name][0], evaluation[name]) for name in HEADLINE),
        oa=_oa(evaluation["oa"]),
        figures="\n".join(_figure(drawn[name], text) for name, text in FIGURES.items()),
        per_class="\n".join(_class_row(task.display(place), row) for place, row in enumerate(evaluation["per_class"].values())),
        sections="\n".join(_section(section, drawn) for section in sections),
        errors=_errors(inputs, thumbnail=thumbnail, heatmap=heatmap),
        provenance=_pairs({**_made(evaluation), **provenance}),
        definitions=_pairs(dict(METRICS.values())),
    )


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
    number = "n/a" if value["value"] is None else f"{value['value']:.3f}"
    bounds = "no interval" if value["low"] is None else f"{value['low']:.3f}–{value['high']:.3f}"
    return f"<div><dt>{escape(name)}</dt><dd><strong>{number}</strong><small>{bounds}</small></dd></div>"


def _cautions(evaluation: dict[str, Any]) -> str:
    quality = evaluation["split_quality"]
    sentences = [] if quality == "patient" else [SPLIT_QUALITY[quality]]
    items = "".join(f"<li>{escape(note)}</li>" for note in [*sentences, *evaluation["notes"]])
    return f'<div class="caution"><strong>Read with care</strong><ul>{items}</ul></div>' if items else ""


def _alarm(section: Section) -> str:
    return f'<p class="alarm"><strong>{escape(section.title)}</strong> {escape(section.alarm)}</p>'


def _section(section: Section, drawn: Mapping[str, str]) -> str:
    figures = "\n".join(_figure(drawn[f"{section.key}_{name}"], caption) for name, (_, caption) in section.figures.items())
    parts = [
        f"<h2>{escape(section.title)}</h2>",
        f'<p class="muted">{escape(section.lead)}</p>',
        _alarm(section) if section.alarm else "",
        f'<div class="figures">\n{figures}\n</div>' if figures else "",
        *map(_table, section.tables),
    ]
    return "\n".join(part for part in parts if part)


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _oa(oa: dict[str, Any] | None) -> str:
    if oa is None:
        return ""
    tiles = "\n".join(_tile(name.capitalize() if name != "auc" else "AUC", oa[name]) for name in ("sensitivity", "specificity", "auc"))
    counts = f"{oa['n_positive']:,} images with, {oa['n_negative']:,} without"
    text = f"OA is KL 2 or more: {counts}. The answer is yes where the probability of OA is above {oa['threshold']:g}."
    return f'<h2>Osteoarthritis, yes or no</h2>\n<p class="muted">{escape(text)}</p>\n<dl class="numbers">\n{tiles}\n</dl>'


def _class_row(name: str, row: Mapping[str, Any]) -> str:
    cells = "".join(f"<td>{_cell(row[metric])}</td>" for metric in PER_CLASS)
    return f"<tr><td>{escape(name)}</td><td>{row['support']}</td>{cells}</tr>"


def _cell(value: Mapping[str, float | None]) -> str:
    if value["value"] is None:
        return "n/a"
    return f"{value['value']:.2f}" + ("" if value["low"] is None else f"<br><small>{value['low']:.2f}–{value['high']:.2f}</small>")


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
    films = "".join(f'<img src="{_data_uri(found)}" alt="">' for picture in pictures if (found := picture(inputs.file[row])))
    bars = "".join(
        _bar(label, values[place], of="truth" if place == truth else "answer" if place == answer else "")
        for place, label in enumerate(task.labels)
    )
    text = f"True {task.display(truth)}, answered {task.display(answer)} ({values[answer]:.0%})"
    caption = f'<b>{escape(text)}</b><div class="chances" aria-hidden="true">{bars}</div><code>{escape(inputs.file[row])}</code>'
    return f"<figure>{f'<div class=films>{films}</div>' if films else ''}<figcaption>{caption}</figcaption></figure>"


def _bar(label: str, value: float, *, of: str) -> str:
    return f'<span class="{of}"><i><u style="height:{value:.0%}"></u></i>{escape(label)}</span>'


def _data_uri(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "webp" if picture[8:12] == b"WEBP" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


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


def _pairs(pairs: Mapping[str, str]) -> str:
    return "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs.items())


def _inline(svg: str, name: str, *, label: str) -> str:
    """Return ``svg`` to stand in a page: the page's colours and font, ids of its own, and a name for those who cannot see it."""
    from kneexray import plots

    variables = {plots.INK: "ink", plots.MUTED: "muted", plots.RULE: "rule", plots.CELL: "cell"}
    variables |= {color: f"series-{place}" for place, color in enumerate(plots.SERIES)}
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", body, count=1), count=1)
    body = re.sub(r'\bid="|url\(#|href="#', lambda found: f"{found[0]}{name}-", body)
    body = body.replace("'DejaVu Sans', sans-serif", "inherit")
    for color, variable in variables.items():
        body = body.replace(color, f"var(--{variable})")
    return body.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
