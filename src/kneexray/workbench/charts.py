"""The charts of the workbench, as Vega-Lite by Altair. ``colours`` is a :func:`~.palette.palette`; rows are plain records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

Colours = Mapping[str, str]
Rows = Sequence[Mapping[str, Any]]
Drawn = alt.Chart | alt.LayerChart | alt.FacetChart
_LEGEND = alt.Legend(orient="top", offset=6, padding=0, symbolOpacity=1)
_ON_CELL = "#ffffff"
CELL = "cell"
"""The selection of a cell of the confusion matrix: its fields are ``truth`` and ``answer``, places of labels."""


def curves(history: Rows, *, names: Sequence[str], colours: Colours) -> Drawn:
    """Return metrics of each epoch as lines; what an epoch does not have is left out."""
    rows = [
        {"epoch": row["epoch"] + 1, "value": row[name], "of": name.removesuffix("_epoch").replace("_", " ")}
        for row in history
        for name in names
        if row.get(name) is not None
    ]
    shown = list(dict.fromkeys(row["of"] for row in rows))
    scale = alt.Scale(domain=shown, range=[colours["series-0"], colours["series-4"], colours["series-2"]][: len(shown)])
    base = _chart(rows).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
        color=alt.Color("of:N", title=None, scale=scale, legend=_LEGEND),
        tooltip=[alt.Tooltip("of:N", title="metric"), "epoch:Q", alt.Tooltip("value:Q", format=".4f")],
    )
    return _page(base.mark_line(point=alt.OverlayMarkDef(size=36), strokeWidth=2), height=270)


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str], *, shares: bool, colours: Colours) -> Drawn:
    """Return the confusion matrix, each row a true class; a click selects a cell as :data:`CELL`."""
    rows = []
    for truth, line in enumerate(counts):
        total = sum(line)
        for answer, images in enumerate(line):
            share = images / total if total else 0.0
            text = (f"{share:.0%}" if total else "–") if shares else f"{images}"
            rows.append(
                {
                    "truth": truth,
                    "answer": answer,
                    "true": names[truth],
                    "given": names[answer],
                    "images": images,
                    "share": share,
                    "text": text,
                }
            )
    shades = alt.Scale(domain=[0, 1], range=[colours["paper"], colours["cell"]], interpolate="rgb")
    picked = alt.selection_point(name=CELL, fields=["truth", "answer"], on="click", empty=False)
    base = _chart(rows).encode(
        x=alt.X(
            "given:N", title="Answer of the model", sort=list(names), axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False)
        ),
        y=alt.Y("true:N", title="Truth", sort=list(names), axis=alt.Axis(ticks=False, domain=False)),
    )
    cells = (
        base.mark_rect(cursor="pointer", cornerRadius=3)
        .encode(
            color=alt.Color("share:Q", scale=shades, legend=None),
            stroke=alt.condition(picked, alt.value(colours["series-4"]), alt.value(colours["rule"])),
            strokeWidth=alt.condition(picked, alt.value(3), alt.value(1)),
            tooltip=[
                alt.Tooltip("true:N", title="truth"),
                alt.Tooltip("given:N", title="answer"),
                alt.Tooltip("images:Q"),
                alt.Tooltip("share:Q", title="share of the row", format=".0%"),
            ],
        )
        .add_params(picked)
    )
    ink = alt.condition("datum.share > 0.5", alt.value(_ON_CELL), alt.value(colours["ink"]))
    text = base.mark_text(fontSize=15, fontWeight=600, cursor="pointer", tooltip=None).encode(text="text:N", color=ink)
    return _page(alt.layer(cells, text), height=70 * len(names) + 40)


def reliability(bins: Rows, *, colours: Colours) -> Drawn:
    """Return how often answers of each probability were right, with intervals; the bins are those of ``metrics.json``."""
    rows = [
        {
            "confidence": b["confidence"],
            "right": b["accuracy"]["value"],
            "low": b["accuracy"]["low"],
            "high": b["accuracy"]["high"],
            "n": b["n"],
        }
        for b in bins
        if b["n"]
    ]
    unit = alt.Scale(domain=[0, 1])
    diagonal = (
        _chart([{"x": 0, "y": 0}, {"x": 1, "y": 1}])
        .mark_line(strokeDash=[4, 4], color=colours["muted"], strokeWidth=1)
        .encode(x=alt.X("x:Q", scale=unit), y=alt.Y("y:Q", scale=unit))
    )
    base = _chart(rows).encode(
        x=alt.X("confidence:Q", title="Probability of the answer", scale=unit, axis=alt.Axis(format="%")),
        tooltip=[alt.Tooltip("n:Q", title="images"), alt.Tooltip("confidence:Q", format=".0%"), alt.Tooltip("right:Q", format=".0%")],
    )
    bars = base.mark_rule(color=colours["series-0"], strokeWidth=1.5).encode(y=alt.Y("low:Q", scale=unit), y2="high:Q")
    points = base.mark_circle(color=colours["series-0"], opacity=1).encode(
        y=alt.Y("right:Q", title="Share that is right", scale=unit, axis=alt.Axis(format="%")),
        size=alt.Size("n:Q", scale=alt.Scale(range=[30, 320]), legend=None),
    )
    return _page(alt.layer(diagonal, bars, points), height=380)


def operating(points: Rows, *, threshold: float, colours: Colours) -> Drawn:
    """Return sensitivity and specificity against the threshold, with intervals; records of ``threshold, of, value, low, high``."""
    scale = alt.Scale(domain=["sensitivity", "specificity"], range=[colours["series-0"], colours["series-4"]])
    base = _chart(points).encode(
        x=alt.X("threshold:Q", title="Yes where the probability of OA is above", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
        color=alt.Color("of:N", title=None, scale=scale, legend=_LEGEND),
    )
    band = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=None), y2="high:Q")
    line = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
        tooltip=[
            "of:N",
            alt.Tooltip("threshold:Q", format=".0%"),
            *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")),
        ],
    )
    at = _chart([{"at": threshold}]).mark_rule(color=colours["ink"], strokeDash=[5, 4]).encode(x="at:Q")
    return _page(alt.layer(band, line, at), height=330)


def differences(rows: Rows, *, title: str, colours: Colours) -> Drawn:
    """Return differences with intervals, one under the other, against zero; records of ``name, value, low, high, told``.

    What is not ``told`` (its interval holds zero) is grey.
    """
    order = [row["name"] for row in rows]
    colour = alt.condition("datum.told", alt.value(colours["series-0"]), alt.value(colours["muted"]))
    base = _chart(rows).encode(
        y=alt.Y("name:N", title=None, sort=order, axis=alt.Axis(labelLimit=220, ticks=False, domain=False)),
        tooltip=["name:N", *(alt.Tooltip(f"{name}:Q", format="+.3f") for name in ("value", "low", "high"))],
    )
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title, scale=alt.Scale(zero=False)), x2="high:Q", color=colour)
    points = base.mark_point(filled=True, size=80, opacity=1).encode(x="value:Q", color=colour)
    zero = _chart([{"at": 0}]).mark_rule(color=colours["ink"], strokeDash=[4, 4]).encode(x="at:Q")
    return _page(alt.layer(zero, bars, points), height=34 * len(rows) + 50)


def balance(counts: Rows, *, labels: Sequence[str], colours: Colours) -> Drawn:
    """Return how many images each class has in each split; records of ``split, label, images``."""
    scale = alt.Scale(domain=list(labels), range=[colours[f"series-{place % 5}"] for place in range(len(labels))])
    bars = (
        _chart(counts)
        .mark_bar(size=22)
        .encode(
            x=alt.X("images:Q", title="images"),
            y=alt.Y("split:N", title=None, axis=alt.Axis(ticks=False, domain=False)),
            color=alt.Color("label:N", title=None, scale=scale, sort=list(labels), legend=_LEGEND),
            order=alt.Order("place:Q"),
            tooltip=["split:N", "label:N", "images:Q"],
        )
    )
    return _page(bars, height=190)


def _chart(rows: Rows) -> alt.Chart:
    """Return a chart of records that travel within it: Altair's own way takes a data frame."""
    return alt.Chart(alt.Data(values=list(rows)))  # type: ignore[no-untyped-call]


def _page(drawn: Drawn, *, height: int) -> Drawn:
    """Return a chart ``height`` pixels high, axes and legend included, on whatever it stands on."""
    shown: Drawn = drawn.properties(height=height, background="transparent")
    return shown
