"""Small pieces of HTML that the pages share. Every text is escaped; every picture stands in the page itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePath

import numpy as np

from kneexray.evaluation.inputs import EvaluationInput
from kneexray.pages.page import data_uri
from kneexray.render.knee_pictures import Album
from kneexray.tasks import get_task
from kneexray.types import Prediction
from kneexray.writers.html_knee import knee_card


@dataclass(frozen=True, slots=True)
class Tile:
    """A film in a grid: its pictures (PNG, JPEG or WebP; None for one that is not to be had), a heading, HTML below it, and its file."""

    pictures: Sequence[bytes | None]
    heading: str
    file: str
    below: str = ""


def grid(tiles: Iterable[Tile]) -> str:
    """Return films as a grid that fits the width there is."""
    return f'<div class="kx kx-grid">{"".join(map(_tile, tiles))}</div>'


def wide_grid(tiles: Iterable[Tile]) -> str:
    """Return the same for films of two pictures."""
    return f'<div class="kx kx-grid" style="--tile:19rem">{"".join(map(_tile, tiles))}</div>'


def single(tile: Tile) -> str:
    """Return one film as wide as the column that it stands in, without a frame."""
    return f'<div class="kx kx-single">{_tile(tile)}</div>'


def _tile(tile: Tile) -> str:
    name = PurePath(tile.file).name
    told = escape(f"{tile.heading}, {name}")
    films = "".join(
        f'<img alt="{told}" src="{data_uri(picture)}">' if picture else '<span class="none">no picture</span>' for picture in tile.pictures
    )
    caption = f'<b>{escape(tile.heading)}</b>{tile.below}<code title="{escape(tile.file)}">{escape(name)}</code>'
    return f'<figure><div class="films">{films}</div><figcaption>{caption}</figcaption></figure>'


def chances(inputs: EvaluationInput, row: int) -> str:
    """Return the probabilities of a row as bars: the truth in blue, the answer in orange."""
    values, truth = inputs.probabilities[row], int(inputs.target[row])
    answer = int(np.argmax(values))
    bars = "".join(
        f'<span class="{"truth" if place == truth else "answer" if place == answer else ""}">'
        f'<i><u style="height:{values[place]:.0%}"></u></i>{escape(label)}</span>'
        for place, label in enumerate(get_task(inputs.task).labels)
    )
    told = ", ".join(f"{label} {values[place]:.0%}" for place, label in enumerate(get_task(inputs.task).labels))
    return f'<div class="kx-chances" role="img" aria-label="{escape(told)}">{bars}</div>'


def said(inputs: EvaluationInput, row: int) -> str:
    """Return truth and answer of a row in words: ``True KL 2, answered KL 1 (57%)``."""
    task, values = get_task(inputs.task), inputs.probabilities[row]
    answer = int(np.argmax(values))
    return f"True {task.display(int(inputs.target[row]))}, answered {task.display(answer)} ({values[answer]:.0%})"


def knee(predictions: Sequence[Prediction], *, heat: float) -> str:
    """Return the card of a knee as the HTML report has it, the heatmap as strong as ``heat`` in [0, 1]."""
    return f'<div class="kx kx-knee" style="--heat:{heat:.2f}">{knee_card(predictions, album=Album())}</div>'


def lead(text: str) -> str:
    """Return what stands below a page's heading."""
    return f'<p class="kx-lead">{escape(text)}</p>'


def verdict(text: str) -> str:
    """Return what a page has to say, in larger letters."""
    return f'<p class="kx kx-verdict">{escape(text)}</p>'
