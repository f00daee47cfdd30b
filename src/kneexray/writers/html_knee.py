"""One knee as a card of the HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from kneexray.render import wording
from kneexray.render.film import joint_lines
from kneexray.render.knee_pictures import SIZE, Album, data_uri, knee_jpeg, layer_png
from kneexray.render.reading import english, reading_of
from kneexray.tasks import FEATURES
from kneexray.types import Knee, Prediction
from kneexray.writers.base import all_warnings

STEPS = 5
"""Colours of grades in the style sheet, ``g0`` (low) to ``g4``."""


def step(grade: int, grades: int) -> int:
    """Return the colour of a grade among ``grades``: the ends of the scale have the ends of the colours."""
    return round(grade * (STEPS - 1) / (grades - 1)) if grades > 1 else 0


def knee_card(predictions: Sequence[Prediction], *, album: Album) -> str:
    """Return the card of one knee: its picture, and what each task says of it. Every text is escaped."""
    first = predictions[0]
    side = wording.SIDES[first.knee.side]
    bone = data_uri(knee_jpeg(album.crop(first.knee)), kind="jpeg")
    asked = {prediction.task for prediction in predictions}
    pictured = next((prediction for prediction in predictions if prediction.heatmap is not None), first)
    readings = _picture(pictured, bone=bone, side=side)
    readings += "".join(_reading(prediction, asked=asked) for prediction in predictions if prediction.task not in FEATURES)
    readings += _structured(predictions)
    readings += _lengths(first.knee)
    warnings = list(dict.fromkeys(warning for prediction in predictions for warning in all_warnings(prediction)))
    notes = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return (
        f'<article class="knee" data-label="{escape(wording.display(first, first.grade))}" data-grade="{first.grade}"'
        f' data-sure="{first.probabilities.max():.4f}" data-warned="{int(bool(warnings))}">\n'
        f'<header><span class="side">{side}</span> <bdi class="name">{escape(first.source)}</bdi></header>\n'
        f"{readings}" + (f'<ul class="notes">{notes}</ul>\n' if notes else "") + "</article>\n"
    )


def _picture(prediction: Prediction, *, bone: str, side: str) -> str:
    heat, what = "", f"{side}: the radiograph"
    if prediction.heatmap is not None:
        heat = f'<img class="heat" alt="" src="{data_uri(layer_png(prediction.heatmap), kind="png")}">'
        what += f", with the regions that raised the score of {wording.display(prediction, prediction.grade)}"
    return f'<figure><img class="bone" alt="{escape(what)}" src="{bone}">{heat}{_joint(prediction.knee)}</figure>\n'


def _structured(predictions: Sequence[Prediction]) -> str:
    """Return the knee's reading: the table by compartment, findings and impression, and a button that copies them."""
    reading = reading_of(predictions)
    if reading is None:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(english(row.key))}</th>{_cell(row.medial)}{_cell(row.lateral)}</tr>' for row in reading.rows
    )
    text = [("findings", reading.findings()), ("impression", reading.impression())]
    said = "".join(f"<h4>{english(key)}</h4><p>{escape(' '.join(lines))}</p>" for key, lines in text)
    return (
        '<section class="reading structured"><table class="features"><thead><tr><td></td><th scope="col">Medial</th>'
        f'<th scope="col">Lateral</th></tr></thead><tbody>{rows}</tbody></table>\n'
        f'<div class="said">{said}</div><button type="button" class="copy">Copy text</button></section>\n'
    )


def _cell(prediction: Prediction | None) -> str:
    if prediction is None:
        return "<td></td>"
    share = wording.percent(float(1 - prediction.probabilities[0]))
    return (
        f'<td class="f{prediction.grade}" title="grade {escape(prediction.label)}; probability of the finding {share}">'
        f"<b>{escape(prediction.label)}</b> <small>{share}</small></td>"
    )


def _joint(knee: Knee) -> str:
    """Return the margins of the joint space, and the lines that its widths were taken on, as a drawing over the picture of the knee."""
    drawn = "".join(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>' for points in joint_lines(knee, size=SIZE))
    return f'<svg class="joint" viewBox="0 0 {SIZE} {SIZE}" aria-hidden="true">{drawn}</svg>' if drawn else ""


def _lengths(knee: Knee) -> str:
    rows = [(name.removeprefix(f"{wording.LENGTH}, ").capitalize(), value) for name, value in wording.lengths(knee)]
    note = wording.plane(knee)
    if not rows:
        return ""
    return (
        f'<section class="reading"><p class="task">{wording.LENGTH}</p>\n{_facts(rows)}'
        + (f'<p class="plane">{escape(note)}</p>' if note else "")
        + "</section>\n"
    )


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    return '<dl class="facts">' + "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows) + "</dl>"


def _reading(prediction: Prediction, *, asked: set[str]) -> str:
    meaning = wording.meaning(prediction)
    rows = "".join(_bar(prediction, grade, float(probability)) for grade, probability in enumerate(prediction.probabilities))
    facts = [(f"{prediction.coverage * 100:g} % prediction set", wording.set_in_words(prediction))]
    facts += [(wording.title(name), wording.percent(probability)) for name, probability in wording.derived(prediction) if name not in asked]
    facts += wording.grade_changed(prediction)
    return (
        f'<section class="reading"><p class="task">{escape(wording.title(prediction.task))}</p>\n'
        f"<h3>{escape(wording.display(prediction, prediction.grade))}</h3>"
        + (f'<p class="meaning">{escape(meaning)}</p>' if meaning else "")
        + f'\n<table class="bars"><tbody>{rows}</tbody></table>\n{_facts(facts)}</section>\n'
    )


def _bar(prediction: Prediction, grade: int, probability: float) -> str:
    was = f'<td class="was">was {wording.percent(float(prediction.earlier[grade]))}</td>' if prediction.earlier is not None else ""
    kinds = ["top"] * (grade == prediction.grade) + ["in"] * (grade in prediction.prediction_set)
    return (
        f'<tr class="{" ".join(kinds)}"><th scope="row">{escape(wording.display(prediction, grade))}</th>'
        f'<td class="bar"><i class="g{step(grade, len(prediction.labels))}" style="width:{probability * 100:.1f}%"></i></td>'
        f"<td>{wording.percent(probability)}</td>{was}</tr>"
    )
