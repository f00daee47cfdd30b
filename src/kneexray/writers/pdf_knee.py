"""The page of one knee in the PDF report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from reportlab.lib.colors import Color

from kneexray.render import wording
from kneexray.render.film import draw_boxes, draw_joint, fills_film, film_picture
from kneexray.render.heatmap import colours, crop_for_display, overlay
from kneexray.render.reading import english, reading_of
from kneexray.tasks import FEATURES
from kneexray.types import Knee, Prediction
from kneexray.writers.base import all_warnings
from kneexray.writers.html_knee import step
from kneexray.writers.pdf_pen import (
    GRADES,
    GROOVE,
    INK,
    LEADING,
    LINE,
    MARGIN,
    NOTE,
    NOTE_LINE,
    QUIET,
    RIGHT,
    Pen,
    fitted,
    width_of,
    wrapped,
)

_PIXELS = 520  # of the longer side of a picture: 230 dots an inch
_GAP = 14.0
_WARNING_LINES = 16  # that a page has room for
_HOW_TO_READ = (
    "The line beside the grades spans the prediction set: sets made this way hold the reference grade as often as their coverage "
    "says, on films like those the model was calibrated on.",
    "The heatmap shows what raised the score of the grade given, from a little (purple) to most (yellow). It is no outline of disease.",
)
_EARLIER = "A stroke across a bar is the probability on the earlier film. Noise is that of two films of a knee that did not change."


def knee_page(pen: Pen, predictions: Sequence[Prediction], *, knees_of_film: Sequence[Knee]) -> None:
    """Draw the page of one knee: what every task says of it, and its place among ``knees_of_film``."""
    knee = predictions[0].knee
    pen.text(MARGIN, 84, wording.SIDES[knee.side], size=24, bold=True)
    pen.text(MARGIN, 101, fitted(predictions[0].source, width=RIGHT - MARGIN, size=9), size=9, colour=QUIET)
    below = _pictures(pen, predictions, knees_of_film=knees_of_film) + 22
    width = (RIGHT - MARGIN - 2 * _GAP) / 2
    columns: list[float] = [below, below]
    asked = {prediction.task for prediction in predictions}
    for prediction in predictions:
        if prediction.task in FEATURES:
            continue
        n = columns.index(min(columns))
        columns[n] = _reading(pen, MARGIN + n * (width + 2 * _GAP), columns[n], prediction, width=width, asked=asked) + 20
    for draw in (_structured, _measurements, _warnings, _key):
        n = columns.index(min(columns))
        columns[n] = draw(pen, MARGIN + n * (width + 2 * _GAP), columns[n], predictions, width)


def _pictures(pen: Pen, predictions: Sequence[Prediction], *, knees_of_film: Sequence[Knee]) -> float:
    """Draw film, knee and heatmap side by side, those that there are; return the y of their lower end."""
    knee = predictions[0].knee
    crop = crop_for_display(knee, size=_PIXELS)
    panels = [(_jpeg(_with_joint(crop, knee)), "The knee" if knee.joint_space is None else "The knee and its joint space")]
    if not fills_film(knee):
        panels.insert(0, (_film(knee, knees_of_film), "The film; this knee has the bold box" if len(knees_of_film) > 1 else "The film"))
    hot = next((prediction for prediction in predictions if prediction.heatmap is not None), None)
    if hot is not None and hot.heatmap is not None:
        panels.append((_jpeg(overlay(crop, hot.heatmap)), f"What raised the score of {wording.display(hot, hot.grade)}"))
    gap = _GAP if len(panels) > 2 else 2 * _GAP
    side = (RIGHT - MARGIN - gap * max(len(panels) - 1, 1)) / max(len(panels), 2)
    top = 116.0
    for number, (jpeg, caption) in enumerate(panels):
        x = MARGIN + number * (side + gap)
        pen.picture(x, top, jpeg, side=side)
        pen.text(x, top + side + 13, caption, size=8, colour=QUIET)
    if hot is not None:
        _scale(pen, MARGIN + (len(panels) - 1) * (side + gap) + side - 48, top + side + 6)
    return top + side + 16


def _film(knee: Knee, knees: Sequence[Knee]) -> bytes:
    film = film_picture(knee.radiograph, size=_PIXELS)
    image = Image.fromarray(film).convert("RGB")
    scale = _PIXELS / max(knee.radiograph.pixels.shape)
    draw_boxes(image, knees, scale=scale, stroke=1)
    draw_boxes(image, [knee], scale=scale, stroke=4)
    return _jpeg(np.asarray(image))


def _with_joint(crop: NDArray[np.uint8], knee: Knee) -> NDArray[np.uint8]:
    image = Image.fromarray(crop).convert("RGB")
    draw_joint(image, knee, size=_PIXELS, stroke=2)
    return np.asarray(image)


def _scale(pen: Pen, x: float, y: float) -> None:
    for n, level in enumerate(range(0, 256, 17)):
        red, green, blue = colours()[level] / 255
        pen.box(x + n * 3, y, 3.2, 7, Color(red, green, blue))


def _reading(pen: Pen, x: float, y: float, prediction: Prediction, *, width: float, asked: set[str]) -> float:
    """Draw what one task says; return the y of its lower end."""
    pen.text(x, y + 9, wording.title(prediction.task), size=8.5, colour=QUIET)
    pen.text(x, y + 33, wording.display(prediction, prediction.grade), size=21, bold=True)
    y = pen.paragraph(x, y + 39, wording.meaning(prediction), width=width, size=9) + 8
    label = max(width_of(wording.display(prediction, grade), size=9, bold=True) for grade in range(len(prediction.labels)))
    left, right = x + label + 12, x + width - 34
    for grade, probability in enumerate(prediction.probabilities):
        top = grade == prediction.grade
        pen.text(x, y + 9, wording.display(prediction, grade), bold=top)
        if grade in prediction.prediction_set:
            pen.box(left - 7, y - 0.5, 2.2, 14.2, INK)
        pen.box(left, y + 2, right - left, 8.5, GROOVE)
        pen.box(left, y + 2, max((right - left) * float(probability), 0.8), 8.5, GRADES[step(grade, len(prediction.labels))])
        if prediction.earlier is not None:
            pen.box(left + (right - left) * float(prediction.earlier[grade]) - 0.7, y + 0.5, 1.4, 11.5, INK)
        pen.text(x + width, y + 9, wording.percent(float(probability)), bold=top, right=True)
        y += 13.7
    facts = [(f"{prediction.coverage * 100:g} % prediction set", wording.set_in_words(prediction))]
    facts += [(wording.title(name), wording.percent(probability)) for name, probability in wording.derived(prediction) if name not in asked]
    facts += wording.grade_changed(prediction)
    return _facts(pen, x, y + 6, facts, width=width)


def _facts(pen: Pen, x: float, y: float, facts: Sequence[tuple[str, str]], *, width: float) -> float:
    for name, value in facts:
        pen.rule(y, x=x, right=x + width)
        pen.text(x, y + 12, name, size=8.5, colour=QUIET)
        pen.text(x + width, y + 12, value, size=8.5, bold=True, right=True)
        y += 17
    return y


def _structured(pen: Pen, x: float, y: float, predictions: Sequence[Prediction], width: float) -> float:
    """Draw the reading: the table by compartment, findings and impression; return the y of their lower end."""
    reading = reading_of(predictions)
    if reading is None:
        return y
    medial, lateral = x + width * 0.62, x + width
    pen.text(medial, y + 9, "Medial", size=8.5, colour=QUIET, right=True)
    pen.text(lateral, y + 9, "Lateral", size=8.5, colour=QUIET, right=True)
    y += 14
    for row in reading.rows:
        pen.rule(y, x=x, right=x + width)
        pen.text(x, y + 11, english(row.key), size=8.5, colour=QUIET)
        for right, prediction in ((medial, row.medial), (lateral, row.lateral)):
            if prediction is not None:
                share = wording.percent(float(1 - prediction.probabilities[0]))
                pen.text(right, y + 11, f"{prediction.label} ({share})", size=8.5, bold=prediction.grade > 0, right=True)
        y += 15
    for key, lines in (("findings", reading.findings()), ("impression", reading.impression())):
        pen.text(x, y + 12, english(key), size=8.5, bold=True)
        y = pen.paragraph(x, y + 15, " ".join(lines), width=width, size=8.5) + 2
    return y + 18


def _measurements(pen: Pen, x: float, y: float, predictions: Sequence[Prediction], width: float) -> float:
    knee = predictions[0].knee
    if not knee.measurements:
        return y
    pen.text(x, y + 9, "Measurements", size=8.5, colour=QUIET)
    y = _facts(pen, x, y + 15, wording.lengths(knee), width=width)
    return pen.paragraph(x, y, wording.plane(knee), width=width, size=7.5, colour=QUIET) + 20


def _warnings(pen: Pen, x: float, y: float, predictions: Sequence[Prediction], width: float) -> float:
    warnings = dict.fromkeys(warning for prediction in predictions for warning in all_warnings(prediction))
    if not warnings:
        return y
    blocks = [wrapped(warning, width=width - 22, size=8.5) for warning in warnings]
    fit = sum(lines <= _WARNING_LINES for lines in accumulate(map(len, blocks)))
    if fit < len(blocks):
        blocks[fit:] = [[f"and {len(blocks) - fit} more, which predictions.json lists"]]
    line_height, gap = 8.5 * LEADING, 4.0
    height = sum(len(block) * line_height + gap for block in blocks) + 10
    pen.box(x, y, width, height, NOTE)
    pen.box(x, y, 2.5, height, NOTE_LINE)
    end, y = y + height + 20, y + 5
    for block in blocks:
        for line in block:
            y += line_height
            pen.text(x + 12, y - 2, line, size=8.5)
        y += gap
    return end


def _key(pen: Pen, x: float, y: float, predictions: Sequence[Prediction], width: float) -> float:
    pen.rule(y, x=x, right=x + width, colour=LINE)
    y += 4
    earlier = (_EARLIER,) * any(prediction.earlier is not None for prediction in predictions)
    for text in (*_HOW_TO_READ, *earlier):
        y = pen.paragraph(x, y, text, width=width, size=7.5, colour=QUIET) + 3
    return y


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=85)
    return data.getvalue()
