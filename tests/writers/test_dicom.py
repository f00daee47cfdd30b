"""The DICOM objects: whose they are, what they say, that other programs find them valid, and that no name gets anywhere else."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from support.dciodvfy import errors_in, tool

pytest.importorskip("highdicom", reason="the dicom extra is not installed")
pytest.importorskip("reportlab", reason="the pdf extra is not installed")

from kneexray.predict import Predictor
from kneexray.read import read_bytes
from kneexray.synthetic import draw_knee
from kneexray.tasks import MEASUREMENTS, TASKS
from kneexray.types import REASONS, Change, DicomContext, FilmResult, Knee, Measurement, Prediction, Radiograph, Side, Study
from kneexray.writers import FolderWriter, RunFacts
from kneexray.writers.base import DISCLAIMER
from kneexray.writers.dicom_object import character_sets_of

FORMATS = ("dicom-sr", "dicom-sc", "dicom-pdf")
DX, CR = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1"
STUDY, SERIES, INSTANCE = "1.2.826.0.1.5", "1.2.826.0.1.5.1", "1.2.826.0.1.5.1.7"
SECRET, PATIENT_ID = "Doe^Jane", "HOSP-4711"


def film(values: np.ndarray | None = None, *, bits: int = 12, **attributes: Any) -> bytes:
    """Two drawn knees side by side on a DX film, patient left on the right, 600 x 1200 px; None leaves an attribute out."""
    if values is None:
        pixels = np.concatenate([draw_knee(2, size=600), draw_knee(4, size=600)[:, ::-1]], axis=1)
        values = np.rint(pixels * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)
    dataset = Dataset()
    given = {
        "SOPClassUID": DX,
        "SOPInstanceUID": INSTANCE,
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": SECRET,
        "PatientID": PATIENT_ID,
        "PatientBirthDate": "19500102",
        "PatientSex": "F",
        "StudyDate": "20240102",
        "StudyTime": "101112",
        "StudyID": "17",
        "AccessionNumber": "A-99",
        "ReferringPhysicianName": "House^Greg",
        "Modality": "DX",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": values.dtype.itemsize * 8,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "ImagerPixelSpacing": [0.2, 0.2],
        **attributes,
    }
    for keyword, value in given.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = values.astype(values.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = DX, INSTANCE
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def answered(study: Study, *, model: str = "m", warnings: tuple[str, ...] = (), sides: tuple[Side | None, ...] = ("R", "L")) -> FilmResult:
    """What a locator and models of every task would say of a film of :func:`film`."""
    predictions = []
    for radiograph in study.radiographs:
        for number, side in enumerate(sides):
            less = Change(days=430, before=4.8, now=4.21, noise=0.9)
            lengths = (Measurement("jsw_medial", 4.21, "mm", change=less), Measurement("jsw_lateral", 0.0612, "1"))
            box = (600.0 * number - 10, 0.0, 600.0 * number + 590, 600.0)
            knee = Knee(radiograph, box, side, side == "L", warnings=warnings, measurements=lengths)
            for task in map(TASKS.get, ("kl", "oa", "osteoporosis")):
                grade = len(task.labels) - 1
                probabilities = np.full(len(task.labels), 0.3 / grade)
                probabilities[grade] = 0.7
                heatmap = np.pad(np.ones((3, 3), np.float32), 3)
                name = f"{model}-osteoporosis" if task.name == "osteoporosis" else model
                change = Change(days=430, before=0.0, now=float(probabilities @ np.arange(grade + 1)), noise=0.5)
                said = (task.name, task.labels, probabilities, grade, (grade - 1, grade), 0.9, knee, name, heatmap)
                predictions.append(Prediction(*said, change=change, earlier=np.eye(grade + 1)[0]))
    return FilmResult(study.source, tuple(predictions), study.rejections)


def read(data: bytes, *, source: str = "x.dcm") -> Study:
    return read_bytes(data, source=source)


def write(folder: Path, *results: FilmResult, formats: tuple[str, ...] = FORMATS) -> tuple[str, ...]:
    with FolderWriter(folder, formats=formats, run=RunFacts(models={"m": {"SHA-256": "abc"}})) as writer:
        for result in results:
            writer.add(result)
        return writer.notes


def objects(folder: Path) -> dict[str, Dataset]:
    """The objects in an output folder, by the end of their names."""
    return {path.stem.split("-", 2)[2]: pydicom.dcmread(path) for path in sorted((folder / "dicom").glob("*.dcm"))}


def items(dataset: Dataset) -> list[Dataset]:
    """Every content item of a report, depth first."""
    return [one for child in dataset.get("ContentSequence", ()) for one in (child, *items(child))]


def said(dataset: Dataset, meaning: str) -> list[Any]:
    """The values of all content items of a name."""
    values = []
    for item in items(dataset):
        if item.ConceptNameCodeSequence and item.ConceptNameCodeSequence[0].CodeMeaning == meaning:
            if "ConceptCodeSequence" in item:
                values.append(item.ConceptCodeSequence[0].CodeMeaning)
            elif "MeasuredValueSequence" in item:
                values.append(float(item.MeasuredValueSequence[0].NumericValue))
            else:
                values.append(item.get("TextValue"))
    return values


# --- whose they are -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "Ιωάννου^Μαρία=王^小東"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (None, "Doe^Jane"),
    ],
)
def test_patient_and_study_are_copied_to_the_bit(tmp_path: Path, character_set: Any, name: str) -> None:
    data = film(SpecificCharacterSet=character_set, PatientName=name, StudyDescription="Knie AP")
    assert write(tmp_path, answered(read(data))) == ()
    source, made = pydicom.dcmread(io.BytesIO(data)), objects(tmp_path)
    raw = {element.tag: element.value for element in pydicom.dcmread(io.BytesIO(data)).values()}
    assert set(made) == {"sr", "sc", "pdf"}
    for dataset in made.values():
        for keyword in (
            *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID"),
            *("AccessionNumber", "ReferringPhysicianName", "StudyDescription"),
        ):
            assert dataset.get_item(keyword).value == raw[dataset.get_item(keyword).tag]
        assert dataset.PatientName == source.PatientName == name
        assert dataset.SOPInstanceUID not in (INSTANCE, source.file_meta.MediaStorageSOPInstanceUID)
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert len({dataset.SeriesInstanceUID for dataset in made.values()} | {SERIES}) == 4
    assert len({dataset.SOPInstanceUID for dataset in made.values()} | {INSTANCE}) == 4


def test_missing_identifiers_are_left_empty_and_none_is_invented(tmp_path: Path) -> None:
    blank = dict.fromkeys(("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyTime", "StudyID", "ReferringPhysicianName"))
    write(tmp_path, answered(read(film(**blank))))
    for dataset in objects(tmp_path).values():
        assert all(keyword in dataset and not dataset[keyword].value for keyword in blank)


def test_the_same_answers_have_the_same_uids_and_other_answers_have_others(tmp_path: Path) -> None:
    study = read(film())
    other = read(film(SOPInstanceUID=f"{INSTANCE}.1"), source="y.dcm")
    first = answered(study)
    variants = {
        "first": first,
        "again": answered(read(film(), source="moved/y.dcm")),
        "model": answered(study, model="n"),
        "warned": answered(study, warnings=("cut off",)),
        "film": answered(other),
        "bare": replace(first, predictions=tuple(replace(p, heatmap=None) for p in first.predictions)),
    }
    uids = {}
    for name, result in variants.items():
        write(tmp_path / name, result, formats=("dicom-sr", "dicom-pdf") if name in ("first", "again") else ("dicom-sr",))
        uids[name] = {kind: dataset.SOPInstanceUID for kind, dataset in objects(tmp_path / name).items()}
    assert uids["first"] == uids["again"]
    assert len({uid for name in uids for uid in uids[name].values()}) == 6
    series = [objects(tmp_path / name)["sr"].SeriesInstanceUID for name in ("first", "film")]
    assert series[0] == series[1]


# --- what they say ------------------------------------------------------------------------------------------------------------


def test_the_report_says_everything_answered(tmp_path: Path) -> None:
    write(tmp_path, answered(read(film()), warnings=("cut off",)))
    report = objects(tmp_path)["sr"]
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert said(report, "Kellgren-Lawrence grade") == ["Kellgren-Lawrence grade 4"] * 2
    assert said(report, "In prediction set: Kellgren-Lawrence grade") == ["Kellgren-Lawrence grade 3", "Kellgren-Lawrence grade 4"] * 2
    assert said(report, "Radiographic knee osteoarthritis (KL >= 2)") == ["Present"] * 2
    assert said(report, "Bone density class") == ["Osteoporosis"] * 2
    assert said(report, "Laterality") == ["Right", "Right", "Left", "Left"]
    assert said(report, "Finding Site") == ["Knee joint"] * 4
    assert sum(sum(said(report, f"Probability: KL {grade}")) for grade in range(5)) == pytest.approx(2)
    assert said(report, "Minimum medial tibiofemoral joint space width") == [4.21, 4.21]
    assert said(report, "Minimum lateral tibiofemoral joint space width") == [0.0612, 0.0612]
    assert said(report, "Algorithm Name") == ["KneeXRay"] * 4
    assert said(report, "Algorithm Parameters")[:3] == ["model: m", "SHA-256: abc", "model: m-osteoporosis"]
    assert said(report, "Comment") == [DISCLAIMER, "Right knee: cut off", "Left knee: cut off"]
    assert said(report, "Observer Type") == ["Device"]
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0]
    assert (evidence.StudyInstanceUID, evidence.ReferencedSeriesSequence[0].SeriesInstanceUID) == (STUDY, SERIES)
    regions = [item for item in items(report) if item.ValueType == "SCOORD"]
    assert [float(edge) for edge in regions[0].GraphicData] == [0, 0, 590, 0, 590, 600, 0, 600, 0, 0]  # what is on the film
    assert regions[2].ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == INSTANCE


def test_highdicom_reads_the_report_back(tmp_path: Path) -> None:
    import highdicom.sr as sr

    write(tmp_path, answered(read(film())), formats=("dicom-sr",))
    (path,) = (tmp_path / "dicom").iterdir()
    groups = sr.srread(path).content.get_planar_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Right knee", "Right knee", "Left knee", "Left knee"]
    assert groups[0].tracking_uid == groups[1].tracking_uid != groups[2].tracking_uid


def test_changes_since_an_earlier_film(tmp_path: Path) -> None:
    write(tmp_path, answered(read(film())), formats=("dicom-sr",))
    report = objects(tmp_path)["sr"]
    assert said(report, "Beyond noise: Kellgren-Lawrence grade") == ["Yes"] * 2
    assert said(report, "Beyond noise: Minimum medial tibiofemoral joint space width") == ["No"] * 2
    numbers = {
        item.ConceptNameCodeSequence[0].CodeValue: item.MeasuredValueSequence[0] for item in items(report) if item.ValueType == "NUM"
    }
    assert float(numbers["JSW-MED-CHANGE"].NumericValue) == pytest.approx(-0.59)
    assert numbers["JSW-MED-CHANGE"].MeasurementUnitsCodeSequence[0].CodeValue == "mm"
    assert (float(numbers["DAYS-SINCE"].NumericValue), numbers["DAYS-SINCE"].MeasurementUnitsCodeSequence[0].CodeValue) == (430, "d")
    assert float(numbers["KL-NOISE"].NumericValue) == 0.5


def test_osteoarthritis_follows_from_the_grade_where_it_was_not_asked(tmp_path: Path) -> None:
    result = answered(read(film()))
    asked = replace(result, predictions=tuple(p for p in result.predictions if p.task == "kl"))
    write(tmp_path, asked, formats=("dicom-sr",))
    assert said(objects(tmp_path)["sr"], "Radiographic knee osteoarthritis (KL >= 2)") == ["Present"] * 2


def test_a_refused_film_is_answered_with_the_reason_and_has_no_picture(tmp_path: Path) -> None:
    blank = film(np.full((600, 600), 7, np.uint16))
    result = Predictor().predict_study(read(blank))
    write(tmp_path, result)
    made = objects(tmp_path)
    assert set(made) == {"sr", "pdf"}
    assert said(made["sr"], "Image was not graded") == ["blank"]
    assert said(made["sr"], "Comment")[1].startswith("Not graded: the image holds (almost) one grey value only")
    assert made["sr"].PatientName == SECRET
    assert all(not errors_in(path) for path in (tmp_path / "dicom").iterdir())


def test_codes_fit_into_their_elements() -> None:
    for task in TASKS.values():
        assert len(task.codes) == len(task.labels)
        for code in (task.concept, *task.codes):
            assert len(code.value) <= 16
            assert len(f"In prediction set: {code.meaning}") <= 64
    assert all(len(quantity.code.value) <= 16 and len(quantity.code.meaning) <= 64 for quantity in MEASUREMENTS.values())
    assert all(len(reason) <= 16 for reason in REASONS), "DICOM's limit for the value of a code"


# --- the picture and the document ---------------------------------------------------------------------------------------------


def picture(folder: Path, data: bytes) -> np.ndarray:
    write(folder, answered(read(data)), formats=("dicom-sc",))
    dataset = objects(folder)["sc"]
    assert dataset.BurnedInAnnotation == "YES"
    assert dataset.PhotometricInterpretation == "RGB"
    return dataset.pixel_array


@pytest.mark.parametrize("case", ["inverse", "eight", "sixteen", "windowed"])
def test_the_picture_shows_the_film_as_a_light_box_does(tmp_path: Path, case: str) -> None:
    plain = picture(tmp_path / "plain", film())
    values = pydicom.dcmread(io.BytesIO(film())).pixel_array
    variants: dict[str, Callable[[], bytes]] = {
        "inverse": lambda: film(4095 - values, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"),
        "eight": lambda: film(bits=8),
        "sixteen": lambda: film(bits=16),
        "windowed": lambda: film(values // 2, WindowCenter=1024, WindowWidth=2048),
    }
    shown = picture(tmp_path / case, variants[case]())
    assert shown.shape == plain.shape
    assert np.abs(shown.astype(int) - plain.astype(int)).mean() < 2
    strip = shown[:640]
    assert strip[300:500].mean() > 90  # bone, not its negative
    assert shown[-20:].max() < 60  # the margin under the caption


def test_the_picture_has_boxes_heat_and_words(tmp_path: Path) -> None:
    shown = picture(tmp_path, film()).astype(int)
    blue = (np.abs(shown - [0x35, 0xC9, 0xF2]) < 3).all(axis=-1)
    assert blue[:640, 628:634].sum() > 3 * 600  # the edge of the left knee's box: 590 px of 1200, drawn 3 px wide on 1280
    heat = (shown[..., 0] - shown[..., 2] > 60).mean(axis=(0, 1))
    assert 0.02 < heat < 0.3
    assert (shown[660:] > 200).all(axis=-1).sum() > 1000


@pytest.mark.parametrize(("sides", "image", "series"), [(("R", "L"), "B", None), (("L",), "L", None), ((None,), None, "")])
def test_the_picture_says_which_side(tmp_path: Path, sides: tuple[Side | None, ...], image: str | None, series: str | None) -> None:
    write(tmp_path, answered(read(film()), sides=sides), formats=("dicom-sc",))
    dataset = objects(tmp_path)["sc"]
    assert (dataset.get("ImageLaterality"), dataset.get("Laterality")) == (image, series)


def test_a_film_compressed_with_loss_stays_one(tmp_path: Path) -> None:
    data = film(LossyImageCompression="01", LossyImageCompressionRatio=9, LossyImageCompressionMethod="ISO_10918_1")
    write(tmp_path, answered(read(data)), formats=("dicom-sc",))
    dataset = objects(tmp_path)["sc"]
    assert (dataset.LossyImageCompression, dataset.LossyImageCompressionMethod) == ("01", "ISO_10918_1")


def test_the_document_holds_the_pages_of_its_film(tmp_path: Path) -> None:
    write(tmp_path, answered(read(film())), formats=("dicom-pdf",))
    dataset = objects(tmp_path)["pdf"]
    pdf = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert pdf.count(b"/Type /Page\n") == 3
    (path,) = (tmp_path / "dicom").iterdir()
    assert tool("dcm2pdf", path, tmp_path / "out.pdf").returncode == 0
    assert (tmp_path / "out.pdf").read_bytes() == pdf


# --- that they are valid ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"SOPClassUID": CR, "Modality": "CR"}, {"SpecificCharacterSet": None, "PatientID": ""}])
@pytest.mark.parametrize("sides", [("R", "L"), (None,)])
def test_other_programs_find_nothing_wrong(tmp_path: Path, changes: dict[str, Any], sides: tuple[Side | None, ...]) -> None:
    write(tmp_path, answered(read(film(**changes)), sides=sides, warnings=("naïve ≥ 2",)))
    written = sorted((tmp_path / "dicom").iterdir())
    assert len(written) == 3
    assert {path.name: errors_in(path) for path in written} == {path.name: [] for path in written}


def test_frames_are_told_apart(tmp_path: Path) -> None:
    values = np.rint(np.stack([draw_knee(g, size=300) for g in (1, 3)]) * 255).astype(np.uint8)
    one = pydicom.dcmread(io.BytesIO(film(values[0], bits=8)))
    one.SOPClassUID, one.NumberOfFrames, one.PixelData = "1.2.840.10008.5.1.4.1.1.7.2", 2, values.tobytes()
    buffer = io.BytesIO()
    one.save_as(buffer)
    write(tmp_path, answered(read(buffer.getvalue()), sides=("R",)))
    made = objects(tmp_path)
    assert set(made) == {"sr", "pdf", "sc-1", "sc-2"}
    assert made["sc-1"].SOPInstanceUID != made["sc-2"].SOPInstanceUID
    assert made["sc-2"].SourceImageSequence[0].ReferencedFrameNumber == 2
    assert all(not errors_in(path) for path in (tmp_path / "dicom").iterdir())


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_gdcm.dcm", "MR_small.dcm", "JPGExtended.dcm", "chrH31.dcm", "examples_palette.dcm"])
def test_files_of_pydicom_are_written_or_left_out_but_never_fail(tmp_path: Path, name: str) -> None:
    path = next(Path(pydicom.__file__).parent.rglob(name), None)
    if path is None:
        pytest.skip(f"this pydicom does not ship {name}")
    write(tmp_path, Predictor(roi_mode="whole").predict_study(read(path.read_bytes())))
    assert all(not errors_in(one) for one in (tmp_path / "dicom").glob("*"))


@pytest.mark.parametrize("mode", ["auto", "whole"])
def test_real_films(shared_data: Path, tmp_path: Path, mode: Any) -> None:
    write(tmp_path, *Predictor(tasks=("kl", "oa"), roi_mode=mode).predict([shared_data / "dicom"]))
    written = sorted((tmp_path / "dicom").iterdir())
    assert len(written) >= 4
    assert {path.name: errors_in(path) for path in written} == {path.name: [] for path in written}


# --- what gets none, and privacy ----------------------------------------------------------------------------------------------


def test_ordinary_images_get_no_patient_and_a_note(tmp_path: Path) -> None:
    pixels = draw_knee(2)
    result = answered(Study("knee.png", (Radiograph(pixels, "knee.png"),)))
    notes = write(tmp_path, result, answered(read(film())))
    assert len(notes) == 3
    assert all("1 file(s): no DICOM film, which alone names its patient and study." in note for note in notes)
    assert set(objects(tmp_path)) == {"sr", "sc", "pdf"}


def test_the_command_tells_what_was_left_out(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray((draw_knee(2) * 255).astype(np.uint8)).save(tmp_path / "knee.png")
    command = [sys.executable, "-m", "kneexray", "predict", tmp_path / "knee.png", "--out", tmp_path / "out", "--format", "json,dicom-sc"]
    answer = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    assert "dicom-sc: nothing was written for 1 file(s)" in answer.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["outputs"]["notes"][0] in answer.stdout
    assert not (tmp_path / "out" / "dicom").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"StudyInstanceUID": None}, "the StudyInstanceUID is missing or holds other than digits"),
        ({"SOPClassUID": "1.2.3.4"}, "the SOP class is private"),
    ],
)
def test_a_film_that_nothing_can_refer_to_is_left_out(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    notes = write(tmp_path, answered(read(film(**changes))))
    assert len(notes) == 3
    assert all(reason in note and SECRET not in note and PATIENT_ID not in note for note in notes)
    assert not (tmp_path / "dicom").exists()


@pytest.mark.parametrize(("old", "new"), [(b"ISO_IR 100", b"KLINGON 42"), (b"1.2.826.0.1.5\0", b"1.2.826.0.01.5")])
def test_headers_that_others_write_badly_get_their_objects_without_a_warning(tmp_path: Path, old: bytes, new: bytes) -> None:
    assert write(tmp_path, answered(read(film().replace(old, new, 1)))) == ()
    assert len(list((tmp_path / "dicom").iterdir())) == 3


def test_the_patient_is_named_in_the_objects_and_nowhere_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    study = read(film())
    result = answered(study)
    write(tmp_path, result, formats=(*FORMATS, "csv", "json", "html", "pdf"))
    for text in (repr(study), repr(result.predictions[0].knee.radiograph.dicom), caplog.text):
        assert SECRET not in text
        assert PATIENT_ID not in text
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            assert SECRET.encode() not in path.read_bytes()
            assert PATIENT_ID.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("said", "meant"), [("ISO-IR 100", "ISO_IR 100"), ("iso_ir 100", "ISO_IR 100"), ("ISO IR 192", "ISO_IR 192"), ("UTF-8", "ISO_IR 192")]
)
def test_misspelt_character_sets_are_mapped(said: str, meant: str) -> None:
    assert character_sets_of(DicomContext({"SpecificCharacterSet": said.encode()})) == (meant,)


def test_unknown_character_sets_matter_where_they_are_needed() -> None:
    assert character_sets_of(DicomContext({"SpecificCharacterSet": b"KLINGON", "PatientName": b"Doe"})) == ()
    assert character_sets_of(DicomContext({"SpecificCharacterSet": b"KLINGON", "PatientName": b"\xe9"})) is None
    assert character_sets_of(DicomContext({"SpecificCharacterSet": b"\\ISO 2022-IR 87"})) == ("", "ISO 2022 IR 87")
