"""What the pages share while Streamlit runs them: the folders that were given, and whatever is costly, made once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from kneexray.datasets import manifest as manifests
from kneexray.datasets.manifest import Manifest
from kneexray.evaluation.answers import Pictures
from kneexray.evaluation.compare import compare
from kneexray.inference.bundle import default_tasks, read_card, shipped_models
from kneexray.pages.page import Section
from kneexray.predict import Predictor
from kneexray.read import read_bytes, read_file
from kneexray.render.film import film_picture
from kneexray.render.knee_pictures import knee_jpeg
from kneexray.roi import Mode
from kneexray.types import FilmResult, Study
from kneexray.workbench import evaluations, fragments, thresholds
from kneexray.workbench.decisions import FILE
from kneexray.workbench.evaluations import Evaluation
from kneexray.workbench.palette import palette
from kneexray.workbench.places import Places, find
from kneexray.workbench.thresholds import Operating

THUMBNAIL, LARGE = 256, 720
"""Longer side of a film in a grid, and of one to be read, in pixels."""
_ADDED = "added"


def given() -> tuple[Path, list[Path]]:
    """Return the folder for what is written, and the paths that the workbench was started with or opened since."""
    out, *paths = map(Path, sys.argv[1:])
    return out, [*paths, *st.session_state.get(_ADDED, [])]


def open_place(text: str) -> None:
    """Take another path into this session; raises :class:`~kneexray.errors.DataError` for one that is of no use."""
    path = Path(text).expanduser()
    find([path])
    st.session_state[_ADDED] = list(dict.fromkeys([*st.session_state.get(_ADDED, []), path]))


def places() -> Places:
    """Return what lies in the paths given."""
    return _places(tuple(given()[1]))


@st.cache_data(ttl=15, show_spinner=False)
def _places(paths: tuple[Path, ...]) -> Places:
    return find(paths)


def decisions_file() -> Path:
    """Return where readers' decisions are kept."""
    return given()[0] / FILE


def colours() -> Any:
    """Return the palette of the scheme that the reader sees."""
    return palette("dark" if st.context.theme.type == "dark" else "light")


def heading(title: str, lead: str) -> None:
    """Show the top of a page."""
    st.title(title, anchor=False)
    st.html(fragments.lead(lead))


def folder_name(path: Path) -> str:
    """Return what a list of folders calls one of them: its end."""
    return "/".join(path.resolve().parts[-2:])


def choose(label: str, folders: Sequence[Path], *, key: str, index: int = 0) -> Path | None:
    """Let the reader choose one of ``folders``; None where there is none."""
    return st.selectbox(label, folders, index=min(index, len(folders) - 1) if folders else None, format_func=folder_name, key=key)


def nothing(what: str, command: str) -> None:
    """Say that a page has nothing to show, and how to make some."""
    with st.container(border=True, key="card-empty"):
        st.markdown(f"**No {what} here yet.** Make one, and open its folder at the left, or start `kneexray workbench FOLDER`:")
        st.code(command, language="shell")


def evaluation(folder: Path) -> Evaluation:
    """Return an evaluation, read once a version of its answers."""
    return _evaluation(folder, evaluations.version_of(folder))


@st.cache_resource(max_entries=8, show_spinner="Reading the answers …")
def _evaluation(folder: Path, version: int) -> Evaluation:
    return evaluations.open_evaluation(folder)


def _key(found: Evaluation) -> tuple[str, int]:
    return str(found.folder), found.version


@st.cache_resource(max_entries=8, show_spinner="Drawing resamples of the patients …", hash_funcs={Evaluation: _key})
def operating_points(found: Evaluation) -> list[Operating]:
    """Return sensitivity and specificity of an evaluation at every threshold."""
    return thresholds.operating_points(found.inputs)


@st.cache_resource(max_entries=8, show_spinner="Drawing resamples of the patients …", hash_funcs={Evaluation: _key})
def comparison(a: Evaluation, b: Evaluation) -> dict[str, Any]:
    """Return the comparison of two evaluations."""
    return compare(a.inputs, b.inputs)


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs={Evaluation: _key})
def report_sections(found: Evaluation) -> list[Section]:
    """Return the sections of an evaluation's report: subgroups, calibration, prediction sets."""
    from kneexray.evaluation.report.parts import own_sections

    return own_sections(found.metrics)


def manifest(path: Path, task: str) -> Manifest:
    """Return a manifest, or what a folder of classes implies."""
    return _manifest(path, task, path.stat().st_mtime_ns)


@st.cache_resource(max_entries=4, show_spinner="Reading the labels …")
def _manifest(path: Path, task: str, version: int) -> Manifest:
    return manifests.load(path, task=task)


@st.cache_resource(max_entries=4, show_spinner="Opening the model …")
def predictor(bundle: Path | None, coverage: float) -> Predictor:
    """Return what grades films: the shipped models, or a bundle in the place of its task's."""
    tasks = [*default_tasks()] if bundle is None else list(dict.fromkeys([*default_tasks(), read_card(bundle).task]))
    return Predictor(tasks=tasks, models=[] if bundle is None else [bundle], coverage=coverage)


@st.cache_resource(max_entries=48, show_spinner=False, scope="session")
def graded(bundle: Path | None, coverage: float, data: bytes, name: str) -> tuple[Study, FilmResult]:
    """Return the film that ``data`` holds and what is said about it; forgotten with the browser's tab."""
    study = read_bytes(data, source=name)
    return study, predictor(bundle, coverage).predict_study(study)


@st.cache_data(max_entries=2000, show_spinner=False)
def film(path: Path, size: int) -> bytes | None:
    """Return the (first) film in a file as JPEG, None where it cannot be read."""
    found = read_file(path).radiographs
    return knee_jpeg(film_picture(found[0], size=size)) if found else None


def pictures(found: Evaluation) -> Pictures | None:
    """Return what draws the heatmaps of an evaluation: the very model that was evaluated, None where it is not at hand."""
    bundles = [*shipped_models(), *places().bundles]
    bundle = evaluations.bundle_of(found.inputs.model_id, bundles)
    if bundle is None:
        return None
    grader = _grader(bundle, found.inputs.task, evaluations.roi_of(found.inputs))
    return Pictures(grader, evaluations.films_of(found.inputs, places().roots))


@st.cache_resource(max_entries=2, show_spinner="Opening the model …")
def _grader(bundle: Path, task: str, roi_mode: Mode) -> Predictor:
    return Predictor(tasks=[task], models=[bundle], roi_mode=roi_mode)


@st.cache_data(max_entries=400, show_spinner="Drawing heatmaps …", hash_funcs={Evaluation: _key})
def heatmap(file: str, found: Evaluation, _pictures: Pictures) -> bytes | None:
    """Return the knee in a file of an evaluation under its heatmap, None where no knee is found again."""
    return _pictures.heatmap(file)
