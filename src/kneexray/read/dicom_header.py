"""Find the image attributes and the pixel data in a DICOM file, through pydicom's parser.

Only the attributes listed in :data:`WANTED` and :data:`IDENTITY` are kept; the latter name the patient and leave this file only
undecoded, in a :class:`~kneexray.types.DicomContext`. The values of the others are decoded here from the raw bytes rather than
by pydicom: real files break the rules of their value representations, and pydicom answers that with warnings (or errors) whose
switch is a global of the process, and whose text quotes the value. For the same reason the parser is told the VR encoding that
is really there, never sees the character set, and stops at the pixel data. What can still warn is a file that ends within a
sequence of undefined length before the pixel data.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kneexray.errors import ReadError
from kneexray.read.limits import Limits
from kneexray.types import DicomContext

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

WANTED = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "ManufacturerModelName", "PresentationIntentType"),
    *("AnatomicRegionSequence", "ViewPosition", "ViewCodeSequence", "PatientOrientation", "PixelAspectRatio"),
    *("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription"),
    *("Laterality", "ImageLaterality", "FrameLaterality", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *(
        "PixelSpacing",
        "ImagerPixelSpacing",
        "NominalScannedPixelSpacing",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
    ),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("PresentationLUTShape", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(f"{colour}PaletteColorLookupTable{part}" for colour in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")),
)
"""Keywords of the attributes that are read, at the top level; sequences bring their items whole."""

IDENTITY = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize", "PatientWeight"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"),
)
"""Keywords of what an object needs that is made from an image and goes into its study (PS3.3 C.7.1.1, C.7.2, C.7.6.1.1.5)."""

# The functional groups (PS3.3 C.7.6.16, C.8.19) of which a radiograph needs something.
_MACROS = ("FrameAnatomySequence", "PixelMeasuresSequence", "FrameVOILUTSequence", "PixelValueTransformationSequence")

IMPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"

_CHARACTER_SET = 0x00080005
_PIXEL_DATA = 0x7FE00010
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, _PIXEL_DATA})
_UNDEFINED = 0xFFFFFFFF
_LONGEST_CHARACTER_SET = 1 << 10
_BINARY = MappingProxyType({"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "OW": "H"})


@dataclass(frozen=True, slots=True)
class PixelData:
    """Where (7FE0,0010) lies in ``file``: ``length`` bytes from ``start``, or encapsulated (PS3.5 section A.4) up to a delimiter."""

    file: bytes
    start: int
    length: int
    encapsulated: bool
    little_endian: bool
    vr: str


class Header:
    """Attributes by keyword, looked up in several data sets in turn: a frame's functional groups stand behind the top level.

    Values that cannot be understood count as absent; absent values are None or empty.
    """

    def __init__(self, datasets: tuple[Dataset, ...], *, little_endian: bool = True) -> None:
        self._datasets = datasets
        self._little_endian = little_endian

    def __contains__(self, keyword: str) -> bool:
        return self._find(keyword) is not None

    def text(self, keyword: str) -> str:
        """Return the first value of a text attribute, stripped; empty where it is absent.

        A zero byte within it comes from a broken length: such a value has swallowed others, perhaps the patient's name.
        """
        return self.texts(keyword)[0]

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the values of a text attribute, stripped, at least one; see :meth:`text`."""
        values = ((self._raw(keyword) or b"").decode("latin-1").rstrip(" \0")).split("\\")
        return tuple("" if "\0" in value else value.strip() for value in values)

    def numbers(self, keyword: str, *, signed: bool = False) -> tuple[float, ...]:
        """Return the values of a numeric attribute; empty where it is absent or any of them is no number.

        ``signed`` decides for attributes that are ``US or SS``, by the Pixel Representation of the image.
        """
        raw, vr = self._raw(keyword), self._vr(keyword, signed=signed)
        if not raw:
            return ()
        try:
            if vr in _BINARY:
                code = _BINARY[vr]
                count = len(raw) // struct.calcsize(code)
                return tuple(struct.unpack_from(f"{'<' if self._little_endian else '>'}{count}{code}", raw))
            return tuple(float(part.replace(",", ".")) for part in raw.decode("latin-1").strip(" \0").split("\\"))
        except ValueError:
            return ()

    def integer(self, keyword: str, *, default: int | None = None, signed: bool = False) -> int:
        """Return the first value as an integer, ``default`` where there is none; raises :class:`ReadError` without a default."""
        values = self.numbers(keyword, signed=signed)
        if values and abs(values[0]) < 2**53:
            return int(values[0])
        if default is None:
            raise ReadError("corrupt", f"the DICOM attribute {keyword} is missing or no number; export the image again")
        return default

    @property
    def word(self) -> str:
        """The numpy type of 16-bit words in :meth:`octets`."""
        return "<u2" if self._little_endian else ">u2"

    def octets(self, keyword: str) -> bytes:
        """Return the undecoded value."""
        return self._raw(keyword) or b""

    def items(self, keyword: str) -> tuple[Header, ...]:
        """Return the items of a sequence, each looked up alone."""
        found = self._find(keyword)
        if found is None:
            return ()
        dataset, tag = found
        sequence = dataset[tag].value  # pydicom parses sequences of defined length here
        if isinstance(sequence, bytes | str) or sequence is None:
            return ()
        return tuple(Header((item,), little_endian=self._little_endian) for item in sequence)

    def frame(self, index: int) -> Header:
        """Return this header with the functional groups of frame ``index`` behind it (PS3.3 C.7.6.16.1)."""
        groups = (*self.items("PerFrameFunctionalGroupsSequence")[index : index + 1], *self.items("SharedFunctionalGroupsSequence")[:1])
        macros = (item for group in groups for macro in _MACROS for item in group.items(macro)[:1])
        return Header((*self._datasets, *(dataset for item in macros for dataset in item._datasets)), little_endian=self._little_endian)

    def _find(self, keyword: str) -> tuple[Dataset, int] | None:
        tag = _tag(keyword)
        return next(((dataset, tag) for dataset in self._datasets if tag in dataset), None)

    def _raw(self, keyword: str) -> bytes | None:
        found = self._find(keyword)
        value = found[0].get_item(found[1]).value if found else None
        return value if isinstance(value, bytes) else None

    def _vr(self, keyword: str, *, signed: bool) -> str:
        found = self._find(keyword)
        vr = str(found[0].get_item(found[1]).VR or "") if found else ""
        if vr not in (*_BINARY, "DS", "IS", "CS", "LO", "SH"):  # implicit, unknown or nonsense: what the dictionary says
            from pydicom.datadict import dictionary_VR

            vr = dictionary_VR(_tag(keyword))
        return ("SS" if signed else "US") if vr.startswith("US or") else vr


@dataclass(frozen=True, slots=True)
class Parsed:
    """A DICOM file: its attributes, SOP class, transfer syntax, where its pixels are (None: nowhere), and what was odd about it."""

    header: Header
    sop_class: str
    transfer_syntax: str
    pixel_data: PixelData | None
    warnings: tuple[str, ...]
    character_set: bytes

    def context(self) -> DicomContext:
        """Return what :data:`IDENTITY` lists, and the character set that it is in."""
        attributes = {keyword: self.header.octets(keyword) for keyword in IDENTITY if keyword in self.header}
        return DicomContext(attributes | {"SpecificCharacterSet": self.character_set})


def parse(data: bytes, *, limits: Limits) -> Parsed:
    """Return the header and the place of the pixel data of the DICOM file ``data``, which may lack preamble and file meta."""
    start = 132 if data[128:132] == b"DICM" else 4 if data[:4] == b"DICM" else 0
    stream = io.BytesIO(data)
    stream.seek(start)
    meta = Header(tuple(_file_meta(stream)))
    transfer_syntax = meta.text("TransferSyntaxUID")
    warnings = [] if transfer_syntax else ["the DICOM file does not name its transfer syntax; it was guessed"]
    if transfer_syntax == DEFLATED:
        stream = io.BytesIO(_inflated(stream.read(), limits))
    declared = transfer_syntax == IMPLICIT_LITTLE
    little = _is_little_endian(stream, transfer_syntax)
    if transfer_syntax and _is_implicit(stream) != declared:
        warnings.append("the VR encoding of the DICOM file is not the one of its transfer syntax")
    datasets, pixel_data, character_set = _read_to_pixels(stream, little_endian=little)
    header = Header(tuple(datasets), little_endian=little)
    sop_class = header.text("SOPClassUID") or meta.text("MediaStorageSOPClassUID")
    return Parsed(header, sop_class, transfer_syntax, pixel_data, tuple(warnings), character_set)


def _file_meta(stream: io.BytesIO) -> Iterator[Dataset]:
    from pydicom.filereader import read_dataset

    if _peek(stream)[:2] == b"\x02\x00":
        yield read_dataset(stream, _is_implicit(stream), True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)


def _inflated(deflated: bytes, limits: Limits) -> bytes:
    """Undo PS3.5 section A.5."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(deflated, limits.max_bytes)
    if inflater.unconsumed_tail:
        raise ReadError("too_large", f"the deflated DICOM file inflates to more than {limits.max_bytes} bytes; raise max_bytes")
    if not inflater.eof:
        raise ReadError("truncated", f"the deflated DICOM file ends after {len(deflated)} bytes, before its data do; copy it again")
    return inflated


def _is_implicit(stream: io.BytesIO) -> bool:
    """Say whether the next element has no VR: two capital letters after the tag, otherwise (as pydicom decides)."""
    vr = _peek(stream)[4:6]
    return not (len(vr) == 2 and all(0x40 < byte < 0x5B for byte in vr))


def _peek(stream: io.BytesIO) -> bytes:
    """Return the next 8 bytes without moving; ``getbuffer`` would copy the whole file."""
    head = stream.read(8)
    stream.seek(-len(head), io.SEEK_CUR)
    return head


def _is_little_endian(stream: io.BytesIO, transfer_syntax: str) -> bool:
    """Go by the transfer syntax or, without one, by the first group number, which is below 0x0100 in any image."""
    if transfer_syntax:
        return transfer_syntax != EXPLICIT_BIG
    return _peek(stream)[:1] != b"\x00"


def _read_to_pixels(stream: io.BytesIO, *, little_endian: bool) -> tuple[list[Dataset], PixelData | None, bytes]:
    """Return the attributes, the place of the pixel data, and the undecoded character set."""
    from pydicom.filereader import read_dataset
    from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

    stopped: list[tuple[int, str | None, int]] = []

    def stop(tag: int, vr: str | None, length: int) -> bool:
        if tag == _CHARACTER_SET or tag in _PIXEL_TAGS:
            stopped.append((tag, vr, length))
            return True
        return False

    wanted: list[Any] = [_tag(keyword) for keyword in (*WANTED, *IDENTITY)]
    datasets: list[Dataset] = []
    character_set = b""
    while True:
        stopped.clear()
        datasets.append(read_dataset(stream, _is_implicit(stream), little_endian, stop_when=stop, specific_tags=wanted))
        if not stopped:
            return datasets, None, character_set
        tag, vr, length = stopped[-1]
        value = stream.tell() + (12 if vr in EXPLICIT_VR_LENGTH_32 else 8)
        if tag == _CHARACTER_SET:
            stream.seek(value)
            character_set = stream.read(min(length, _LONGEST_CHARACTER_SET))
            stream.seek(value + length)
            continue
        if tag != _PIXEL_DATA:
            raise ReadError("unsupported", "the DICOM object holds floating point pixel data; export it as integers")
        undefined = length == _UNDEFINED
        return datasets, PixelData(stream.getvalue(), value, length, undefined, little_endian, vr or "OW"), character_set


@cache
def _tag(keyword: str) -> int:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)
