"""What Streamlit runs: ``app.py OUT [PATH...]``; see :mod:`kneexray.workbench.launch`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import streamlit as st

from kneexray.errors import KneeXRayError
from kneexray.workbench import state
from kneexray.workbench.palette import style
from kneexray.workbench.views import compare, evaluations, findings, predict, reading, runs
from kneexray.writers.base import DISCLAIMER

_ICON = Path(str(resources.files("kneexray"))) / "web" / "static" / "img" / "icon.svg"


def _open_another() -> None:
    text = st.session_state["place"].strip()
    if text:
        try:
            state.open_place(text)
        except KneeXRayError as error:
            st.session_state["place-error"] = str(error)
        else:
            st.session_state["place-error"], st.session_state["place"] = "", ""


def _sidebar() -> None:
    with st.sidebar:
        st.text_input("Open another folder", key="place", placeholder="path of a run, evaluation, audit, films", on_change=_open_another)
        if message := st.session_state.get("place-error"):
            st.error(message)
        st.caption(DISCLAIMER)


def main() -> None:
    """Show the page that was chosen; what goes wrong on purpose is a sentence on it."""
    st.set_page_config(page_title="KneeXRay workbench", page_icon=str(_ICON), layout="wide")
    st.logo(str(_ICON), size="large")
    st.html(f"<style>{style()}</style>")
    page = st.navigation(
        {
            "Films": [st.Page(predict.show, title="Predict", icon=":material/radiology:", url_path="predict", default=True)],
            "Models": [
                st.Page(runs.show, title="Training runs", icon=":material/show_chart:", url_path="runs"),
                st.Page(evaluations.show, title="Evaluations", icon=":material/grid_on:", url_path="evaluations"),
                st.Page(compare.show, title="Compare", icon=":material/balance:", url_path="compare"),
            ],
            "Data": [
                st.Page(findings.show, title="Audit findings", icon=":material/difference:", url_path="findings"),
                st.Page(reading.show, title="Reading queue", icon=":material/visibility:", url_path="reading"),
            ],
        }
    )
    _sidebar()
    try:
        page.run()
    except KneeXRayError as error:
        st.error(str(error))


main()
