"""From a film to its knees, and to the reasons why some of them, or all, are not to be graded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kneexray.geometry import resample
from kneexray.roi.gate import MINIMUM_PIXELS, Verdict, judge
from kneexray.roi.localiser import Joint, find_joints
from kneexray.roi.markers import Marker, find_markers
from kneexray.roi.quality import NOISE_WARNING, NOISY, noise, noise_objection, objection
from kneexray.roi.resolution import SOFT_WARNING, Detail, detail, is_soft, resolution_objection
from kneexray.roi.search import SURE_IN_PART, Looked, look, surroundings
from kneexray.roi.sides import Told, contradiction, is_mirrored, sides_of, stated
from kneexray.roi.views import view_objection
from kneexray.types import Knee, Radiograph, Rejection, Side

Mode = Literal["auto", "whole"]
BLANK_RANGE = 0.02
"""An image whose central 98 % of grey values lie within this share of the full range shows nothing."""
CERTAIN = 0.7
"""How much an image must look like a crop to be taken as one unasked: Chen validation crops all do, films of twice their width do not."""
TURNED_SCORE = 0.5
"""How sure the localiser must be of a joint on the turned film to say that the film lies wrong."""
MOST_KNEES = 2
INVERTED = "the image was inverted (bone dark); it was turned back"
DOUBTFUL = "does not look like the crop of one AP knee; graded because --roi whole was asked"


@dataclass(frozen=True, slots=True)
class Found:
    """What a film holds: its knees from left to right, and a rejection for each knee, or for the film, that is not to be graded."""

    knees: tuple[Knee, ...] = ()
    rejections: tuple[Rejection, ...] = ()


def find_knees(radiograph: Radiograph, *, mode: Mode = "auto") -> Found:
    """Return the knees on ``radiograph``, and why others are not to be graded.

    ``auto`` takes an image that is clearly the crop of one AP knee as it is, and looks for the joints on every other. ``whole`` takes
    the caller's word that the image is such a crop: one that does not look so is graded with a warning, unless it is blank or too
    small.
    """
    height, width = radiograph.pixels.shape
    if min(height, width) < MINIMUM_PIXELS:
        detail = f"the image is {width} x {height} px; a knee needs at least {MINIMUM_PIXELS} px a side to be graded"
        return _refused(radiograph, "too_small", detail)
    if _is_blank(radiograph):
        return _refused(radiograph, "blank", "the image holds (almost) one grey value only; check the export or the exposure")
    if radiograph.photograph and mode == "auto":
        return _refused(radiograph, "photograph", "a camera took this image; give the file of the X-ray system, or ask for --roi whole")
    if (why := view_objection(radiograph)) is not None:
        but = "; the picture looks frontal, and one of the two is wrong" if _looks_frontal(radiograph) else ""
        return _refused(radiograph, why[0], why[1] + but)
    verdict = judge(radiograph.pixels)
    if mode == "whole" or (verdict.is_crop and verdict.likeness >= CERTAIN):
        return _crop(radiograph, verdict, mode)
    looked = look(radiograph.pixels)
    return _knees(radiograph, looked) if looked.joints else _none(radiograph, looked.doubtful)


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
    if not side and (contradictory := contradiction(radiograph)) is not None:
        warnings = (*warnings, contradictory)
    return Knee(
        radiograph=radiograph,
        box=(x0, y0, x0 + longer, y0 + longer),
        side=known,
        mirrored=is_mirrored(known, radiograph),
        score=verdict.likeness,
        warnings=warnings,
        side_sources=tuple(replace(source, used=source.source != "PatientOrientation" and not side) for source in stated(radiograph)),
    )


def _crop(radiograph: Radiograph, verdict: Verdict, mode: Mode) -> Found:
    """Return the whole of ``radiograph`` as a knee, or the refusal of one that is lost in noise unless asked for."""
    knee = whole_knee(radiograph, verdict=verdict)
    level, fine = noise(knee.radiograph.pixels, knee.box), detail(knee.radiograph.pixels, knee.box)
    why = noise_objection(level) or resolution_objection(fine)
    if why and mode == "auto":
        return _refused(radiograph, *why)
    return Found(knees=(replace(knee, warnings=(*knee.warnings, *_picture_warnings(level, fine))),))


def _picture_warnings(level: float, fine: Detail | None) -> tuple[str, ...]:
    """Return what is said of a graded knee with noise of ``level`` and this :func:`~kneexray.roi.resolution.detail`."""
    return (*((NOISE_WARNING,) if level > NOISY else ()), *((SOFT_WARNING,) if is_soft(fine) else ()))


def _knees(radiograph: Radiograph, looked: Looked) -> Found:
    """Return the knees of a film whose joints were found, from its left to its right; one that was seen, but not surely, is refused."""
    joints = list(looked.joints)
    frontal = [joint for joint in joints if joint.kind != "lateral"]
    if len(frontal) > MOST_KNEES:
        return _refused(radiograph, "several_views", f"{len(frontal)} knees were found on the film; give one exposure a file")
    pair = sorted([*frontal, *looked.doubtful], key=lambda joint: joint.box[0])
    pair = pair if len(frontal) == 1 and len(pair) == MOST_KNEES else frontal
    warnings: tuple[str, ...] = ()
    if _is_inverted(radiograph.pixels, joints):
        radiograph, warnings = replace(radiograph, pixels=1 - radiograph.pixels), (INVERTED,)
    knees, rejections = [], []
    told_of = dict(zip(pair, sides_of(pair, radiograph, _markers(radiograph.pixels, pair), crowd=bool(looked.doubtful)), strict=True))
    for joint in joints:
        told = told_of.get(joint, Told(None))
        level = noise(radiograph.pixels, joint.box)
        fine = detail(radiograph.pixels, joint.box)
        why = objection(radiograph.pixels, joint) or noise_objection(level) or resolution_objection(fine)
        if why is not None:
            reason = "several_views" if why[0] == "not_ap" and frontal else why[0]
            if reason == "not_ap" and any(kind == "frontal" for _, kind in radiograph.views):
                why = (reason, f"{why[1]}; its header calls this one so ({radiograph.view_position}), and one of the two is wrong")
            where = f"{_place(joint, radiograph)}: " if len(joints) > 1 else ""
            rejections.append(_rejection(radiograph, reason, where + why[1]))
            continue
        found = (*warnings, *told.warnings, *_picture_warnings(level, fine))
        knees.append(Knee(radiograph, joint.box, told.side, told.mirrored, joint.score, found, side_sources=told.sources))
    return Found(tuple(knees), (*rejections, *_seen_only(radiograph, looked.doubtful)))


def _seen_only(radiograph: Radiograph, joints: Sequence[Joint]) -> tuple[Rejection, ...]:
    """Return the refusal of each of ``joints`` that was seen, and of which the localiser is not sure."""
    why = "a knee was seen, and it is not certain that it is a native knee in AP view; cut it out and ask for --roi whole if it is"
    return tuple(_rejection(radiograph, "not_graded", f"{_place(joint, radiograph)}: {why}") for joint in joints)


def _markers(pixels: NDArray[np.float32], joints: Sequence[Joint]) -> list[Marker]:
    """Return the side markers on the film of ``joints``: of an image that shows more than the film, only those around the knees."""
    if not joints:
        return []
    part = surroundings(pixels, joints)
    if part is None:
        return find_markers(pixels)
    x0, y0, x1, y1 = map(int, part)
    found = find_markers(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
    return [replace(m, box=(m.box[0] + x0, m.box[1] + y0, m.box[2] + x0, m.box[3] + y0)) for m in found]


def _none(radiograph: Radiograph, seen: Sequence[Joint]) -> Found:
    """Return the refusal of a film without a sure joint: lying wrong, where a joint shows once it is turned; ``seen`` are doubtful ones."""
    for quarters, remedy in ((2, "180 degrees"), (1, "90 degrees counter-clockwise"), (3, "90 degrees clockwise")):
        found = find_joints(np.ascontiguousarray(np.rot90(radiograph.pixels, quarters)))
        if any(joint.kind == "ap" and joint.score >= TURNED_SCORE for joint in found):
            return _refused(radiograph, "rotated", f"the film lies wrong: turn it by {remedy}")
    sure = " for certain" if seen else ""
    remedy = "if it is the crop of one, ask for --roi whole"
    return _refused(radiograph, "not_a_knee", f"no knee in AP view was found{sure} on the image; {remedy}")


def _is_inverted(pixels: NDArray[np.float32], joints: list[Joint]) -> bool:
    """Say whether the surest joint resembles a knee most when black and white change places."""
    surest = max(joints, key=lambda joint: joint.score)
    return judge(resample(pixels, surest.box, size=(MINIMUM_PIXELS, MINIMUM_PIXELS))).inverted


def _place(joint: Joint, radiograph: Radiograph) -> str:
    """Return in words where on the film a joint is."""
    share = (joint.box[0] + joint.box[2]) / 2 / radiograph.pixels.shape[1]
    return "the knee at the film's left" if share < 0.5 else "the knee at the film's right"


def _looks_frontal(radiograph: Radiograph) -> bool:
    """Say whether a picture alone would be taken for a frontal view, with some room to spare."""
    if judge(radiograph.pixels).likeness >= CERTAIN:
        return True
    return any(joint.kind == "ap" and joint.score >= SURE_IN_PART for joint in look(radiograph.pixels).joints)


def _side(text: str | None) -> Side | None:
    return "L" if text == "L" else "R" if text == "R" else None


def _is_blank(radiograph: Radiograph) -> bool:
    step_y, step_x = (max(1, length // 128) for length in radiograph.pixels.shape)
    seen = radiograph.pixels[::step_y, ::step_x].ravel()
    tail = len(seen) // 100
    ordered = np.partition(seen, (tail, -1 - tail))  # a fraction of what np.percentile costs
    return bool(ordered[-1 - tail] - ordered[tail] < BLANK_RANGE)


def _refused(radiograph: Radiograph, reason: str, detail: str) -> Found:
    return Found(rejections=(_rejection(radiograph, reason, detail),))


def _rejection(radiograph: Radiograph, reason: str, detail: str) -> Rejection:
    return Rejection(radiograph.source, reason, detail, radiograph.sop_instance_uid, radiograph.dicom)
