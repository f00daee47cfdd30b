"""A comparison as files: numbers, a figure, a table for papers, and one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kneexray.errors import MissingExtraError
from kneexray.evaluation.compare import LOWER_IS_BETTER
from kneexray.evaluation.inputs import SPLIT_QUALITY
from kneexray.evaluation.metric_table import METRICS
from kneexray.files import write_whole
from kneexray.pages.page import Section, Table, caution, page, section, short, tile, write_figures
from kneexray.tasks import get_task

WORDS: MappingProxyType[str | None, str] = MappingProxyType({"a": "A", "b": "B", None: "not told"})
DEFINITIONS: MappingProxyType[str, str] = MappingProxyType(
    {
        "McNemar": "Are both models right equally often? The mid-p value, from the knees that only one of them gets right.",
        "Stuart-Maxwell": "Do both models give each class equally often, right or wrong?",
        "p": "Both tests take the two knees of a patient as independent, which makes p a little too small. The interval decides.",
    }
)


def write_comparison(comparison: dict[str, Any], out: Path, *, provenance: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Write ``comparison.json``, ``table.md``, the figure as PNG and SVG, and ``report.html`` into ``out``; return the page's path.

    Raises :class:`~kneexray.errors.MissingExtraError` without the ``eval`` extra and :class:`~kneexray.errors.OutputError` where ``out``
    cannot be written.
    """
    try:
        from kneexray.evaluation.report import part_figures
    except ImportError:
        raise MissingExtraError("the comparison's report", "eval") from None
    gains = [(METRICS[name].title, _gain(name, row["difference"])) for name, row in comparison["metrics"].items()]
    sections = [
        Section(
            key="comparison",
            title="Each metric",
            lead="Of so many metrics one may seem to differ by chance alone: the verdict rests on QWK, or on accuracy for classes without "
            "order, whatever the others say.",
            figures={"differences": (part_figures.differences(gains), "95% intervals. Grey squares: the interval holds zero.")},
            tables=(metrics_table(comparison),),
        ),
        Section(key="tests", title="Which knees", lead=_agreement(comparison), tables=(_tests(comparison),)),
    ]
    drawn = write_figures({}, sections, out=out)
    write_whole(out / "comparison.json", (json.dumps(comparison, indent=2, allow_nan=False) + "\n").encode())
    write_whole(out / "table.md", markdown_table(comparison).encode())
    write_whole(out / "report.html", _render(comparison, sections, drawn, provenance).encode())
    return out / "report.html"


def metrics_table(comparison: Mapping[str, Any]) -> Table:
    """Return each metric of A and B, and the difference with its interval."""
    rows = tuple(
        (METRICS[name].title, _plain(row["a"]), _plain(row["b"]), short(row["difference"], digits=3, sign="+"), WORDS[row["better"]])
        for name, row in comparison["metrics"].items()
    )
    return Table("", ("Metric", "A", "B", "B minus A", "Better"), rows)


def markdown_table(comparison: Mapping[str, Any]) -> str:
    """Return :func:`metrics_table` as Markdown, intervals in brackets."""
    given = metrics_table(comparison)
    cells = [[_one_line(cell) for cell in row] for row in (given.columns, ["---"] * len(given.columns), *given.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def _one_line(cell: str) -> str:
    first, _, below = cell.partition("\n")
    return f"{first} ({below})" if below else first


def _plain(number: float | None) -> str:
    return "n/a" if number is None else f"{number:.3f}"


def _gain(name: str, difference: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the difference such that more is better for B."""
    if name not in LOWER_IS_BETTER or difference["value"] is None:
        return dict(difference)
    low, high = difference["low"], difference["high"]
    return {"value": -difference["value"], "low": None if high is None else -high, "high": None if low is None else -low}


def _agreement(comparison: Mapping[str, Any]) -> str:
    return f"A and B give {comparison['agreement']:.0%} of the {comparison['n']:,} knees the same class, right or wrong."


def _tests(comparison: Mapping[str, Any]) -> Table:
    mcnemar, maxwell = comparison["mcnemar"], comparison["stuart_maxwell"]
    told = f"{mcnemar['only_a']:,} and {mcnemar['only_b']:,}\nknees right in A only, in B only"
    spread = "both give every class alike" if maxwell["p"] is None else f"{maxwell['statistic']:.2f}\nchi-squared, {maxwell['df']} df"
    rows = (("McNemar", told, _p(mcnemar["p"])), ("Stuart-Maxwell", spread, _p(maxwell["p"])))
    return Table("", ("Test", "Found", "p"), rows)


def _p(value: float | None) -> str:
    return "n/a" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _render(comparison: dict[str, Any], sections: list[Section], drawn: Mapping[str, str], provenance: Mapping[str, str]) -> str:
    primary = comparison["metrics"][comparison["primary"]]
    title, quality = METRICS[comparison["primary"]].title, comparison["split_quality"]
    number, _, bounds = short(primary["difference"], digits=3, sign="+").partition("\n")
    bootstrap = comparison["bootstrap"]
    made = {
        "A": comparison["models"]["a"],
        "B": comparison["models"]["b"],
        "Intervals": f"95% percentile intervals of {bootstrap['replicates']:,} resamples of the patients, drawn once for both models, "
        f"seed {bootstrap['seed']}.",
    }
    return page(
        "compare",
        title=f"{get_task(comparison['task']).title}: two models on the same knees",
        subtitle=(
            f"A: {made['A']}. B: {made['B']}. {comparison['n']:,} knees of {comparison['n_patients']:,} patients.",
            SPLIT_QUALITY[quality] if quality == "patient" else "",
        ),
        how="How this was made",
        facts=({**made, **provenance}, {**{metric.title: metric.meaning for metric in METRICS.values()}, **DEFINITIONS}),
        footer="Made by KneeXRay from two stored sets of answers; the same numbers are in comparison.json.",
        verdict=escape(comparison["verdict"]),
        cautions=caution("Read with care", [*([] if quality == "patient" else [SPLIT_QUALITY[quality]]), *comparison["notes"]]),
        headline="\n".join(
            (
                tile(f"{title}, A", _plain(primary["a"]), ""),
                tile(f"{title}, B", _plain(primary["b"]), ""),
                tile("B minus A", number, bounds or "no interval"),
            )
        ),
        sections="\n".join(section(part, drawn) for part in sections),
    )
