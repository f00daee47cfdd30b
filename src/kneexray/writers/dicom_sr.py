"""``dicom/*-sr.dcm``: what was answered about a film as a Comprehensive SR of template TID 1500, Measurement Report (PS3.16).

Each knee is a group of TID 1410 for each model that answered: its box on the film, knee joint and side, the grade of each task as a
coded evaluation, the grades of the prediction set, the probability of each grade, and lengths. What was refused is a group of
TID 1501 with the reason. Codes come from :mod:`kneexray.tasks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import highdicom.sr as sr
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ComprehensiveSRStorage

from kneexray.geometry import applied
from kneexray.read.dicom_attributes import OWN_MODEL as NAME
from kneexray.render import wording
from kneexray.render.reading import english, reading_of
from kneexray.tasks import MEASUREMENTS, TASKS, Code
from kneexray.types import Change, DicomContext, FilmResult, Knee, Prediction, Rejection
from kneexray.version import __version__
from kneexray.writers.base import DISCLAIMER, all_warnings
from kneexray.writers.dicom_object import DicomWriter, derived_uid, plain, source_reference, text_of

if TYPE_CHECKING:
    from kneexray.render.knee_pictures import Album

SCHEME = "99KNEEXRAY"
KNEE_JOINT = Code("49076000", "SCT", "Knee joint")
SIDES: MappingProxyType[str | None, Code] = MappingProxyType({"R": Code("24028007", "SCT", "Right"), "L": Code("7771000", "SCT", "Left")})
REPORTED = Code("363679005", "SCT", "Imaging procedure")  # CID 100 has nothing closer to a radiograph
COVERAGE = Code("SET-COVERAGE", SCHEME, "Coverage of the prediction sets")
REFUSED = Code("REFUSED", SCHEME, "Image was not graded")
DAYS = Code("DAYS-SINCE", SCHEME, "Days since the earlier film")
YES, NO = Code("373066001", "SCT", "Yes"), Code("373067005", "SCT", "No")
UNITS = MappingProxyType({"1": codes.UCUM.NoUnits, "mm": codes.UCUM.Millimeter, "d": codes.UCUM.Day})


class FileWriter(DicomWriter):
    """Writes one report a film."""

    kind = "sr"
    sop_class = ComprehensiveSRStorage
    modality = "SR"
    series_number = 9001

    def _objects(self, result: FilmResult, context: DicomContext, album: Album | None) -> Iterator[tuple[str, Dataset]]:
        dataset = self._new(result, context, description="knee grades")
        dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
        dataset.PerformedProcedureCodeSequence = []
        dataset.ReferencedPerformedProcedureStepSequence = []
        dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(context)]
        dataset.CodingSchemeIdentificationSequence = [_scheme()]
        for element in self._report(result, context):
            dataset.add(element)
        yield "sr", dataset

    def _report(self, result: FilmResult, context: DicomContext) -> Dataset:
        """Return the root of the content tree."""
        groups = [
            self._group(knee, predictions, context, lengths=first)
            for knee, of_knee in result.by_knee().items()
            for first, predictions in _by_model(of_knee)
        ]
        refused = [_refusal(rejection, context) for rejection in dict.fromkeys(result.rejections)]
        observer = sr.DeviceObserverIdentifyingAttributes(
            uid=derived_uid("device", __version__), name=NAME, manufacturer_name=NAME, model_name=f"{NAME} {__version__}"
        )
        report = sr.MeasurementReport(
            observation_context=sr.ObservationContext(
                observer_device_context=sr.ObserverContext(codes.DCM.Device, observer_identifying_attributes=observer)
            ),
            procedure_reported=_concept(REPORTED),
            imaging_measurements=[*groups, *refused],
        )
        root: Dataset = report[0]
        warnings = (f"{wording.SIDES[p.knee.side]}: {warning}" for p in result.predictions for warning in all_warnings(p))
        whys = (f"Not graded: {rejection.detail}" for rejection in result.rejections)
        said = (text for predictions in result.by_knee().values() for text in _reading(predictions))
        root.ContentSequence.extend(_comment(text) for text in dict.fromkeys((DISCLAIMER, *said, *warnings, *whys)))
        return root

    def _group(
        self, knee: Knee, predictions: Sequence[Prediction], context: DicomContext, *, lengths: bool
    ) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
        first = predictions[0]
        asked = {prediction.task for prediction in predictions}
        evaluations = [evaluation for prediction in predictions for evaluation in _evaluations(prediction, asked=asked)]
        numbers = [number for prediction in predictions for number in _probabilities(prediction)]
        numbers.append(_number(COVERAGE, first.coverage))
        changes = [(TASKS[p.task].concept, p.change, "1") for p in predictions]
        if lengths:
            numbers += [_number(MEASUREMENTS[m.name].code, m.value, unit=m.unit) for m in knee.measurements]
            changes += [(MEASUREMENTS[m.name].code, m.change, m.unit) for m in knee.measurements]
        for code, change, unit in changes:
            if change is not None:
                numbers += _change_numbers(code, change, unit=unit)
                evaluations += _change_evaluations(code, change)
        if days := {change.days for _, change, _ in changes if change is not None}:
            numbers.append(_number(DAYS, days.pop(), unit="d"))
        digest = self._run.models.get(first.model_id, {}).get("SHA-256")
        film = source_reference(context, frame=knee.radiograph.frame)
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(wording.SIDES[knee.side], film, knee.side or "", str(knee.box)),
            referenced_region=sr.ImageRegion(
                graphic_type=sr.GraphicTypeValues.POLYLINE,
                graphic_data=_outline(knee),
                source_image=sr.SourceImageForRegion(
                    film.ReferencedSOPClassUID,
                    film.ReferencedSOPInstanceUID,
                    referenced_frame_numbers=[film.ReferencedFrameNumber] if "ReferencedFrameNumber" in film else None,
                ),
            ),
            algorithm_id=sr.AlgorithmIdentification(
                NAME, __version__, [plain(f"model: {first.model_id}"), *([f"SHA-256: {digest}"] if digest else [])]
            ),
            finding_sites=[_site(knee.side)],
            measurements=numbers,
            qualitative_evaluations=evaluations,
        )


def _reading(predictions: Sequence[Prediction]) -> Iterator[str]:
    """Yield findings and impression of a knee, each as one text that begins with its side."""
    if (reading := reading_of(predictions)) is None:
        return
    side = wording.SIDES[predictions[0].knee.side]
    for key, lines in (("findings", reading.findings()), ("impression", reading.impression())):
        yield f"{side}. {english(key)}: {' '.join(lines)}"


def _by_model(predictions: Sequence[Prediction]) -> Iterator[tuple[bool, list[Prediction]]]:
    """Yield what each model said of a knee, and whether it is the first of them."""
    models = dict.fromkeys(prediction.model_id for prediction in predictions)
    for number, model in enumerate(models):
        yield number == 0, [prediction for prediction in predictions if prediction.model_id == model]


def _evaluations(prediction: Prediction, *, asked: set[str]) -> Iterator[sr.QualitativeEvaluation]:
    task = TASKS[prediction.task]
    yield _evaluation(task.concept, task.codes[prediction.grade])
    in_set = Code(f"{task.concept.value}-SET", SCHEME, f"In prediction set: {task.concept.meaning}")
    for grade in prediction.prediction_set:
        yield _evaluation(in_set, task.codes[grade])
    for name, probability in wording.derived(prediction):
        if name not in asked:
            yield _evaluation(TASKS[name].concept, TASKS[name].codes[probability > 0.5])


def _probabilities(prediction: Prediction) -> Iterator[sr.Measurement]:
    task = TASKS[prediction.task]
    for grade, probability in enumerate(prediction.probabilities):
        name = Code(f"{task.concept.value}-P{grade}", SCHEME, f"Probability: {task.concept.value} {task.labels[grade]}")
        yield _number(name, float(probability))


def _change_numbers(code: Code, change: Change, *, unit: str) -> Iterator[sr.Measurement]:
    """Yield difference and noise of a change of what ``code`` names; of a task that is its expected grade."""
    yield _number(Code(f"{code.value}-CHANGE", SCHEME, f"Change: {code.meaning}"), change.difference, unit=unit)
    if change.noise is not None:
        yield _number(Code(f"{code.value}-NOISE", SCHEME, f"Repeat noise: {code.meaning}"), change.noise, unit=unit)


def _change_evaluations(code: Code, change: Change) -> Iterator[sr.QualitativeEvaluation]:
    if change.exceeds_noise is not None:
        name = Code(f"{code.value}-CHANGED", SCHEME, f"Beyond noise: {code.meaning}")
        yield _evaluation(name, YES if change.exceeds_noise else NO)


def _refusal(rejection: Rejection, context: DicomContext) -> sr.MeasurementsAndQualitativeEvaluations:
    film = source_reference(context)
    reason = Code(rejection.reason.upper(), SCHEME, rejection.reason.replace("_", " "))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking("Image without a grade", film, rejection.detail),
        qualitative_evaluations=[_evaluation(REFUSED, reason)],
        source_images=[sr.SourceImageForMeasurementGroup(film.ReferencedSOPClassUID, film.ReferencedSOPInstanceUID)],
    )


def _outline(knee: Knee) -> np.ndarray:
    """Return the corners of the part of a knee's box that is on the film, closed: (5, 2), column and row (PS3.3 C.18.6.1.1)."""
    height, width = knee.radiograph.pixels.shape
    x0, x1 = np.clip(knee.box[::2], 0, width)
    y0, y1 = np.clip(knee.box[1::2], 0, height)
    return applied(knee.radiograph.stored, [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])


def _tracking(name: str, film: Dataset, *parts: str) -> sr.TrackingIdentifier:
    return sr.TrackingIdentifier(uid=derived_uid("track", film.ReferencedSOPInstanceUID, *parts), identifier=name)


def _site(side: str | None) -> sr.FindingSite:
    return sr.FindingSite(_concept(KNEE_JOINT), laterality=_concept(SIDES[side]) if side else None)


def _evaluation(name: Code, value: Code) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(_concept(name), _concept(value))


def _number(name: Code, value: float, *, unit: str = "1") -> sr.Measurement:
    return sr.Measurement(_concept(name), round(value, 4), UNITS[unit])


def _concept(code: Code) -> sr.CodedConcept:
    return sr.CodedConcept(code.value, code.scheme, plain(code.meaning))


def _comment(text: str) -> sr.TextContentItem:
    return sr.TextContentItem(codes.DCM.Comment, plain(text), relationship_type=sr.RelationshipTypeValues.CONTAINS)


def _evidence(context: DicomContext) -> Dataset:
    """Return the film as evidence (PS3.3 C.17.2.3)."""
    study, series = Dataset(), Dataset()
    series.SeriesInstanceUID = text_of(context, "SeriesInstanceUID")
    series.ReferencedSOPSequence = [source_reference(context)]
    study.StudyInstanceUID = text_of(context, "StudyInstanceUID")
    study.ReferencedSeriesSequence = [series]
    return study


def _scheme() -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeName = "Private codes of KneeXRay, listed in its docs/dicom.md"
    item.CodingSchemeResponsibleOrganization = NAME
    return item
