"""What a header's words and codes say of how a knee was projected."""

from __future__ import annotations

import re
from types import MappingProxyType

from kneexray.read.dicom_header import Header

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
    (r"\bobl(ique)?\b", "oblique"),
    (r"\b(lateral|lat)\b", "lateral"),
    (r"\b(medial-lateral|lateral-medial|medio-?lateral|latero-?medial|sagittal|cross[- ]table|perfil|seitlich)\b", "lateral"),
    (r"\b(sky-?line|sun-?rise|merchant|axial|tangential|patello-?femoral|settegast|laurin|supero-?inferior|infero-?superior)\b", "skyline"),
    (r"\b(tunnel|notch|intercondylar|camp coventry|holmblad)\b", "tunnel"),
)
_FRONTAL = r"\b(ap|pa|a\.p\.|p\.a\.|a/p|p/a|antero-?posterior|postero-?anterior|frontal|rosenberg|schuss)\b"
_LOADED = r"\baxial(ly)?[- ]load"  # says how the patient stood

# View codes, SNOMED CT and the SNOMED RT codes before them (PS3.16 CID 4010).
_CODED: MappingProxyType[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("399348003", "R-10206", "272479007", "R-40888", "R-10214", "399033003", "R-10202"), "frontal"),
        **dict.fromkeys(("399067008", "R-102CD", "399173006", "R-10236", "399198007", "R-10232", "399260004", "R-10224"), "lateral"),
        **dict.fromkeys(("399352003", "R-10228", "30730003", "G-A145"), "lateral"),
        **dict.fromkeys(("399061009", "R-10241", "399110001", "R-102C2", "399196006", "R-10244", "399162004", "R-10242"), "skyline"),
        **dict.fromkeys(("399038007", "399225005", "399059000", "399099002", "399288005", "399135007", "260427002"), "oblique"),
        **dict.fromkeys(("399236003", "399368009", "399356000", "399312000", "399184004", "399182000", "260426006"), "oblique"),
        **dict.fromkeys(("399132005", "399325008", "399160007", "399004004", "399006002"), "oblique"),
        **dict.fromkeys(("R-10210", "R-10250", "R-10216", "R-10230", "R-10248", "R-10220", "R-40783", "R-10234"), "oblique"),
        **dict.fromkeys(("R-10226", "R-40985", "R-10208", "R-10238", "R-102C1", "R-40782", "R-10252", "R-10254"), "oblique"),
        **dict.fromkeys(("R-10204", "R-10246", "R-10212"), "oblique"),
    }
)
_FREE_TEXTS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")


def kind_of_view(stated: str | None) -> str | None:
    """Return what kind of view a header's words name that is not frontal; None for AP, PA, nothing, and what nobody knows."""
    if not stated:
        return None
    text = stated.strip()
    if (kind := _CODES.get(text.upper())) is not None:
        return kind
    lower = re.sub(rf"\bbilateral\b|{_LOADED}", "", text.lower().replace("_", " "))
    return next((kind for pattern, kind in _WORDS if re.search(pattern, lower)), None)


def views_of(header: Header) -> tuple[tuple[str, str], ...]:
    """Return the attributes that name a view, each with its kind: ``frontal``, ``lateral``, ``oblique``, ``skyline`` or ``tunnel``.

    Of free texts, which may name more than one view of a study, only those are believed that name no frontal one. They may hold anything,
    so that only the kind is kept.
    """
    said: list[tuple[str, str]] = []
    if position := header.text("ViewPosition"):
        said += [("ViewPosition", kind) for kind in [_kind(position)] if kind]
    for view in header.items("ViewCodeSequence"):
        for name, code in (("ViewCodeSequence", view), *(("ViewModifierCodeSequence", m) for m in view.items("ViewModifierCodeSequence"))):
            kind = _CODED.get(code.text("CodeValue")) or _kind(code.text("CodeMeaning"))
            said += [(name, kind)] if kind else []
    texts = [(name, " ".join(header.texts(name))) for name in _FREE_TEXTS]
    if not any(re.search(_FRONTAL, text.lower().replace("_", " ")) for _, text in texts):
        said += [(name, kind) for name, text in texts if (kind := kind_of_view(text))]
    return tuple(said)


def _kind(text: str) -> str | None:
    return kind_of_view(text) or ("frontal" if re.search(_FRONTAL, text.lower()) else None)
