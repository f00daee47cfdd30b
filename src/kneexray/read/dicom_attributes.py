"""What a DICOM header says about a radiograph besides its pixels: kind, spacing, side and view."""

from __future__ import annotations

from dataclasses import dataclass
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
            return (values[0], values[1]), keyword, tuple(warnings)
        warnings.append(f"{keyword} is not two positive numbers and was ignored")
    return None, None, tuple(warnings)


def laterality(header: Header) -> tuple[Literal["L", "R", "B"] | None, str | None]:
    """Return the side and the attribute that gave it: Image, Frame or plain Laterality, or the anatomic region's modifiers.

    Where these contradict each other there is no side, and all of them are named. U (unpaired) is no side.
    """
    said: dict[str, Literal["L", "R", "B"]] = {}
    for keyword in ("ImageLaterality", "Laterality", "FrameLaterality"):
        value = header.text(keyword).upper()
        if value in ("L", "R", "B"):
            said[keyword] = cast('Literal["L", "R", "B"]', value)
    for region in header.items("AnatomicRegionSequence"):
        for modifier in region.items("AnatomicRegionModifierSequence"):
            if (side := _MODIFIERS.get(modifier.text("CodeValue"))) is not None:
                said["AnatomicRegionModifierSequence"] = side
    sides = set(said.values())
    if len(sides) > 1:
        return None, ", ".join(f"{keyword} {side}" for keyword, side in said.items())
    return next(((side, keyword) for keyword, side in said.items()), (None, None))


def view_position(header: Header) -> str | None:
    """Return View Position in capitals (AP, PA, LL, ...), or the meaning of the View Code Sequence."""
    codes = (item.text("CodeMeaning") for item in header.items("ViewCodeSequence"))
    return header.text("ViewPosition").upper() or next((code for code in codes if code), None)


@dataclass(frozen=True, slots=True)
class Orientation:
    """What Patient Orientation says: how many quarters counter-clockwise set the film upright, whether it is ``mirrored`` then, or that it
    is no frontal view (``plane``: sagittal, axial)."""

    quarters: int = 0
    mirrored: bool = False
    plane: Literal["frontal", "sagittal", "axial"] = "frontal"


def orientation(header: Header) -> Orientation | None:
    """Return what Patient Orientation (PS3.3 C.7.6.1.1.1) says; None where it is absent or says nothing that can be.

    Its two values are the directions, in the patient, of the rows (to the right) and of the columns (down): L and F on a frontal film
    that hangs as usual. Of letters together, as in ``LF``, the first leads.
    """
    values = [part.upper()[:1] for part in header.texts("PatientOrientation")]
    if len(values) != 2 or {_AXIS.get(value) for value in values} == {None}:
        return None
    axes = {_AXIS.get(value) for value in values}
    if None in axes or len(axes) != 2:
        return None
    if axes != {"side", "height"}:
        return Orientation(plane="sagittal" if axes == {"depth", "height"} else "axial")
    row, column = values
    for quarters in range(4):
        if column == "F":
            return Orientation(quarters, row == "R")
        row, column = column, _OPPOSITE[row]  # of the film turned a quarter counter-clockwise
    return None


_AXIS = MappingProxyType({"L": "side", "R": "side", "H": "height", "F": "height", "A": "depth", "P": "depth"})
_OPPOSITE = MappingProxyType({"L": "R", "R": "L", "H": "F", "F": "H", "A": "P", "P": "A"})


def aspect(header: Header, spacing: tuple[float, float] | None) -> float:
    """Return height over width of a pixel: by its ``spacing`` in mm, else by Pixel Aspect Ratio (PS3.3 C.7.6.3.1.7), else 1."""
    if spacing is not None:
        return spacing[0] / spacing[1]
    values = header.numbers("PixelAspectRatio") if "PixelAspectRatio" in header else ()
    if len(values) == 2 and np.isfinite(values).all() and min(values) > 0:
        return float(values[0] / values[1])
    return 1.0
