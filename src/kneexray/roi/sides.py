"""Whose knee is it: the patient's left or right? Told by the film's laterality, else by its place, else by the fibula."""

from __future__ import annotations

from collections.abc import Sequence

from kneexray.roi.localiser import Joint
from kneexray.types import Radiograph, Side

BY_PLACE = "side told by the knee's place on the film (the patient's right at its left): the film does not state it"
BY_FIBULA = "side told by the fibula, which lies laterally: the film does not state it"
UNKNOWN = "side unknown: the film does not state it, and the fibula does not tell"
SURE = 2.0
"""Least log odds of a side told by the fibula (7 to 1)."""


def sides_of(joints: Sequence[Joint], radiograph: Radiograph) -> list[tuple[Side | None, tuple[str, ...]]]:
    """Return the side of each of one or two ``joints``, given from left to right, with the warnings that go with it.

    Two knees lie as on a film hung in the usual way, as if the patient faced the reader. That a film of two knees calls itself left
    or right does not change that.
    """
    if len(joints) == 2:
        return [("R", (BY_PLACE,)), ("L", (BY_PLACE,))]
    return [_side_of(joint, radiograph) for joint in joints]


def _side_of(joint: Joint, radiograph: Radiograph) -> tuple[Side | None, tuple[str, ...]]:
    if radiograph.laterality in ("L", "R"):
        return ("L" if radiograph.laterality == "L" else "R"), ()
    if abs(joint.rightness) < SURE:
        return None, (UNKNOWN,)
    return ("R" if joint.rightness > 0 else "L"), (BY_FIBULA,)
