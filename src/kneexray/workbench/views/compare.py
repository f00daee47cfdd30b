"""Two evaluations of the same films: which model is better, as far as the data can tell, and on which films they part."""

from __future__ import annotations

from typing import Any

import streamlit as st

from kneexray.evaluation.compare import LOWER_IS_BETTER, Pair, pair
from kneexray.evaluation.inputs import SPLIT_QUALITY
from kneexray.evaluation.metric_table import METRICS
from kneexray.evaluation.report.comparison import metrics_table
from kneexray.tasks import get_task
from kneexray.workbench import charts, evaluations, fragments, state
from kneexray.workbench.fragments import Tile
from kneexray.workbench.views.evaluations import table

_MOST = 24


def show() -> None:
    """Show the page."""
    state.heading("Compare", "Both models on the same films; every resample draws the same patients for both. The interval decides.")
    folders = state.places().evaluations
    if len(folders) < 2:
        state.nothing(
            "two evaluations", "kneexray evaluate A --data MANIFEST --out eval-a/\nkneexray evaluate B --data MANIFEST --out eval-b/"
        )
        return
    left, right = st.columns(2)
    with left:
        a = state.choose("A", folders, key="a")
    with right:
        b = state.choose("B", folders, key="b", index=1)
    if a is None or b is None or a == b:
        st.info("Choose two different evaluations.")
        return
    first, second = state.evaluation(a), state.evaluation(b)
    found = state.comparison(first, second)
    st.html(fragments.verdict(found["verdict"]))
    st.caption(f"A: {found['models']['a']} · B: {found['models']['b']} · {found['n']:,} knees of {found['n_patients']:,} patients")
    notes = [*([SPLIT_QUALITY[found["split_quality"]]] if found["split_quality"] != "patient" else []), *found["notes"]]
    for note in notes:
        st.warning(note, icon=":material/info:")
    left, right = st.columns((6, 6), gap="medium")
    with left, st.container(border=True, key="card-differences"):
        drawn = charts.differences(_gains(found), title="← A is better        B is better →", colours=state.colours())
        st.altair_chart(drawn, width="stretch")
        st.caption("Differences with 95 % intervals, turned so that more is better for B. Grey: the interval holds zero.")
    with right:
        table(metrics_table(found))
        mcnemar = found["mcnemar"]
        st.caption(
            f"A and B agree on {found['agreement']:.0%} of the knees. Right in A only: {mcnemar['only_a']}; in B only: {mcnemar['only_b']} "
            f"(McNemar, p = {mcnemar['p']:.3f})."
        )
    _parting(pair(first.inputs, second.inputs))


def _gains(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the differences such that more is better for B."""
    rows = []
    for name, row in found["metrics"].items():
        value, low, high = (row["difference"][key] for key in ("value", "low", "high"))
        if value is None or low is None:
            continue
        if name in LOWER_IS_BETTER:
            value, low, high = -value, -high, -low
        rows.append({"name": METRICS[name].title, "value": value, "low": low, "high": high, "told": row["better"] is not None})
    return rows


def _parting(both: Pair) -> None:
    """Show the films that only one of the models gets right."""
    st.subheader("Where they part", anchor=False)
    right = [given.probabilities.argmax(axis=1) == both.a.target for given in (both.a, both.b)]
    rows = {"Right in A only": right[0] & ~right[1], "Right in B only": ~right[0] & right[1]}
    which = st.segmented_control("Films", list(rows), default="Right in A only", required=True, key="parting", label_visibility="collapsed")
    films, task = evaluations.films_of(both.a, state.places().roots), get_task(both.a.task)
    tiles = []
    for row in rows[which].nonzero()[0][:_MOST]:
        answers = (task.display(int(given.probabilities[row].argmax())) for given in (both.a, both.b))
        heading = f"True {task.display(int(both.a.target[row]))}: A {next(answers)}, B {next(answers)}"
        tiles.append(Tile([state.film(films.path_of(films.examples[row]), state.THUMBNAIL)], heading, both.a.file[row]))
    if tiles:
        st.html(fragments.grid(tiles))
        st.caption(f"{len(tiles)} of {int(rows[which].sum())} shown.")
    else:
        st.caption("There is none.")
