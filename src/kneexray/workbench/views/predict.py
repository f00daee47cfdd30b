"""Upload films and see what is said about them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from kneexray.inference.bundle import SHIPPED, read_card
from kneexray.read import DEFAULT_LIMITS, Source
from kneexray.read.archives import Budget, members
from kneexray.read.sniff import ARCHIVES, SNIFF_BYTES, sniff
from kneexray.render.film import draw_boxes, draw_joint, film_picture, heated, scaled
from kneexray.render.wording import SIDES, display
from kneexray.synthetic import draw_knee
from kneexray.tasks import TASKS
from kneexray.types import REASONS, FilmResult, Radiograph, Study
from kneexray.workbench import fragments, state

_SIZE = 900
_MOST_MB = 256


def show() -> None:
    """Show the page."""
    state.heading(
        "Predict", "Films stay in this tab's memory and are forgotten when it is closed. Nothing is written, nothing leaves this machine."
    )
    films, options = st.columns((3, 2), gap="medium")
    with films:
        uploads = st.file_uploader(
            "Films: DICOM, PNG, JPEG, TIFF, WebP, BMP, or a ZIP of them", accept_multiple_files=True, key="films", max_upload_size=_MOST_MB
        )
    with options:
        bundle = _model()
        coverage = st.select_slider(
            "Prediction set holds the true grade in",
            (0.8, 0.85, 0.9, 0.95, 0.98),
            value=0.9,
            format_func=lambda share: f"{share:.0%} of cases",
            key="coverage",
        )
    given = [source for upload in uploads for source in _opened(upload.name, upload.getvalue())] or list(_sample())
    if not given:
        return
    source = given[0]
    if len(given) > 1:
        place = st.selectbox("Film", range(len(given)), format_func=lambda i: f"{i + 1} of {len(given)}: {given[i].name}", key="film")
        source = given[place or 0]
    with st.spinner("Grading …"):
        study, result = state.graded(bundle, coverage, source.load(), source.name)
    _film(study, result)


def _model() -> Path | None:
    """Return the bundle to grade with, None for the models that ship."""
    shipped = f"ships with KneeXRay ({', '.join(TASKS[task].title for task in SHIPPED)})"
    choices: list[str | Path] = [shipped, *state.places().bundles]
    names = {bundle: read_card(bundle).model_id for bundle in state.places().bundles}
    chosen = st.selectbox("Model", choices, format_func=lambda choice: names.get(choice, shipped), key="model")
    return chosen if isinstance(chosen, Path) else None


def _opened(name: str, data: bytes) -> Iterator[Source]:
    """Yield the film, or those of an archive."""
    kind = sniff(data[:SNIFF_BYTES])
    if kind not in ARCHIVES:
        yield Source(name, lambda: data, DEFAULT_LIMITS)
        return
    yield from members(io.BytesIO(data), kind, name=name, limits=DEFAULT_LIMITS, budget=Budget(len(data), DEFAULT_LIMITS))


def _sample() -> Iterator[Source]:
    """Offer a drawn knee to people with no film at hand."""
    names = [f"KL {grade}, {meaning.partition(':')[0]}" for grade, meaning in enumerate(TASKS["kl"].meanings)]
    grade = st.pills("No film at hand? A drawn knee, no patient's", range(len(names)), format_func=names.__getitem__, key="sample")
    if grade is not None:
        data = io.BytesIO()
        Image.fromarray((draw_knee(grade, size=448) * 255).round().astype(np.uint8)).save(data, "PNG")
        yield Source(f"synthetic-kl-{grade}.png", data.getvalue, DEFAULT_LIMITS)


def _film(study: Study, result: FilmResult) -> None:
    knees = result.by_knee()
    left, right = st.columns((5, 6), gap="medium")
    with left, st.container(border=True, key="card-film"):
        frames = [r for r in study.radiographs if any(knee.radiograph is r for knee in knees)] or list(study.radiographs)
        heat = 0.0
        if any(p.heatmap is not None for p in result.predictions):
            heat = (
                st.slider("Heatmap", 0, 100, 60, 5, format="%d %%", key="heat", help="Where the network found what speaks for its answer.")
                / 100
            )
        for radiograph in frames[:4]:
            st.image(_drawn(radiograph, result, heat=heat), width="stretch", alt=_told(result))
        st.caption(_facts(study))
    with right:
        for number, predictions in enumerate(knees.values()):
            with st.container(border=True, key=f"card-knee-{number}"):
                st.html(fragments.knee(predictions, heat=heat))
        for number, rejection in enumerate(result.rejections):
            with st.container(border=True, key=f"card-refused-{number}"):
                st.markdown(f"#### Not graded: {REASONS[rejection.reason]}")
                st.text(rejection.detail)


def _drawn(radiograph: Radiograph, result: FilmResult, *, heat: float) -> NDArray[np.uint8]:
    """Return the film with heatmaps, boxes and joint spaces, (H, W, 3) RGB."""
    size = min(_SIZE, max(radiograph.pixels.shape))
    scale = size / max(radiograph.pixels.shape)
    mine = [p for p in result.predictions if p.knee.radiograph is radiograph]
    film = film_picture(radiograph, size=size)
    image = Image.fromarray(heated(film, mine, scale=scale, alpha=heat))
    knees = list(FilmResult(result.source, tuple(mine)).by_knee())
    draw_boxes(image, knees, scale=scale, stroke=3)
    for knee in knees:
        x0, y0, x1, _ = scaled(knee, scale=scale)
        draw_joint(image, knee, at=(x0, y0), size=round(x1 - x0))
    return np.asarray(image)


def _told(result: FilmResult) -> str:
    answers = [f"{SIDES[p.knee.side]}: {display(p, p.grade)}" for p in result.predictions]
    return "Film. " + (". ".join(answers) or "No knee was graded.")


def _facts(study: Study) -> str:
    """Return what is known of the first film: its name and size, never what a DICOM file says of its patient."""
    if not study.radiographs:
        return study.source
    film = study.radiographs[0]
    height, width = film.pixels.shape
    spacing = f" · {film.pixel_spacing[1]:.3f} mm a pixel ({film.pixel_spacing_source})" if film.pixel_spacing else ""
    return f"{study.source} · {width} x {height} pixels{spacing}"
