"""Audit findings: groups of films side by side, and for each film the label that it shall carry."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from kneexray.datasets.manifest import Example, Manifest
from kneexray.workbench import decisions, findings, fragments, state
from kneexray.workbench.decisions import Decision
from kneexray.workbench.findings import KINDS, Finding
from kneexray.workbench.fragments import Tile
from kneexray.workbench.views import relabelling

DROP = "drop"
_PAGE = "findings"
_MOST = 12
_ROW = 4


def show() -> None:
    """Show the page."""
    state.heading("Audit findings", "Copies, conflicts and leaks side by side. Say for each film which label it shall carry, or drop it.")
    chosen = relabelling.choose(
        "Audit", state.places().audits, key="audit", what="audit", command="kneexray data audit MANIFEST --out audit/"
    )
    if chosen is None:
        return
    folder, beside = chosen
    with beside:
        labels = relabelling.labels_of(key="audited", likely=findings.audited(folder))
    found, digest = findings.read(folder)
    if not found:
        st.success("This audit found nothing.")
        return
    if labels is None:
        st.info("Open the data that were audited at the left: their manifest, or their folder.")
        return
    manifest, source = labels
    if manifest.digest() != digest:
        st.warning("This audit is of other files or labels than those chosen: names that both hold are shown.", icon=":material/info:")
    done = relabelling.decided(manifest.task)
    kind = st.segmented_control(
        "Kind",
        list(found),
        default=next(iter(found)),
        required=True,
        key="kind",
        format_func=lambda k: f"{KINDS[k]} ({len(found[k])})",
        label_visibility="collapsed",
    )
    _browse(kind, found[kind], manifest, done)
    relabelling.outcome(manifest, source)


def _browse(kind: str, groups: list[Finding], manifest: Manifest, done: dict[str, Decision]) -> None:
    examples = findings.examples_of(manifest)
    place = min(st.session_state.get(f"at-{kind}", 0), len(groups) - 1)
    finding = groups[place]
    films = [examples[file] for file in finding.files if file in examples]
    ready = sum(all(decisions.key(manifest.root / file) in done for file in group.files) for group in groups)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Previous",
            key="previous",
            disabled=place == 0,
            on_click=_go,
            args=(kind, place - 1),
            icon=":material/arrow_back:",
            shortcut="Left",
        )
        st.button(
            "Next",
            key="next",
            disabled=place == len(groups) - 1,
            on_click=_go,
            args=(kind, place + 1),
            icon=":material/arrow_forward:",
            shortcut="Right",
        )
        st.markdown(f"**{place + 1} of {len(groups)}** · {ready} decided")
    st.progress(ready / len(groups))
    st.subheader(finding.what[:1].upper() + finding.what[1:], anchor=False)
    if not films:
        st.info(f"None of these files is in the chosen labels: {', '.join(finding.files[:3])}")
        return
    for start in range(0, min(len(films), _MOST), _ROW):
        row = films[start : start + _ROW]
        for column, example in zip(st.columns(max(2, min(_ROW, len(films)))), row, strict=False):
            with column, st.container(border=True, key=f"card-{kind}-{place}-{example.path}"):
                _film(example, manifest, films, done, at=f"{kind}-{place}")
    if len(films) > _MOST:
        st.caption(f"{len(films) - _MOST} more films are in this group: 'Keep this, drop the others' counts for them too.")


def _film(example: Example, manifest: Manifest, group: list[Example], done: dict[str, Decision], *, at: str) -> None:
    path, task = manifest.path_of(example), manifest.task
    shown = " · ".join(part for part in (task.display(task.labels.index(example.label)), example.split) if part)
    st.html(fragments.single(Tile([state.film(path, 480)], f"Now: {shown}", example.path)))
    key = f"choice-{at}-{example.path}"
    decision = done.get(decisions.key(path))
    if decision is not None:
        st.session_state.setdefault(key, decision.label or DROP)
    st.segmented_control(
        "Shall be",
        [*task.labels, DROP],
        key=key,
        format_func=lambda label: "Drop" if label == DROP else task.display(task.labels.index(label)),
        on_change=_decide,
        args=(key, path, manifest),
    )
    if len(group) > 1:
        st.button(
            "Keep this, drop the others",
            key=f"only-{at}-{example.path}",
            type="tertiary",
            icon=":material/done_all:",
            on_click=_only,
            args=(example, group, manifest, at),
        )


def _decide(key: str, path: Path, manifest: Manifest) -> None:
    choice = st.session_state[key]
    if choice is None:  # a second click takes the choice off the page, but not back: show it again
        del st.session_state[key]
    else:
        relabelling.decide(path, manifest.task, None if choice == DROP else choice, page=_PAGE)


def _only(kept: Example, group: list[Example], manifest: Manifest, at: str) -> None:
    for example in group:
        label = example.label if example is kept else None
        relabelling.decide(manifest.path_of(example), manifest.task, label, page=_PAGE)
        st.session_state[f"choice-{at}-{example.path}"] = label or DROP


def _go(kind: str, place: int) -> None:
    st.session_state[f"at-{kind}"] = place
