"""From a film to its knees, or to the reason why there is none to grade."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from kneexray.roi.gate import MINIMUM_PIXELS, Verdict, judge
from kneexray.types import Knee, Radiograph, Rejection, Side

Mode = Literal["auto", "whole"]
BLANK_RANGE = 0.02
"""An image whose central 98 % of grey values lie within this share of the full range shows nothing."""
INVERTED = "the image was inverted (bone dark); it was turned back"
DOUBTFUL = "does not look like the crop of one AP knee; graded because --roi whole was asked"


def find_knees(radiograph: Radiograph, *, mode: Mode = "auto") -> tuple[Knee, ...] | Rejection:
    """Return the knees on ``radiograph``, or the rejection that says why there is none.

    ``auto`` grades an image that looks like the crop of one AP knee and refuses every other. ``whole`` takes the
    caller's word that the image is such a crop: one that does not look so is graded with a warning, unless it is
    blank or too small.
    """
    height, width = radiograph.pixels.shape
    if min(height, width) < MINIMUM_PIXELS:
        detail = f"the image is {width} x {height} px; a knee needs at least {MINIMUM_PIXELS} px a side to be graded"
        return _reject(radiograph, "too_small", detail)
    if _is_blank(radiograph):
        return _reject(radiograph, "blank", "the image holds (almost) one grey value only; check the export or the exposure")
    verdict = judge(radiograph.pixels)
    if verdict.is_crop or mode == "whole":
        return (whole_knee(radiograph, verdict=verdict),)
    if verdict.upside_down and verdict.likeness > 0.2:
        return _reject(radiograph, "not_a_knee", "the image looks like a knee upside down; turn it by 180 degrees")
    return _reject(
        radiograph,
        "not_a_knee",
        "the image does not look like the crop of one AP knee (condyles filling the width, joint line in the lower half); "
        "if it is one, ask for --roi whole; a whole film must be cropped to one knee first",
    )


def whole_knee(radiograph: Radiograph, *, side: str | None = None, verdict: Verdict | None = None) -> Knee:
    """Return the whole of ``radiograph`` as one knee, turned back where it is inverted. Training and prediction both do this.

    ``side`` ("L" or "R") defaults to the film's laterality; left knees are mirrored. The box is square, as tall and wide as
    the longer side, so that nothing is stretched.
    """
    verdict = verdict or judge(radiograph.pixels)
    warnings: tuple[str, ...] = () if verdict.is_crop else (DOUBTFUL,)
    if verdict.inverted and verdict.is_crop:
        radiograph, warnings = replace(radiograph, pixels=1 - radiograph.pixels), (INVERTED,)
    height, width = radiograph.pixels.shape
    longer = max(height, width)
    x0, y0 = (width - longer) / 2, (height - longer) / 2
    known = _side(side) or _side(radiograph.laterality)
    return Knee(
        radiograph=radiograph,
        box=(x0, y0, x0 + longer, y0 + longer),
        side=known,
        mirrored=known == "L",
        score=verdict.likeness,
        warnings=warnings,
    )


def _side(text: str | None) -> Side | None:
    return "L" if text == "L" else "R" if text == "R" else None


def _is_blank(radiograph: Radiograph) -> bool:
    step_y, step_x = (max(1, length // 128) for length in radiograph.pixels.shape)
    low, high = np.percentile(radiograph.pixels[::step_y, ::step_x], (1, 99))
    return bool(high - low < BLANK_RANGE)


def _reject(radiograph: Radiograph, reason: str, detail: str) -> Rejection:
    return Rejection(source=radiograph.source, reason=reason, detail=detail, sop_instance_uid=radiograph.sop_instance_uid)
