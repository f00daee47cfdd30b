"""Training runs: how they went, what they were told, what they saw."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import streamlit as st

from kneexray import tables
from kneexray.tasks import TASKS
from kneexray.train.curves import PANELS, read_metrics
from kneexray.workbench import charts, state
from kneexray.workbench.places import RUN_DATA, RUN_METRICS, read_json

_LIVE = timedelta(seconds=20)


def show() -> None:
    """Show the page."""
    state.heading("Training runs", "How the training went, epoch by epoch. What the model is worth is told by an evaluation.")
    runs = state.places().runs
    folder = state.choose("Run", runs, key="run") if runs else None
    if folder is None:
        state.nothing("run", "kneexray train recipes/kl.toml --data DATA --out runs/mine")
        return
    record = read_json(folder / "manifest.json")
    config = read_json(folder / "config.json")
    st.fragment(run_every=None if record else _LIVE)(_curves)(folder, config, finished=bool(record))
    _told(folder, config, record)


def _curves(folder: Path, config: dict[str, Any], *, finished: bool) -> None:
    history = read_metrics(folder / RUN_METRICS)
    monitor = config.get("select", {}).get("monitor", "val_qwk")
    if not history:
        st.info("No epoch is done yet." if not finished else "This run kept no metrics.")
        return
    if not finished:
        st.info(
            f"Not finished: {len(history)} of {config['optim']['epochs']} epochs are done. This page looks again every {_LIVE.seconds} s."
        )
    best = (min if monitor in ("val_nll", "val_mae") else max)(history, key=lambda row: row[monitor])
    tiles = [("Best epoch", f"{best['epoch'] + 1} of {len(history)}")]
    tiles += [
        (title, f"{best[name]:.3f}")
        for title, name in (("Accuracy", "val_accuracy"), ("QWK", "val_qwk"), ("MAE, grades", "val_mae"), ("NLL", "val_nll"))
        if name in best
    ]
    with st.container(border=True, key="card-best"):
        for column, (title, value) in zip(st.columns(len(tiles)), tiles, strict=True):
            column.metric(title, value)
        st.caption(f"On the validation split, of the epoch that was chosen by {monitor.replace('_', ' ')}: a choice, not a test.")
    for column, (title, names) in zip(st.columns(len(PANELS)), PANELS, strict=True):
        with column, st.container(border=True, key=f"card-curve-{title[:4]}"):
            st.markdown(f"**{title[:1].upper()}{title[1:]}**")
            st.altair_chart(charts.curves(history, names=names, colours=state.colours()), width="stretch")


def _told(folder: Path, config: dict[str, Any], record: dict[str, Any]) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("What it was trained on", anchor=False)
        task = TASKS[config["task"]]
        counts = Counter((row["split"], row["label"]) for row in tables.read_table(folder / RUN_DATA) if row["task"] == task.name)
        names = [task.display(place) for place in range(len(task.labels))]
        rows = [
            {"split": split, "label": names[task.labels.index(label)], "images": images, "place": task.labels.index(label)}
            for (split, label), images in counts.items()
        ]
        st.altair_chart(charts.balance(rows, labels=names, colours=state.colours()), width="stretch")
        st.subheader("Next", anchor=False)
        st.code(_next(folder), language="shell", wrap_lines=True)
    with right:
        st.subheader("The recipe", anchor=False)
        flat = {f"{part}.{name}": value for part, group in config.items() if isinstance(group, dict) for name, value in group.items()}
        plain = {name: value for name, value in config.items() if not isinstance(value, dict)}
        shown = {name: str(value) for name, value in (plain | flat).items()}
        st.dataframe({"setting": list(shown), "value": list(shown.values())}, hide_index=True, height=330, width="stretch")
        if record:
            st.caption(f"Made by: {record['command']} · {timedelta(seconds=round(record['seconds']))} on {record['environment']['device']}")


def _next(folder: Path) -> str:
    return f"kneexray export {folder} --out bundle\nkneexray evaluate bundle --data {folder / RUN_DATA} --split val --out eval"
