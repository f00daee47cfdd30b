"""The reading queue: films that the model is least certain of, one at a time, for a reader to grade without seeing any answer."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from kneexray.tasks import Task
from kneexray.workbench import decisions, evaluations, fragments, reading_queue, state
from kneexray.workbench.evaluations import Evaluation
from kneexray.workbench.fragments import Tile
from kneexray.workbench.views import relabelling

_PAGE = "reading"
_AT = "reading-at"


def show() -> None:
    """Show the page."""
    state.heading(
        "Reading queue",
        "The films that the model is least certain of come first. Grade them blind: label and answer are shown when asked for.",
    )
    command = "kneexray evaluate bundle/ --data MANIFEST --split val --out eval/"
    chosen = relabelling.choose("Answers of", state.places().evaluations, key="read", what="evaluation", command=command)
    if chosen is None:
        return
    folder, beside = chosen
    found = state.evaluation(folder)
    films = evaluations.films_of(found.inputs, state.places().roots)
    with beside:
        likely = films.root if films.root in state.places().roots else None
        labels = relabelling.labels_of(key="read-labels", task=found.inputs.task, likely=likely)
    order = reading_queue.queue(found.inputs)
    paths = {row: films.path_of(films.examples[row]) for row in order}
    done = relabelling.decided(films.task)
    left = [row for row in order if decisions.key(paths[row]) not in done]
    st.progress(1 - len(left) / len(order), text=f"{len(order) - len(left)} of {len(order)} films read")
    asked = st.session_state.get(_AT)
    row = asked if asked in paths else next(iter(left), None)
    if row is None:
        st.success("Every film is read.")
    else:
        _read(found, row, paths[row], films.task)
    if labels is None:
        return
    if {*map(decisions.key, paths.values())}.isdisjoint(decisions.key(labels[0].path_of(example)) for example in labels[0].examples):
        st.warning("None of these films is among the chosen labels: a manifest made from them would not change.", icon=":material/info:")
    relabelling.outcome(*labels)


def _read(found: Evaluation, row: int, path: Path, task: Task) -> None:
    left, right = st.columns((5, 5), gap="large")
    with left, st.container(border=True, key="card-film"):
        picture = state.film(path, state.LARGE)
        if picture is None:
            st.info(f"{path} cannot be read. Open the folder that its name starts from at the left.")
        else:
            st.image(picture, width="stretch", alt="The film to be graded")
    with right:
        st.subheader(f"{task.title}?", anchor=False)
        for place, label in enumerate(task.labels):
            _, _, meaning = task.meanings[place].rpartition(": ")
            st.button(
                f"**{task.display(place)}** {meaning}",
                key=f"grade-{label}",
                width="stretch",
                wrap=True,
                shortcut=str(place),
                on_click=_grade,
                args=(path, task, label),
            )
        with st.container(horizontal=True):
            st.button("Cannot be graded: drop", key="drop", shortcut="x", on_click=_grade, args=(path, task, None))
            st.button("Back", key="back", disabled="reading-last" not in st.session_state, shortcut="b", on_click=_back)
        with st.expander("Show label and answer", icon=":material/visibility:"):
            st.html(
                fragments.grid(
                    [Tile([], fragments.said(found.inputs, row), found.inputs.file[row], below=fragments.chances(found.inputs, row))]
                )
            )
            st.caption(f"Uncertainty {reading_queue.entropy(found.inputs.probabilities[row : row + 1])[0]:.0%} (entropy).")
        st.session_state["reading-now"] = row


def _grade(path: Path, task: Task, label: str | None) -> None:
    relabelling.decide(path, task, label, page=_PAGE)
    st.session_state["reading-last"] = st.session_state["reading-now"]
    st.session_state.pop(_AT, None)


def _back() -> None:
    """Show the film read last once more; grading it again replaces what was said."""
    st.session_state[_AT] = st.session_state.pop("reading-last")
