"""DICOM images: one file to its radiographs."""

from __future__ import annotations

from kneexray.errors import ReadError
from kneexray.read.dicom_attributes import aspect, check_kind, laterality, orientation, pixel_spacing, view_position
from kneexray.read.dicom_display import to_display
from kneexray.read.dicom_frames import Frame, PixelFormat, frames, pixel_format
from kneexray.read.dicom_header import Header, Parsed, parse
from kneexray.read.limits import Limits
from kneexray.read.upright import upright
from kneexray.read.views import views_of
from kneexray.types import DicomContext, Radiograph, Rejection, Study

Warnings = tuple[str, ...]

TRANSFER_SYNTAXES = (
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"),  # uncompressed, and deflated
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"),  # JPEG
    *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),  # JPEG-LS
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),  # JPEG 2000
    *("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"),  # High-Throughput JPEG 2000
    "1.2.840.10008.1.2.5",  # RLE
)
"""What can be decoded (PS3.5 annex A)."""


def read_dicom(data: bytes, *, source: str, limits: Limits) -> Study:
    """Return the study of a DICOM file: a radiograph a frame, and a rejection for each frame that cannot be read.

    Never raises for bad content. No detail or warning quotes a value of an attribute of the patient.
    """
    uid: str | None = None
    context: DicomContext | None = None
    radiographs: list[Radiograph] = []
    rejections: list[Rejection] = []
    try:
        parsed = parse(data, limits=limits)
        uid = parsed.header.text("SOPInstanceUID") or None
        form, warnings = _checked(parsed, limits, bare=data[128:132] != b"DICM" and data[:4] != b"DICM")
        context = parsed.context()  # from here on it is a film: what is none gets no answer in its study
        assert parsed.pixel_data is not None
        for index, frame in enumerate(frames(parsed.pixel_data, form, parsed.header, transfer_syntax=parsed.transfer_syntax)):
            number = index if form.frames > 1 else None
            if isinstance(frame, ReadError):
                detail = frame.detail if number is None else f"frame {number}: {frame.detail}"
                rejections.append(Rejection(source, frame.reason, detail, uid, context))
            else:
                header = parsed.header.frame(index)
                radiographs.append(_radiograph(frame, form, header, source=source, index=number, warnings=warnings, dicom=context))
    except ReadError as error:
        rejections.append(Rejection(source, error.reason, error.detail, uid, context))
    except ImportError:  # a broken installation, not a broken file
        raise
    except MemoryError:
        detail = "the DICOM image does not fit into this machine's memory; reduce it"
        rejections.append(Rejection(source, "too_large", detail, uid, context))
    except Exception as error:  # the parser meets damaged files with nearly anything, and its text may quote values: name the kind only
        detail = f"the DICOM file cannot be parsed ({type(error).__name__}); export it again"
        rejections.append(Rejection(source, "corrupt", detail, uid, context))
    return Study(source, tuple(radiographs), tuple(rejections))


def _checked(parsed: Parsed, limits: Limits, *, bare: bool) -> tuple[PixelFormat, Warnings]:
    """Return the pixel format of what is a radiograph by its header, and the warnings so far."""
    header = parsed.header
    if bare and "Rows" not in header and not parsed.sop_class:
        raise ReadError("not_an_image", "the bytes are of no known format; give radiographs as DICOM, PNG, JPEG, TIFF, WebP or BMP")
    check_kind(header, has_pixels=parsed.pixel_data is not None, sop_class=parsed.sop_class)
    form, warnings = pixel_format(header, limits=limits)
    if header.text("PresentationIntentType").upper() == "FOR PROCESSING":
        warnings = (*warnings, "the image is raw detector data (FOR PROCESSING), not meant for viewing; give the FOR PRESENTATION one")
    return form, (*parsed.warnings, *warnings)


def _radiograph(
    frame: Frame,
    form: PixelFormat,
    header: Header,
    *,
    source: str,
    index: int | None,
    warnings: Warnings,
    dicom: DicomContext,
) -> Radiograph:
    pixels, odd_display = to_display(frame, form, header)
    spacing, spacing_source, odd_spacing = pixel_spacing(header)
    side, side_source = laterality(header)
    hung = orientation(header)
    pixels, spacing, stored, odd_shape = upright(pixels, spacing, aspect=aspect(header, spacing), quarters=hung.quarters if hung else 0)
    view, views = view_position(header), views_of(header)
    if hung is not None and hung.plane != "frontal":
        view = f"PatientOrientation {hung.plane}"
        views = (("PatientOrientation", "lateral" if hung.plane == "sagittal" else "skyline"), *views)
    frontal = hung if hung is not None and hung.plane == "frontal" else None
    return Radiograph(
        pixels=pixels,
        source=source,
        pixel_spacing=spacing,
        pixel_spacing_source=spacing_source,
        laterality=side,
        laterality_source=side_source,
        orientation=None if frontal is None else "mirrored" if frontal.mirrored else "usual",
        stored=stored,
        view_position=view,
        views=views,
        sop_instance_uid=header.text("SOPInstanceUID") or None,
        frame=index,
        warnings=(*warnings, *odd_display, *odd_spacing, *odd_shape),
        dicom=dicom,
    )
