"""The self-contained HTML pages of evaluations, comparisons and audits: one frame, one style sheet, and the parts they share."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kneexray.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_COLUMN = 72 * 6.0
"""A figure wider than this, in points, takes both columns of a page."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a report: its caption, the names of its columns, and rows of text, a cell a column.

    What follows a line break in a cell is set small below the rest.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Section:
    """A part of a report, such as a further test of a model.

    ``lead`` says in plain words what was done, on how many images, and what came of it; ``alarm``, where not empty, what a reader
    must not miss. ``figures`` maps a name to a figure drawn within :func:`~.figure_style.style` and its caption; they are written as
    ``<key>_<name>.png`` and ``.svg``. ``data``, plain JSON values, goes into ``metrics.json`` under ``key``.
    """

    key: str
    title: str
    lead: str
    alarm: str = ""
    figures: Mapping[str, tuple[Figure, str]] = field(default_factory=lambda: MappingProxyType({}))
    tables: tuple[Table, ...] = ()
    data: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def page(body: str, *, title: str, subtitle: Iterable[str], footer: str, how: str, facts: Iterable[Mapping[str, str]], **parts: str) -> str:
    """Return a page around the template ``body``, its placeholders filled with ``parts`` of HTML; all else is plain text.

    ``facts`` are lists of names and what they stand for, under the heading ``how`` at the end.
    """
    frame, content = Template(_template("page.html")), Template(_template(f"{body}.html"))
    first, *others = subtitle
    return frame.substitute(
        css=_template("page.css"),
        title=escape(title),
        subtitle="\n".join([f"<p>{escape(first)}</p>", *(f'<p class="muted">{escape(text)}</p>' for text in others if text)]),
        body=content.substitute(parts),
        how=escape(how),
        facts="\n".join(f"<dl>\n{pairs(part)}\n</dl>" for part in facts),
        footer=escape(footer),
    )


def _template(name: str) -> str:
    return (resources.files("kneexray") / "pages" / "templates" / name).read_text(encoding="utf-8")


def pairs(given: Mapping[str, str]) -> str:
    """Return the rows of a definition list."""
    return "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in given.items())


def tile(name: str, number: str, below: str) -> str:
    """Return a headline number: a row of a definition list of class ``numbers``."""
    return f"<div><dt>{escape(name)}</dt><dd><strong>{escape(number)}</strong><small>{escape(below)}</small></dd></div>"


def caution(heading: str, sentences: Iterable[str]) -> str:
    """Return a box that lists ``sentences``, nothing where there are none."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<div class="caution"><strong>{escape(heading)}</strong><ul>{items}</ul></div>' if items else ""


def alarm(given: Section) -> str:
    """Return the section's alarm as a red box, nothing where there is none."""
    return f'<p class="alarm"><strong>{escape(given.title)}.</strong> {escape(given.alarm)}</p>' if given.alarm else ""


def section(given: Section, drawn: Mapping[str, str]) -> str:
    """Return ``given`` as HTML; ``drawn`` holds the inline SVG of each figure by file stem."""
    figures = [figure(drawn[f"{given.key}_{name}"], caption) for name, (_, caption) in given.figures.items()]
    parts = [
        f"<h2>{escape(given.title)}</h2>",
        f'<p class="muted">{escape(given.lead)}</p>',
        alarm(given),
        "\n".join(['<div class="figures">', *figures, "</div>"]) if figures else "",
        *map(table, given.tables),
    ]
    return "\n".join(part for part in parts if part)


def figure(svg: str, caption: str) -> str:
    """Return a figure with its caption."""
    return f"<figure><div>{svg}</div><figcaption>{escape(caption)}</figcaption></figure>"


def table(given: Table) -> str:
    """Return a table that scrolls by itself where it is wider than the page."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in given.columns)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in given.rows)
    caption = f"<caption>{escape(given.caption)}</caption>" if given.caption else ""
    return f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _cell(text: str) -> str:
    first, _, below = text.partition("\n")
    return f"<td>{escape(first)}{f'<br><small>{escape(below)}</small>' if below else ''}</td>"


def short(value: Mapping[str, float | None], *, digits: int = 2, sign: str = "") -> str:
    """Return a value and its interval as the cell of a :class:`Table`; ``sign="+"`` writes the sign of what is positive as well."""
    number, low, high = value["value"], value["low"], value["high"]
    if number is None:
        return "n/a"
    style, dash = f"{sign}.{digits}f", " to " if sign else "–"
    text = f"{number:{style}}" + ("" if low is None or high is None else f"\n{low:{style}}{dash}{high:{style}}")
    return text.replace("-", "−")


def write_figures(figures: Mapping[str, tuple[Figure, str]], sections: Iterable[Section], *, out: Path) -> dict[str, str]:
    """Write ``figures`` (file stem -> figure, caption) and those of ``sections`` into ``out`` as PNG and SVG.

    Return each as inline SVG, by file stem. Raises :class:`~kneexray.errors.OutputError` where ``out`` cannot be written.
    """
    from kneexray.pages import figure_style

    drawn = {}
    parts = {f"{part.key}_{name}": given for part in sections for name, given in part.figures.items()}
    for name, (one, caption) in {**figures, **parts}.items():
        write_whole(out / f"{name}.png", figure_style.png(one))
        write_whole(out / f"{name}.svg", figure_style.svg(one))
        drawn[name] = inline(figure_style.svg(one, transparent=True).decode(), name, label=caption)
    return drawn


def data_uri(picture: bytes) -> str:
    """Return a PNG, WebP or JPEG to stand in a page."""
    kind = "png" if picture.startswith(b"\x89PNG") else "webp" if picture[8:12] == b"WEBP" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def inline(svg: str, name: str, *, label: str) -> str:
    """Return ``svg`` to stand in a page: the page's colours and font, ids of its own, and a name for those who cannot see it."""
    from kneexray.pages import figure_style

    variables = {
        figure_style.INK: "ink",
        figure_style.MUTED: "muted",
        figure_style.RULE: "rule",
        figure_style.CELL: "cell",
        figure_style.PAPER: "paper",
    }
    variables |= {color: f"series-{place}" for place, color in enumerate(figure_style.SERIES)}
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", body, count=1), count=1)
    body = re.sub(r'\bid="|url\(#|href="#', lambda found: f"{found[0]}{name}-", body)
    body = body.replace("'DejaVu Sans', sans-serif", "inherit")
    for color, variable in variables.items():
        body = body.replace(color, f"var(--{variable})")
    shape = ' class="wide"' if float(re.findall(r'viewBox="0 0 ([\d.]+) ', body)[0]) > _COLUMN else ""
    return body.replace("<svg", f'<svg{shape} role="img" aria-label="{escape(label)}"', 1)
