"""Whose knee is it: the patient's left or right? Told by the film's laterality, or by the places of two knees on it."""

from __future__ import annotations

from kneexray.types import Radiograph, Side

BY_PLACE = "side told by the knee's place on the film (the patient's right at its left): the film does not state it"
UNKNOWN = "side unknown: the film does not state it"


def sides_of(count: int, radiograph: Radiograph) -> list[tuple[Side | None, tuple[str, ...]]]:
    """Return the side of each of one or two knees, from the film's left to its right, with the warnings that go with it.

    Two knees lie as on a film hung in the usual way, as if the patient faced the reader. That a film of two knees calls itself left
    or right does not change that.
    """
    if count == 2:
        return [("R", (BY_PLACE,)), ("L", (BY_PLACE,))]
    if radiograph.laterality in ("L", "R"):
        return [("L" if radiograph.laterality == "L" else "R", ())] * count
    return [(None, (UNKNOWN,))] * count
