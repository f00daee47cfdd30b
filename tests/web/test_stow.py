"""STOW-RS: what archives send, and what they are told (PS3.18 section 10.5)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from starlette.testclient import TestClient
from support.serving import Grades, png, serving

from kneexray.synthetic import draw_knee
from kneexray.types import REASONS
from kneexray.web.stow import FAILURES, NOT_OF_THE_STUDY, NOT_SUPPORTED, NOT_UNDERSTOOD

STUDY = generate_uid()
RELATED = 'multipart/related; type="application/dicom"; boundary=b'


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(Grades()) as client:
        yield client


def dicom(*, sop_class: str = DigitalXRayImageStorageForPresentation, pixels: bool = True) -> tuple[bytes, str]:
    """A DX object and its SOP Instance UID."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, generate_uid()
    dataset.PatientName, dataset.PatientID = "Mustermann^Erika", "4711"
    dataset.Modality = "DX" if pixels else "SR"
    if pixels:
        image = (draw_knee(2, size=96) * 255).astype(np.uint8)
        dataset.Rows, dataset.Columns = image.shape
        dataset.SamplesPerPixel, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 1, 8, 8, 7, 0
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelData = image.tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = io.BytesIO()
    pydicom.dcmwrite(data, dataset, enforce_file_format=True)
    return data.getvalue(), dataset.SOPInstanceUID


def body(*parts: bytes, kind: str = "application/dicom") -> bytes:
    return b"".join(b"--b\r\nContent-Type: %s\r\n\r\n%s\r\n" % (kind.encode(), part) for part in parts) + b"--b--\r\n"


def store(client: TestClient, *parts: bytes, study: str = "", **headers: str):
    path = f"/dicom-web/studies/{study}" if study else "/dicom-web/studies"
    return client.post(path, content=body(*parts), headers={"Content-Type": RELATED, **headers})


def test_stored_films_are_referenced_and_kept_as_a_visit(client: TestClient):
    (first, one), (second, two) = dicom(), dicom()
    answer = store(client, first, second)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    response = Dataset.from_json(answer.json())
    assert [item.ReferencedSOPInstanceUID for item in response.ReferencedSOPSequence] == [one, two]
    assert {item.ReferencedSOPClassUID for item in response.ReferencedSOPSequence} == {DigitalXRayImageStorageForPresentation}
    assert "FailedSOPSequence" not in response
    visit = answer.headers["Link"].partition(">")[0].lstrip("<")
    assert len(client.get(visit).json()["predictions"]) == 2
    assert "Mustermann" not in client.get(visit).text


def test_what_cannot_be_graded_fails_with_its_reason_beside_what_can(client: TestClient):
    (film, uid), (report, other) = dicom(), dicom(sop_class=ComprehensiveSRStorage, pixels=False)
    answer = store(client, film, report, png())
    assert answer.status_code == 202
    response = Dataset.from_json(answer.json())
    assert [item.ReferencedSOPInstanceUID for item in response.ReferencedSOPSequence] == [uid]
    assert [item.FailureReason for item in response.FailedSOPSequence] == [NOT_SUPPORTED, NOT_UNDERSTOOD]
    assert response.FailedSOPSequence[0].ReferencedSOPInstanceUID == other


def test_films_of_another_study_fail(client: TestClient):
    film, _ = dicom()
    assert store(client, film, study=STUDY).status_code == 200
    answer = store(client, film, study="1.2.3")
    assert answer.status_code == 409
    assert Dataset.from_json(answer.json()).FailedSOPSequence[0].FailureReason == NOT_OF_THE_STUDY
    assert store(client, film, study="not-a-uid").status_code == 422


def test_a_real_film_is_stored_whatever_the_gate_says_of_it(shared_data: Path):
    films = [path.read_bytes() for path in sorted((shared_data / "dicom").glob("*.dcm"))]
    with serving() as client:
        answer = store(client, *films)
        assert answer.status_code == 200, answer.text
        document = client.get(answer.headers["Link"].partition(">")[0].lstrip("<")).json()
    assert document["predictions"]
    assert all(rejection["reason"] not in FAILURES for rejection in document["rejections"])


def test_every_failure_has_a_known_reason():
    assert FAILURES.keys() <= REASONS.keys()


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (body(b"x"), "multipart/form-data; boundary=b", 415),
        (body(b"x"), 'multipart/related; type="application/dicom+xml"; boundary=b', 415),
        (body(b"x", kind="image/png"), RELATED, 415),
        (body(b"x"), "multipart/related", 400),
        (body(b"x")[:-6], RELATED, 400),
        (b"--b--\r\n", RELATED, 400),
        (b"", RELATED, 400),
        (b"nonsense", RELATED, 400),
    ],
)
def test_a_body_that_is_not_what_it_should_be_is_an_error(client: TestClient, content: bytes, kind: str, status: int):
    answer = client.post("/dicom-web/studies", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json()["remedy"]


def test_an_answer_in_another_form_than_json_is_not_to_be_had(client: TestClient):
    film, _ = dicom()
    assert store(client, film, Accept="application/dicom+xml").status_code == 406
    assert store(client, film, Accept="application/dicom+json").status_code == 200


def test_more_parts_than_are_taken_are_refused():
    with serving(Grades(), max_films=1) as client:
        assert store(client, b"x", b"y").status_code == 413


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 10_000), junk=st.binary(max_size=20))
def test_no_damage_breaks_the_server(client: TestClient, cut: int, junk: bytes):
    film, _ = dicom()
    assert store(client, film[:cut] + junk + film[cut + len(junk) :]).status_code in (200, 409)
