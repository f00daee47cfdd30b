"""What the DICOM formats share: an object in the study of its film, with the patient as the film has it and UIDs of its own.

UIDs are derived (UUID version 5, PS3.5 annex B.2) from the film's, from everything answered about it and from the version of
KneeXRay: grading a film again with the same model and the same answers gives the same UIDs, so that an archive that has the object keeps
one; any other answer is a new object. The objects of one kind, version and model in a study share a series.
"""

from __future__ import annotations

import io
import json
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import pydicom
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian, UID_dictionary

from kneexray.files import OutputFile
from kneexray.read.dicom_attributes import OWN_MODEL as NAME
from kneexray.types import Change, DicomContext, FilmResult
from kneexray.version import __version__
from kneexray.writers.base import NO_FACTS, RunFacts, Writer, film_stem, prediction_record, rejection_record

if TYPE_CHECKING:
    from kneexray.render.knee_pictures import Album

_NAMESPACE = UUID("6d0c6a3e-3f7b-5b1e-9a36-0d5b6c1f2a77")
_REQUIRED = (  # of type 2: there, if empty (PS3.3 C.7.1.1, C.7.2.1)
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
_OPTIONAL = ("IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight", "StudyDescription")


class DicomWriter(Writer):
    """Writes objects of one ``kind`` into a folder, for films that come as DICOM."""

    kind: str
    sop_class: str
    modality: str
    series_number: int

    def __init__(self, path: Path, *, run: RunFacts = NO_FACTS) -> None:
        self._folder = path
        self._run = run
        self._others = 0
        self._problems: Counter[str] = Counter()

    def add(self, result: FilmResult, *, album: Album | None = None) -> None:
        """Write what there is to write of one film."""
        context = _context(result)
        if context is None:
            self._others += 1
        elif problem := _problem(context):
            self._problems[problem] += 1
        else:
            with pydicom.config.disable_value_validation():  # UIDs stay as the archive has them, and none gets into a warning
                for name, dataset in self._objects(result, context, album):
                    with OutputFile(self._folder / f"{film_stem(result.source)}-{name}.dcm") as file:
                        file.write(_encoded(dataset))
                        file.finish()

    @abstractmethod
    def _objects(self, result: FilmResult, context: DicomContext, album: Album | None) -> Iterator[tuple[str, Dataset]]:
        """Yield each object of a film, and the end of its name."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Which films got no object."""
        why = Counter({"no DICOM film, which alone names its patient and study": self._others}) + self._problems
        return tuple(f"dicom-{self.kind}: nothing was written for {count} file(s): {reason}." for reason, count in why.items())

    def _finish(self) -> None:
        pass

    def _new(self, result: FilmResult, context: DicomContext, *, description: str, part: str = "") -> Dataset:
        """Return an object of this kind with its patient, study, series, equipment and SOP common attributes; ``part`` tells several of
        one film apart."""
        models = self._run.models or dict.fromkeys(prediction.model_id for prediction in result.predictions)
        now = (self._run.started or datetime.now(UTC)).astimezone()
        dataset = Dataset()
        if character_sets := character_sets_of(context):
            dataset.SpecificCharacterSet = list(character_sets)
        for keyword in (*_REQUIRED, *_OPTIONAL):
            if keyword in _REQUIRED or keyword in context.attributes:
                _copy(dataset, context, keyword)
        study = dataset.StudyInstanceUID = text_of(context, "StudyInstanceUID")
        dataset.SeriesInstanceUID = derived_uid(self.kind, "series", __version__, study, *models)
        dataset.SeriesNumber = self.series_number
        dataset.SeriesDescription = f"{NAME}: {description} (for research use)"
        dataset.Modality = self.modality
        dataset.Manufacturer = dataset.ManufacturerModelName = NAME
        dataset.SoftwareVersions = __version__
        dataset.SOPClassUID = self.sop_class
        dataset.SOPInstanceUID = derived_uid(self.kind, part, __version__, text_of(context, "SOPInstanceUID"), _answers(result))
        dataset.InstanceNumber = 1
        dataset.InstanceCreationDate = dataset.ContentDate = now.strftime("%Y%m%d")
        dataset.InstanceCreationTime = dataset.ContentTime = now.strftime("%H%M%S")
        return dataset


def derived_uid(*parts: str) -> str:
    """Return the UID that stands for ``parts``: the same for the same, another for others."""
    return f"2.25.{uuid5(_NAMESPACE, json.dumps(parts)).int}"


def text_of(context: DicomContext, keyword: str) -> str:
    """Return an attribute of the film as text; for those that are ASCII by their kind."""
    return context.attributes.get(keyword, b"").decode("latin-1").strip(" \0")


def source_reference(context: DicomContext, *, frame: int | None = None) -> Dataset:
    """Return an item that refers to the film (PS3.3 table 10-3); ``frame`` counts from 0."""
    item = Dataset()
    item.ReferencedSOPClassUID = text_of(context, "SOPClassUID")
    item.ReferencedSOPInstanceUID = text_of(context, "SOPInstanceUID")
    if frame is not None:
        item.ReferencedFrameNumber = frame + 1
    return item


def copy_lossiness(dataset: Dataset, context: DicomContext) -> None:
    """Say of a picture made from a film that the film once was compressed with loss, if it was (PS3.3 C.7.6.1.1.5)."""
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in context.attributes:
            _copy(dataset, context, keyword)


def plain(text: str) -> str:
    """Return a text in ASCII, which every character set holds: an object has the one of its film."""
    return text.encode("ascii", "backslashreplace").decode()


def _context(result: FilmResult) -> DicomContext | None:
    of_knees = (prediction.knee.radiograph.dicom for prediction in result.predictions)
    return next((found for found in (*of_knees, *(rejection.dicom for rejection in result.rejections)) if found), None)


def _problem(context: DicomContext) -> str | None:
    """Return why nothing can be put beside the film, without quoting it; None where nothing is in the way."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not _UID_LIKE.fullmatch(text_of(context, keyword)):
            return (
                f"the {keyword} is missing or holds other than digits and dots (PS3.5 section 9.1), so that nothing can refer to the film"
            )
    if UID_dictionary.get(text_of(context, "SOPClassUID"), ("", ""))[1] != "SOP Class":
        return "the SOP class is private, so that nothing can say what it refers to"
    if character_sets_of(context) is None:
        return "the character set is none of the standard's (PS3.3 C.12.1.1.2), so that the patient's name cannot be copied"
    return None


def character_sets_of(context: DicomContext) -> tuple[str, ...] | None:
    """Return the film's character sets as the standard spells them (PS3.3 C.12.1.1.2); None where one is unknown and needed.

    ``ISO-IR 100``, ``iso_ir 192`` and ``UTF-8`` are common. None is needed where everything copied from the film is ASCII.
    """
    spelt = [_SPELLINGS.get(_letters(name)) for name in text_of(context, "SpecificCharacterSet").split("\\")]
    if None not in spelt:
        return tuple(name for name in spelt if name is not None) if any(spelt) else ()
    copied = b"".join(context.attributes.get(keyword, b"") for keyword in (*_REQUIRED, *_OPTIONAL))
    return () if copied.isascii() and b"\x1b" not in copied else None


def _letters(name: str) -> str:
    return "".join(letter for letter in name.upper() if letter.isalnum())


_UID_LIKE = re.compile(r"[0-9][0-9.]{0,127}")
"""What can be referred to as it stands in archives: leading zeros and more than 64 characters break the rules, and are found."""
_SPELLINGS: MappingProxyType[str, str] = MappingProxyType(
    {_letters(name): name for name in python_encoding if not name.startswith("iso8859")}
    | {"": "", "ISOIR6": "", "ASCII": "", "USASCII": "", "UTF8": "ISO_IR 192", "LATIN1": "ISO_IR 100", "ISO88591": "ISO_IR 100"}
    | {
        f"ISO8859{part}": f"ISO_IR {number}"
        for part, number in ((2, 101), (3, 109), (4, 110), (5, 144), (6, 127), (7, 126), (8, 138), (9, 148))
    }
)
"""Character sets of the standard, by their letters and digits alone."""


def _copy(dataset: Dataset, context: DicomContext, keyword: str) -> None:
    """Copy a value to the bit: decoding it might alter it, and complain with it in the text."""
    value = context.attributes.get(keyword, b"")
    value += b" " * (len(value) % 2)
    tag = BaseTag(tag_for_keyword(keyword) or 0)
    dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)


def _answers(result: FilmResult) -> str:
    """Return everything answered about a film, as a text that is the same wherever and whenever it was computed."""
    records: list[dict[str, Any]] = []
    for prediction in result.predictions:
        knee = prediction.knee
        lengths = [[length.name, f"{length.value:.3f}", length.unit, _change(length.change)] for length in knee.measurements]
        records.append(
            prediction_record(prediction, heatmap_path=None)
            | {
                "probabilities": [f"{probability:.3f}" for probability in prediction.probabilities],
                "knee": [knee.side, [f"{edge:.1f}" for edge in knee.box], lengths],
                "change": _change(prediction.change),
                "heatmap": prediction.heatmap is not None,
            }
        )
    records += [dict(rejection_record(rejection)) for rejection in result.rejections]
    return json.dumps([{key: value for key, value in record.items() if key != "file"} for record in records])


def _change(change: Change | None) -> list[str] | None:
    return [f"{number:.3f}" for number in (change.days, change.before, change.now, change.noise or 0)] if change else None


def _encoded(dataset: Dataset) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
