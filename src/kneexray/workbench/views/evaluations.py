"""One evaluation: figures with intervals, the confusion matrix and the films behind it, worst errors, calibration, thresholds."""

from __future__ import annotations

import streamlit as st

from kneexray.evaluation.inputs import SPLIT_QUALITY
from kneexray.evaluation.metric_table import METRICS
from kneexray.evaluation.metrics import HEADLINE
from kneexray.evaluation.report.report import classification_report, worst_errors
from kneexray.pages.page import Table
from kneexray.tasks import get_task
from kneexray.workbench import charts, evaluations, fragments, state
from kneexray.workbench.evaluations import Evaluation
from kneexray.workbench.fragments import Tile
from kneexray.workbench.thresholds import GRID, Operating, positive_from

_PAGE = 24
_PARTS = ("Figures", "Confusion matrix", "Worst errors", "Calibration", "OA threshold", "Subgroups and sets")


def show() -> None:
    """Show the page."""
    state.heading(
        "Evaluations", "What a model is worth on labelled films, with 95 % intervals by patient, and the films behind every figure."
    )
    folders = state.places().evaluations
    folder = state.choose("Evaluation", folders, key="evaluation") if folders else None
    if folder is None:
        state.nothing("evaluation", "kneexray evaluate bundle/ --data MANIFEST --split test --out eval/")
        return
    found = state.evaluation(folder)
    figures = found.metrics
    st.caption(f"{figures['model_id']} · {figures['n']:,} films of {figures['n_patients']:,} {figures['bootstrap']['unit']}s")
    parts = [part for part in _PARTS if part != "OA threshold" or positive_from(found.inputs.task) is not None]
    part = st.segmented_control("Part", parts, default=parts[0], required=True, key="part", label_visibility="collapsed")
    {
        "Figures": _figures,
        "Confusion matrix": _confusion,
        "Worst errors": _errors,
        "Calibration": _calibration,
        "OA threshold": _threshold,
        "Subgroups and sets": _sections,
    }[part](found)


def _figures(found: Evaluation) -> None:
    figures = found.metrics
    with st.container(border=True, key="card-figures"):
        names = [name for name in HEADLINE if figures[name]["value"] is not None]
        for start in range(0, len(names), 5):
            for column, name in zip(st.columns(5), names[start : start + 5], strict=False):
                metric = METRICS[name]
                column.metric(
                    metric.title,
                    f"{figures[name]['value']:.3f}",
                    help=metric.meaning,
                    delta=_bounds(figures[name]),
                    delta_color="off",
                    delta_arrow="off",
                )
    quality = figures["split_quality"]
    cautions = [*([SPLIT_QUALITY[quality]] if quality != "patient" else []), *figures["notes"]]
    if cautions:
        with st.expander(f"Read with care ({len(cautions)})", expanded=quality != "patient", icon=":material/info:"):
            for text in cautions:
                st.text(text)
    st.subheader("Each class", anchor=False)
    table(classification_report(figures))


def _confusion(found: Evaluation) -> None:
    inputs, task = found.inputs, get_task(found.inputs.task)
    names = [task.display(place) for place in range(len(task.labels))]
    left, right = st.columns((5, 7), gap="medium")
    with left, st.container(border=True, key="card-confusion"):
        shares = st.toggle("Shares of the row", key="shares")
        drawn = charts.confusion(found.metrics["confusion_matrix"], names, shares=shares, colours=state.colours())
        st.altair_chart(drawn, width="stretch", key="matrix", on_select=_picked, selection_mode=charts.CELL)
        st.caption("Click a cell to see its films.")
    cells = [
        (truth, answer)
        for truth, line in enumerate(found.metrics["confusion_matrix"])
        for answer, images in sorted(enumerate(line), key=lambda pair: -pair[1])
        if images
    ]
    with right:
        if st.session_state.get("cell") not in cells:
            st.session_state["cell"] = max(
                (c for c in cells if c[0] != c[1]), key=lambda c: found.metrics["confusion_matrix"][c[0]][c[1]], default=cells[0]
            )
        counts = found.metrics["confusion_matrix"]
        truth, answer = st.selectbox(
            "Films of",
            cells,
            key="cell",
            format_func=lambda c: (
                f"true {names[c[0]]}, answered {names[c[1]]} ({counts[c[0]][c[1]]} {'film' if counts[c[0]][c[1]] == 1 else 'films'})"
            ),
        )
        rows = evaluations.cell(inputs, truth=truth, answer=answer)
        _films(found, rows, key=f"cell-{truth}-{answer}")


def _picked() -> None:
    """Take the cell that was clicked as the choice of the list, which also serves those who do not click."""
    cells = st.session_state["matrix"]["selection"].get(charts.CELL) or []
    if cells:
        st.session_state["cell"] = (cells[0]["truth"], cells[0]["answer"])


def _films(found: Evaluation, rows: list[int], *, key: str) -> None:
    shown = st.session_state.get(f"most-{key}", _PAGE)
    films = evaluations.films_of(found.inputs, state.places().roots)
    tiles = []
    for row in rows[:shown]:
        picture = state.film(films.path_of(films.examples[row]), state.THUMBNAIL)
        tiles.append(Tile([picture], _answer(found, row), found.inputs.file[row], below=fragments.chances(found.inputs, row)))
    st.html(fragments.grid(tiles))
    _lost(tiles)
    if len(rows) > shown:
        st.button(f"{len(rows) - shown} more", key=f"more-{key}", on_click=_more, args=(f"most-{key}", shown))


def _more(key: str, shown: int) -> None:
    st.session_state[key] = shown + _PAGE


def _answer(found: Evaluation, row: int) -> str:
    values = found.inputs.probabilities[row]
    return f"{get_task(found.inputs.task).display(int(values.argmax()))}, {values.max():.0%}"


def _lost(tiles: list[Tile]) -> None:
    if any(picture is None for tile in tiles for picture in tile.pictures[:1]):
        st.info("Films that are not found are named relative to their data set: open its folder at the left.")


def _errors(found: Evaluation) -> None:
    most = st.slider("How many", 4, 48, 12, 4, key="errors")
    rows = worst_errors(found.inputs, most=most)
    if not rows:
        st.success("No answer is wrong.")
        return
    drawing = state.pictures(found)
    if drawing is None:
        st.info(f"Heatmaps need the model that was evaluated: open the folder of the bundle {found.metrics['model_id']} at the left.")
    films = evaluations.films_of(found.inputs, state.places().roots)
    tiles = []
    for row in rows:
        file = found.inputs.file[row]
        path = films.path_of(films.examples[row])
        shown = [state.film(path, state.THUMBNAIL)]
        if drawing is not None and shown[0] is not None:
            shown.append(state.heatmap(file, found, drawing))
        tiles.append(Tile(shown, fragments.said(found.inputs, row), file, below=fragments.chances(found.inputs, row)))
    st.caption("The widest misses first, then the surest. Bars are the probabilities: blue the truth, orange the answer.")
    st.html(fragments.grid(tiles) if drawing is None else fragments.wide_grid(tiles))
    _lost(tiles)


def _calibration(found: Evaluation) -> None:
    left, right = st.columns((5, 6), gap="medium")
    with left, st.container(border=True, key="card-reliability"):
        st.altair_chart(charts.reliability(found.metrics["reliability"], colours=state.colours()), width="stretch")
        st.caption("On the dashed line, an answer given with 80 % is right in 80 % of cases. Below it, the model is too sure.")
        st.caption("Larger dots stand for more films.")
    with right:
        ece = found.metrics["ece"]
        st.metric("ECE", f"{ece['value']:.3f}", delta=_bounds(ece), delta_color="off", delta_arrow="off", help=METRICS["ece"].meaning)
        _section(found, "calibration")


def _threshold(found: Evaluation) -> None:
    points = state.operating_points(found)
    threshold = st.select_slider(
        "Yes where the probability of OA (KL ≥ 2) is above", GRID, value=0.5, key="threshold", format_func=lambda t: f"{t:.0%}"
    )
    at = next(point for point in points if point.threshold == threshold)
    left, right = st.columns((6, 5), gap="medium")
    with left, st.container(border=True, key="card-operating"):
        rows = [
            {"threshold": p.threshold, "of": name, **value}
            for p in points
            for name, value in (("sensitivity", p.sensitivity), ("specificity", p.specificity))
            if value["value"] is not None
        ]
        st.altair_chart(charts.operating(rows, threshold=threshold, colours=state.colours()), width="stretch")
    with right:
        _operating(at)
        st.caption(f"AUC of OA {_number(found.metrics['oa']['auc'])}. Bands and brackets are 95 % intervals by patient bootstrap.")
        st.caption("A threshold that was chosen on these films flatters on them: judge it on others.")


def _operating(at: Operating) -> None:
    with st.container(border=True, key="card-at"):
        for column, (name, value) in zip(st.columns(2), (("Sensitivity", at.sensitivity), ("Specificity", at.specificity)), strict=True):
            shown = "n/a" if value["value"] is None else f"{value['value']:.3f}"
            column.metric(name, shown, delta=_bounds(value), delta_color="off", delta_arrow="off")
    rows = (
        ("with OA", f"{at.true_positive:,}", f"{at.false_negative:,}"),
        ("without", f"{at.false_positive:,}", f"{at.true_negative:,}"),
    )
    table(Table("", ("Films", "Answered yes", "Answered no"), rows))


def _sections(found: Evaluation) -> None:
    for key in ("subgroups", "sets"):
        _section(found, key)
    if not any(section.key in ("subgroups", "sets") for section in state.report_sections(found)):
        st.info("These answers make no subgroups and hold no logits to make prediction sets from.")


def _section(found: Evaluation, key: str) -> None:
    """Show the text and tables of a section of the evaluation's report."""
    for section in state.report_sections(found):
        if section.key == key:
            st.subheader(section.title, anchor=False)
            st.caption(section.lead)
            for given in section.tables:
                table(given)


def table(given: Table) -> None:
    """Show a table of a report; what stands small below a number there stands in brackets here."""
    cells = [[_one_line(row[place]) for row in given.rows] for place in range(len(given.columns))]
    if given.caption:
        st.caption(given.caption)
    st.dataframe(dict(zip(given.columns, cells, strict=True)), hide_index=True, width="stretch")


def _one_line(text: str) -> str:
    first, _, below = text.partition("\n")
    return f"{first} ({below})" if below else first


def _bounds(value: dict[str, float | None]) -> str | None:
    return None if value["low"] is None else f"{value['low']:.3f} to {value['high']:.3f}"


def _number(value: dict[str, float | None]) -> str:
    bounds = _bounds(value)
    return "not defined" if value["value"] is None else f"{value['value']:.3f}" + (f" ({bounds})" if bounds else "")
