"""Whose knee is it: the patient's left or right? Told by the film's laterality, its side markers, or the places of two knees on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from kneexray.roi.localiser import Joint
from kneexray.roi.markers import Marker
from kneexray.roi.quality import joint_region
from kneexray.types import Radiograph, Side

BY_PLACE = "side told by the knee's place on the film (the patient's right at its left): the film does not state it"
BY_MARKER = "side told by the film's marker"
REVERSED = "the film hangs the other way round: by its marker, the patient's right is at its right"
UNKNOWN = "side unknown: the film does not state it"
CONTRADICTORY = "side unknown: the film's markers contradict each other"
DISAGREES = "the film's marker and its stated laterality disagree: the laterality was kept"
MIRRORED = "a side marker on the film is mirrored: the film may be, too"
OFF_MIDDLE = 0.15
"""How far from the middle between two knees a marker must lie to belong to one of them, as a share of their distance."""
CENTRAL = (0.28, 0.72)
"""Where across the film a lone knee must lie for a marker to name it: else the marker may be that of a knee which was not found."""

Told = tuple[Side | None, tuple[str, ...]]


def sides_of(joints: Sequence[Joint], radiograph: Radiograph, markers: Sequence[Marker]) -> list[Told]:
    """Return the side of each of one or two knees, from the film's left to its right, with the warnings that go with it.

    One knee has the side that the film states, else that of its marker. Two knees lie as on a film hung in the usual way, as if the
    patient faced the reader, unless a marker shows otherwise. That a film of two knees calls itself left or right does not change that.
    Where a marker is mirrored, or markers contradict each other, nothing is concluded from them.
    """
    markers = [marker for marker in markers if not any(_lies_in_joint(marker, joint) for joint in joints)]
    letters = [marker for marker in markers if marker.letter != "mirrored"]
    warned = (MIRRORED,) if len(letters) < len(markers) else ()
    if len(joints) == 2:
        return _two(joints, letters, warned)
    return [_one(joint, radiograph, letters, warned) for joint in joints]


def _one(joint: Joint, radiograph: Radiograph, letters: Sequence[Marker], warned: tuple[str, ...]) -> Told:
    told = {marker.letter for marker in letters}
    stated = radiograph.laterality
    if stated in ("L", "R"):
        doubt = (DISAGREES,) if told and stated not in told else ()
        return ("L" if stated == "L" else "R"), (*doubt, *warned)
    if warned or not told:
        return None, (UNKNOWN, *warned)
    if len(told) > 1:
        return None, (CONTRADICTORY,)
    share = (joint.box[0] + joint.box[2]) / 2 / radiograph.pixels.shape[1]
    if not CENTRAL[0] <= share <= CENTRAL[1]:
        return None, (UNKNOWN,)
    return ("L" if told == {"L"} else "R"), (BY_MARKER,)


def _two(joints: Sequence[Joint], letters: Sequence[Marker], warned: tuple[str, ...]) -> list[Told]:
    if warned:
        return [(None, (UNKNOWN, *warned))] * 2
    match _hanging(joints, letters):
        case "unclear":
            return [(None, (CONTRADICTORY,))] * 2
        case "reversed":
            return [("L", (BY_MARKER, REVERSED)), ("R", (BY_MARKER, REVERSED))]
        case "usual":
            return [("R", (BY_MARKER,)), ("L", (BY_MARKER,))]
        case None:
            return [("R", (BY_PLACE,)), ("L", (BY_PLACE,))]


def _hanging(joints: Sequence[Joint], letters: Sequence[Marker]) -> Literal["usual", "reversed", "unclear"] | None:
    """Return how a film of two knees hangs, by the places of its R and L; None where they do not say."""
    right, left = ([marker.x for marker in letters if marker.letter == letter] for letter in ("R", "L"))
    if right and left:
        return "usual" if max(right) < min(left) else "reversed" if max(left) < min(right) else "unclear"
    first, second = ((joint.box[0] + joint.box[2]) / 2 for joint in joints)
    off = [(marker.x - (first + second) / 2) / (second - first) for marker in letters]
    at_right = {share > 0 for share in off if abs(share) > OFF_MIDDLE}
    if not at_right:
        return None
    return "unclear" if len(at_right) > 1 else "usual" if at_right == {bool(left)} else "reversed"


def _lies_in_joint(marker: Marker, joint: Joint) -> bool:
    x0, y0, x1, y1 = joint_region(joint.box)
    return x0 <= marker.x <= x1 and y0 <= (marker.box[1] + marker.box[3]) / 2 <= y1
