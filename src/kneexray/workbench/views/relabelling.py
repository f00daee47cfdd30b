"""What the pages that change labels share: whose labels, who reads, and the new manifest at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kneexray.datasets.audit.items import task_of
from kneexray.datasets.manifest import Manifest
from kneexray.errors import KneeXRayError
from kneexray.tasks import Task
from kneexray.workbench import decisions, state
from kneexray.workbench.decisions import Decision


def labels_of(*, key: str, task: str | None = None, likely: Path | None = None) -> tuple[Manifest, Path] | None:
    """Let the reader choose whose labels are at stake, ``likely`` unless told otherwise: return the manifest, and where it came from."""
    found = state.places()
    tables = {path.parent for path in found.manifests}
    folders = [root for root in found.roots if root.is_dir() and root not in tables]
    choices = list(dict.fromkeys([*([likely] if likely else []), *found.manifests, *folders]))
    path = state.choose("Labels: a manifest or a folder of classes", choices, key=key)
    if path is None:
        return None
    try:
        return state.manifest(path, task or task_of(path).name), path
    except KneeXRayError as error:
        st.warning(f"These labels cannot be used: {error}")
        return None


def choose(label: str, folders: Sequence[Path], *, key: str, what: str, command: str) -> tuple[Path, DeltaGenerator] | None:
    """Let the reader choose what to go through, and say who reads; return it, and the place beside it where the labels are chosen.

    Where there is nothing to choose from, say that no ``what`` is there and the ``command`` that makes one.
    """
    if not folders:
        state.nothing(what, command)
        return None
    left, middle, right = st.columns((3, 3, 2))
    with left:
        folder = state.choose(label, folders, key=key)
    with right:
        st.text_input("Reader", key="reader", placeholder="initials, kept with each decision", max_chars=40, persist_state="session")
    return None if folder is None else (folder, middle)


def decided(task: Task) -> dict[str, Decision]:
    """Return what was decided so far, by absolute path."""
    return decisions.read(state.decisions_file(), task=task)


def decide(path: Path, task: Task, label: str | None, *, page: str) -> None:
    """Keep a decision at once; where it cannot be kept, say so."""
    name = st.session_state.get("reader", "").strip()
    try:
        decisions.record(state.decisions_file(), Decision(decisions.key(path), task.name, label, reader=name, page=page))
    except KneeXRayError as error:
        st.session_state["unkept"] = str(error)


def outcome(manifest: Manifest, source: Path) -> None:
    """Show what the decisions come to, and write the new manifest when asked to."""
    if message := st.session_state.pop("unkept", ""):
        st.error(f"The last decision was not kept: {message}")
    st.subheader("New manifest", anchor=False)
    try:
        result = decisions.apply(manifest, decided(manifest.task))
    except KneeXRayError as error:
        st.warning(str(error))
        return
    with st.container(border=True, key="card-outcome"):
        for column, (name, number) in zip(
            st.columns(4),
            (
                ("Kept as they were", result.kept),
                ("Relabelled", result.relabelled),
                ("Dropped", result.dropped),
                ("Films left", len(result.manifest.examples)),
            ),
            strict=True,
        ):
            column.metric(name, f"{number:,}")
        st.caption(f"{source} is never changed. Every decision is in {state.decisions_file()} from the moment it is made.")
        left, right = st.columns((4, 1), vertical_alignment="bottom")
        free = decisions.free_name(state.given()[0])
        target = left.text_input("Write to", value=str(free), key=f"target-{free.name}")
        changed = result.relabelled + result.dropped
        if right.button("Write", type="primary", width="stretch", disabled=not changed, key="write"):
            decisions.write(result, Path(target).expanduser())
            st.success(f"Written: {target} ({len(result.manifest.examples):,} films). Audit and split it anew before it is trained on.")
