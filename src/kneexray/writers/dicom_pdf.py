"""``dicom/*-pdf.dcm``: the pages of a film from the PDF report, as an Encapsulated PDF (PS3.3 A.45.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from kneexray.types import DicomContext, FilmResult
from kneexray.writers.dicom_object import DicomWriter, source_reference
from kneexray.writers.pdf import Document

if TYPE_CHECKING:
    from kneexray.render.knee_pictures import Album


class FileWriter(DicomWriter):
    """Writes one document a film."""

    kind = "pdf"
    sop_class = EncapsulatedPDFStorage
    modality = "DOC"
    series_number = 9003

    def _objects(self, result: FilmResult, context: DicomContext, album: Album | None) -> Iterator[tuple[str, Dataset]]:
        document = Document(run=replace(self._run, command=""))  # it names folders, which are nothing to an archive
        document.add(result)
        pdf = document.finish()
        dataset = self._new(result, context, description="report")
        dataset.ConversionType = "WSD"
        dataset.AcquisitionDateTime = ""
        dataset.BurnedInAnnotation = "YES"
        dataset.SourceInstanceSequence = [source_reference(context)]
        dataset.DocumentTitle = "Knee radiograph report, for research use"
        dataset.ConceptNameCodeSequence = []
        dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
        dataset.EncapsulatedDocumentLength = len(pdf)
        dataset.EncapsulatedDocument = pdf + bytes(len(pdf) % 2)
        yield "pdf", dataset
