"""Side rule: whether a knee is the patient's left or right, by header, side markers and place, and which of them was used."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kneexray.roi.localiser import Joint
from kneexray.roi.markers import Marker
from kneexray.roi.quality import joint_region
from kneexray.roi.search import content_of
from kneexray.types import Radiograph, Side, SideSource, Study

BY_PLACE = "side told by the knee's place on the film (the patient's right at its left): the film does not state it"
BY_MARKER = "side told by the film's marker"
REVERSED = "the film hangs the other way round: by its marker, the patient's right is at its right"
UNKNOWN = "side unknown: the film does not state it"
CONTRADICTORY = "side unknown: the film's markers contradict each other"
DISAGREES = "side unknown: the film's marker and its stated laterality disagree"
BY_ORIENTATION = "side told by the film's Patient Orientation"
ORIENTATION_DISAGREES = "side unknown: the film's Patient Orientation and its markers contradict each other"
HEADER_CONTRADICTORY = "side unknown: the header's lateralities contradict each other"
TABLE_CONTRADICTS = "side unknown: the table and the film's header contradict each other"
ONE_NAMED = "two knees were seen on a film that is stated to be of one side: each has the side that its place or marker tells"
MIRRORED = "a side marker on the film is mirrored: the film may be, too"
OFF_MIDDLE = 0.15
"""How far from the middle between two knees a marker must lie to belong to one of them, as a share of their distance."""
CENTRAL = (0.28, 0.72)
"""Where across the film a lone knee must lie for a marker to name it: else the marker may be that of a knee which was not found."""
WIDE = 4.5
"""Width of an image, in sides of a lone knee's box, from which on no marker names it: there is room for more than one film."""
TABLE = "table"
"""What a side is called that a table states, among its sources."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a knee's side, the warnings that go with it, everything that spoke for a side, and whether the knee, as it lies on
    the film, is the mirror image of a right knee."""

    side: Side | None
    warnings: tuple[str, ...] = ()
    sources: tuple[SideSource, ...] = ()
    mirrored: bool = False


def with_table_side(study: Study, side: Side | None) -> Study:
    """Return ``study`` with the side that a table states of it: where its header says otherwise there is none, and both are named."""
    return study if side is None else replace(study, radiographs=tuple(_with_side(film, side) for film in study.radiographs))


def _with_side(film: Radiograph, side: Side) -> Radiograph:
    if film.laterality == side:
        return film
    if film.laterality in (None, "B"):
        doubt = film.laterality is None and film.laterality_source
        return film if doubt else replace(film, laterality=side, laterality_source=TABLE)
    return replace(film, laterality=None, laterality_source=f"{film.laterality_source or 'laterality'} {film.laterality}, {TABLE} {side}")


def contradiction(radiograph: Radiograph) -> str | None:
    """Return the warning that goes with what is stated of a film's side, where that contradicts itself."""
    if radiograph.laterality is not None or not radiograph.laterality_source:
        return None
    return TABLE_CONTRADICTS if f", {TABLE} " in radiograph.laterality_source else HEADER_CONTRADICTORY


def sides_of(joints: Sequence[Joint], radiograph: Radiograph, markers: Sequence[Marker], *, crowd: bool = False) -> list[Told]:
    """Return the side of each of one or two knees, from the film's left to its right.

    The rule, in this order:

    1. One knee has the side that header or table state; else that of the film's marker, where it is certain; else none. Where two of
       these differ the side is unknown. A marker names no knee with others beside it that were not surely found (``crowd``), nor one
       at the side of its film.
    2. Two knees lie as Patient Orientation and the side markers say; where both speak and differ, neither is believed and the sides are
       unknown. Where neither speaks, they lie as on a film hung in the usual way, as if the patient faced the reader. That a film of two
       knees calls itself left or right does not change that.
    3. From a mirrored marker, or markers that contradict each other, nothing is concluded.

    Of two knees the medial sides face each other, so that the one at the film's left looks like a right knee, however the film hangs. A
    single left knee is the mirror image of a right one, unless Patient Orientation says that the film is mirrored itself.
    """
    markers = [marker for marker in markers if not any(_lies_in_joint(marker, joint) for joint in joints)]
    letters = [marker for marker in markers if marker.letter != "mirrored"]
    warned = (MIRRORED,) if len(letters) < len(markers) else ()
    if len(joints) == 2:
        told = _two(joints, radiograph, letters, warned)
        return [replace(one, mirrored=bool(place)) for place, one in enumerate(told)]
    told = [_one(joint, radiograph, letters, warned, crowd=crowd) for joint in joints]
    return [replace(one, mirrored=is_mirrored(one.side, radiograph)) for one in told]


def is_mirrored(side: Side | None, radiograph: Radiograph) -> bool:
    """Say whether a single knee of ``side`` lies on the film as the mirror image of a right one."""
    return side is not None and (side == "L") != (radiograph.orientation == "mirrored")


def stated(radiograph: Radiograph) -> tuple[SideSource, ...]:
    """Return what the header says of sides, none of it used yet."""
    said: list[SideSource] = []
    if radiograph.laterality or radiograph.laterality_source:
        said.append(SideSource(radiograph.laterality_source or "laterality", radiograph.laterality or "contradictory", False))
    if radiograph.orientation:
        said.append(SideSource("PatientOrientation", radiograph.orientation, False))
    return tuple(said)


def _spoke(radiograph: Radiograph, letters: Sequence[Marker], *, used: Container[str]) -> tuple[SideSource, ...]:
    """Return all that spoke for a side: the header's attributes, markers, and the place where that was ``used``."""
    said = [replace(source, used=source.source in used) for source in stated(radiograph)]
    said += [SideSource("marker", marker.letter, "marker" in used) for marker in letters]
    said += [SideSource("place", "the patient's right at the film's left", True)] * ("place" in used)
    return tuple(said)


def _one(joint: Joint, radiograph: Radiograph, letters: Sequence[Marker], warned: tuple[str, ...], *, crowd: bool) -> Told:
    told = {marker.letter for marker in letters}
    given, source = radiograph.laterality, radiograph.laterality_source or "laterality"

    def answer(side: Side | None, *warnings: str, used: str = "") -> Told:
        return Told(side, warnings, _spoke(radiograph, letters, used={used} - {""}))

    if given in ("L", "R"):
        if told and given not in told:
            return answer(None, DISAGREES, *warned)
        return answer("L" if given == "L" else "R", *warned, used=source)
    if (contradictory := contradiction(radiograph)) is not None:
        return answer(None, contradictory, *warned)
    if warned or not told:
        return answer(None, UNKNOWN, *warned)
    if len(told) > 1:
        return answer(None, CONTRADICTORY)
    if crowd or not _alone(joint, radiograph):
        return answer(None, UNKNOWN)
    return answer("L" if told == {"L"} else "R", BY_MARKER, used="marker")


def _two(joints: Sequence[Joint], radiograph: Radiograph, letters: Sequence[Marker], warned: tuple[str, ...]) -> list[Told]:
    named = (ONE_NAMED,) if radiograph.laterality in ("L", "R") else ()

    def both(sides: tuple[Side | None, Side | None], *warnings: str, used: str = "") -> list[Told]:
        spoke = _spoke(radiograph, letters, used=set(used.split()))
        return [Told(side, (*warnings, *named), spoke) for side in sides]

    usual: tuple[Side, Side] = ("R", "L")
    reversed_: tuple[Side, Side] = ("L", "R")
    by_header = radiograph.orientation
    if warned and by_header is None:
        return both((None, None), UNKNOWN, *warned)
    by_marker = None if warned else _hanging(joints, letters)
    if by_marker == "unclear":
        return both((None, None), CONTRADICTORY)
    if by_header is not None:
        if by_marker is not None and (by_marker == "reversed") != (by_header == "mirrored"):
            return both((None, None), ORIENTATION_DISAGREES)
        used = "PatientOrientation" + (" marker" if by_marker else "")
        return both(reversed_ if by_header == "mirrored" else usual, BY_ORIENTATION, *warned, used=used)
    match by_marker:
        case "reversed":
            return both(reversed_, BY_MARKER, REVERSED, used="marker")
        case "usual":
            return both(usual, BY_MARKER, used="marker")
        case _:
            return both(usual, BY_PLACE, used="place")


def _alone(joint: Joint, radiograph: Radiograph) -> bool:
    """Say whether a knee lies so that no other has a place on its film."""
    x0, _, x1, _ = content_of(radiograph.pixels)
    share = ((joint.box[0] + joint.box[2]) / 2 - x0) / (x1 - x0)
    return CENTRAL[0] <= share <= CENTRAL[1] and x1 - x0 <= WIDE * (joint.box[2] - joint.box[0])


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
