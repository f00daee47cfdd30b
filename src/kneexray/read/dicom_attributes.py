"""What a DICOM header says about a radiograph besides its pixels: kind, spacing, side and view."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, cast

import numpy as np

from kneexray.errors import ReadError
from kneexray.read.dicom_header import Header

MODALITIES: MappingProxyType[str, str] = MappingProxyType(
    {
        "CR": "computed radiography",
        "DX": "digital radiography",
        "DR": "digital radiography (not in the standard, but in use)",
        "RG": "radiographic imaging, as from film scanners",
        "RF": "radio fluoroscopy",
        "XA": "X-ray angiography, as from C-arms",
        "XC": "external camera, as from photographed films",
        "HC": "hard copy",
        "SC": "secondary capture (not in the standard, but in use)",
        "OT": "other, as most converters write",
        "": "missing",
    }
)
"""Modalities (PS3.3 C.7.3.1.1.1) that may be a film of a knee; the others are ``unsupported``."""

OWN_MODEL = "KneeXRay"
"""The Manufacturer's Model Name of what KneeXRay writes. Its pictures lie in the studies of their films, and must not be graded again."""

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
# Laterality modifiers of anatomic regions: SNOMED CT, and the SNOMED RT codes before it (PS3.16 CID 244).
_MODIFIERS: MappingProxyType[str, Literal["L", "R", "B"]] = MappingProxyType(
    {"7771000": "L", "G-A101": "L", "24028007": "R", "G-A100": "R", "51440002": "B", "G-A102": "B"}
)


def check_kind(header: Header, *, has_pixels: bool, sop_class: str) -> None:
    """Raise :class:`ReadError` unless the object is an image that may be a radiograph."""
    if not has_pixels:
        if "Rows" in header:
            raise ReadError("truncated", "the DICOM file ends before its pixel data; copy or export it again")
        raise ReadError("no_pixels", f"the DICOM object ({_name(sop_class)}) holds no image; give the radiographs themselves")
    if is_own(header):
        raise ReadError("unsupported", f"the DICOM image is a result of {OWN_MODEL}; give the film that it was made from")
    modality = header.text("Modality").upper()
    if modality not in MODALITIES:
        known = ", ".join(name for name in MODALITIES if name)
        raise ReadError("unsupported", f"the DICOM image is of modality {modality!r}, and radiographs are graded ({known}); leave it out")


def is_own(header: Header) -> bool:
    """Say whether KneeXRay made the object."""
    return header.text("ManufacturerModelName") == OWN_MODEL


def _name(sop_class: str) -> str:
    from pydicom.uid import UID_dictionary

    return UID_dictionary[sop_class][0] if sop_class in UID_dictionary else sop_class or "of no stated SOP class"


def pixel_spacing(header: Header) -> tuple[tuple[float, float] | None, str | None, tuple[str, ...]]:
    """Return the spacing (between rows, between columns) in mm, the attribute that gave it, and what was odd.

    Pixel Spacing comes first: where it differs from the imager's it was calibrated (PS3.3 10.7.1). Imager Pixel Spacing holds at
    the detector (PS3.3 C.8.11.4), where a knee looks larger than it is; it is handed on as it is, since the Estimated Radiographic
    Magnification Factor is an estimate that few devices fill in. Nominal Scanned Pixel Spacing (PS3.3 C.8.6.2) holds at the
    plane of a digitised film.
    """
    warnings: list[str] = []
    for keyword in _SPACINGS:
        if keyword not in header or not header.octets(keyword).strip(b" \0"):
            continue
        values = header.numbers(keyword)
        if len(values) == 2 and np.isfinite(values).all() and min(values) > 0:
            if max(values) > 1.01 * min(values):
                warnings.append(f"pixels are not square: {keyword} is {values[0]:g} by {values[1]:g} mm")
            return (values[0], values[1]), keyword, tuple(warnings)
        warnings.append(f"{keyword} is not two positive numbers and was ignored")
    return None, None, tuple(warnings)


def laterality(header: Header) -> Literal["L", "R", "B"] | None:
    """Return the side from Image Laterality, Laterality, Frame Laterality or the anatomic region's modifiers; U (unpaired) is None."""
    for keyword in ("ImageLaterality", "Laterality", "FrameLaterality"):
        value = header.text(keyword).upper()
        if value in ("L", "R", "B"):
            return cast('Literal["L", "R", "B"]', value)
    for region in header.items("AnatomicRegionSequence"):
        for modifier in region.items("AnatomicRegionModifierSequence"):
            if (side := _MODIFIERS.get(modifier.text("CodeValue"))) is not None:
                return side
    return None


def view_position(header: Header) -> str | None:
    """Return View Position in capitals (AP, PA, LL, ...), or the meaning of the View Code Sequence."""
    codes = (item.text("CodeMeaning") for item in header.items("ViewCodeSequence"))
    return header.text("ViewPosition").upper() or next((code for code in codes if code), None)
