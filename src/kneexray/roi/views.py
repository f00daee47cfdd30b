"""Views: whether a film that its header calls something else than frontal is graded."""

from __future__ import annotations

from kneexray.read.views import kind_of_view
from kneexray.types import Radiograph


def view_objection(radiograph: Radiograph) -> tuple[str, str] | None:
    """Return why a film whose header states another view is not graded, as a reason and a sentence; None for a frontal one."""
    other = [(name, kind) for name, kind in radiograph.views if kind != "frontal"]
    if not other and (kind := kind_of_view(radiograph.view_position)):
        other = [("view position", kind)]
    if not other:
        return None
    name, kind = other[0]
    position = radiograph.view_position if name in ("ViewPosition", "PatientOrientation", "view position") else None
    called = f"{name} {position}" if position and name != "PatientOrientation" else position or name
    frontal = next((source for source, said in radiograph.views if said == "frontal"), None)
    but = f", and {frontal} a frontal one" if frontal else ""
    return "not_ap", f"the header calls this a {kind} view ({called}){but}; give a frontal (AP or PA) film"
