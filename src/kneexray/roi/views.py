"""Views: what a header says of how a knee was projected, and whether such a film is graded."""

from __future__ import annotations

import re
from types import MappingProxyType

_CODES: MappingProxyType[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("LL", "RL", "LAT", "LATERAL", "LLD", "RLD", "LM", "ML", "LLAT", "RLAT", "LLO", "RLO", "XTL"), "lateral"),
        **dict.fromkeys(("RAO", "LAO", "RPO", "LPO", "OBL", "OBLIQUE"), "oblique"),
        **dict.fromkeys(
            ("AX", "AXIAL", "TAN", "TANG", "SKY", "SKYLINE", "SUNRISE", "MERCHANT", "PATELLA", "SETTEGAST", "LAURIN"), "skyline"
        ),
        **dict.fromkeys(("TUNNEL", "NOTCH"), "tunnel"),
    }
)
"""View Position (PS3.3 C.8.4.5.1.1 and what devices write beside it) -> kind of view that is not frontal."""
_WORDS = (
    (r"\blateral\b", "lateral"),
    (r"\b(medio-?lateral|latero-?medial|sagittal|cross[- ]table|perfil)\b", "lateral"),
    (r"\boblique\b", "oblique"),
    (r"\b(sky-?line|sun-?rise|merchant|axial|tangential|patello-?femoral|settegast|laurin)\b", "skyline"),
    (r"\b(tunnel|notch|intercondylar)\b", "tunnel"),
)


def kind_of_view(stated: str | None) -> str | None:
    """Return what kind of view a header's words name that is not frontal; None for AP, PA, nothing, and what nobody knows."""
    if not stated:
        return None
    text = stated.strip()
    if (kind := _CODES.get(text.upper())) is not None:
        return kind
    lower = re.sub(r"\bbilateral\b", "", text.lower())
    return next((kind for pattern, kind in _WORDS if re.search(pattern, lower)), None)


def view_objection(stated: str | None) -> tuple[str, str] | None:
    """Return why a film whose header states this view is not graded, as a reason and a sentence; None for a frontal one."""
    kind = kind_of_view(stated)
    if kind is None:
        return None
    return "not_ap", f"the header calls this a {kind} view ({stated}); give a frontal (AP or PA) film"
