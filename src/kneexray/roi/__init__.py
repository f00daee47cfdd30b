"""From a film to its knees, or to the reason why there is none to grade."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kneexray.roi.gate import MINIMUM_PIXELS, crop_likeness, is_crop
from kneexray.types import Knee, Radiograph, Rejection, Side

Mode = Literal["auto", "whole"]
BLANK_RANGE = 0.02
"""An image whose central 98 % of grey values lie within this share of the full range shows nothing."""


def whole(radiograph: Radiograph, *, side: str | None = None, score: float = 1.0, warnings: tuple[str, ...] = ()) -> Knee:
    """Return the whole of ``radiograph`` as one knee. ``side`` ("L" or "R") defaults to the film's laterality; left knees are mirrored.

    The box is square, as tall and wide as the longer side, so that nothing is stretched.
    """
    height, width = radiograph.pixels.shape
    longer = max(height, width)
    x0, y0 = (width - longer) / 2, (height - longer) / 2
    known: Side | None = None
    for candidate in (side, radiograph.laterality):
        if candidate in ("L", "R"):
            known = "L" if candidate == "L" else "R"
            break
    box = (x0, y0, x0 + longer, y0 + longer)
    return Knee(radiograph=radiograph, box=box, side=known, mirrored=known == "L", score=score, warnings=warnings)


def find_knees(radiograph: Radiograph, *, mode: Mode = "auto") -> tuple[Knee, ...] | Rejection:
    """Return the knees on ``radiograph``, or the rejection that says why there is none.

    ``auto`` grades an image that looks like the crop of one AP knee and refuses every other. ``whole`` takes the
    caller's word that the image is such a crop: one that does not look so is graded with a warning, unless it is
    blank or too small.
    """
    height, width = radiograph.pixels.shape
    if min(height, width) < MINIMUM_PIXELS:
        return _reject(
            radiograph, "too_small", f"the image is {width} x {height} px; a knee needs at least {MINIMUM_PIXELS} px a side to be graded"
        )
    if _is_blank(radiograph):
        return _reject(radiograph, "blank", "the image holds (almost) one grey value only; check the export or the exposure")
    likeness = crop_likeness(radiograph.pixels)
    if is_crop(likeness):
        return (whole(radiograph, score=likeness),)
    if mode == "whole":
        return (
            whole(
                radiograph, score=likeness, warnings=("does not look like the crop of one AP knee; graded because --roi whole was asked",)
            ),
        )
    return _reject(
        radiograph,
        "not_a_knee",
        "the image does not look like the crop of one AP knee (condyles filling the width, joint line in the lower half); "
        "if it is one, ask for --roi whole; a whole film must be cropped to one knee first",
    )


def _is_blank(radiograph: Radiograph) -> bool:
    step_y, step_x = (max(1, length // 128) for length in radiograph.pixels.shape)
    low, high = np.percentile(radiograph.pixels[::step_y, ::step_x], (1, 99))
    return bool(high - low < BLANK_RANGE)


def _reject(radiograph: Radiograph, reason: str, detail: str) -> Rejection:
    return Rejection(source=radiograph.source, reason=reason, detail=detail, sop_instance_uid=radiograph.sop_instance_uid)
