"""The DICOM node at work between a sender and an archive."""

from __future__ import annotations

import gc
import io
import logging
import threading
from collections.abc import Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="the serve extra is not installed")
pytest.importorskip("highdicom", reason="the dicom extra is not installed")

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ComprehensiveSRStorage, JPEG2000Lossless, SecondaryCaptureImageStorage
from pynetdicom import AE
from pynetdicom.presentation import VerificationPresentationContexts
from support.nodes import ACCESSION, IGNORED, NAME, PATIENT_ID, STUDY, FakeArchive, film, send, settings, wait

from kneexray.errors import ConfigError
from kneexray.node import Archive, Node, queue, start
from kneexray.node.settings import FORMATS
from kneexray.predict import Predictor
from kneexray.types import FilmResult, Study

pytestmark = IGNORED


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()  # what is ignored here must not come to light in other tests


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor()


@pytest.fixture
def archive() -> Iterator[FakeArchive]:
    with FakeArchive() as archive:
        yield archive


@pytest.fixture
def node(tmp_path: Path, archive: FakeArchive, predictor: Predictor) -> Iterator[Node]:
    with start(settings(tmp_path / "spool", archive.place), predictor) as node:
        yield node


def test_a_study_is_answered_in_itself_and_answers_are_let_go(node: Node, archive: FakeArchive) -> None:
    assert send(node.port, film(1), film(2)) == [0, 0]
    wait(lambda: node.counts().get("result sent") == 4)
    made = archive.datasets()
    assert sorted(d.SOPClassUID for d in made) == sorted(2 * [ComprehensiveSRStorage, SecondaryCaptureImageStorage])
    assert len({d.SOPInstanceUID for d in made}) == 4
    for dataset in made:
        assert (dataset.StudyInstanceUID, dataset.PatientName, dataset.PatientID) == (STUDY, NAME, PATIENT_ID)
    assert {d.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID for d in made if d.Modality == "SR"} == {STUDY}
    renamed = film(9, ManufacturerModelName="KneeXRay")
    before = node.counts()
    assert send(node.port, *made, film(1), renamed) == [0] * 6
    assert node.counts() == before


def test_results_are_sent_as_they_lie_in_the_spool(tmp_path: Path, archive: FakeArchive, predictor: Predictor) -> None:
    with start(settings(tmp_path, archive.place, formats=FORMATS), predictor) as node:
        send(node.port, film(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg"))
        wait(lambda: node.counts().get("result sent") == 3)
    local = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, (tmp_path / "results").rglob("*.dcm"))}
    for dataset in archive.datasets():
        raw, kept = (dict(one.items()) for one in (dataset, local.pop(dataset.SOPInstanceUID)))
        assert {tag: raw[tag].value for tag in raw} == {tag: kept[tag].value for tag in kept}
    assert not local


def test_compressed_films_are_taken(node: Node, archive: FakeArchive) -> None:
    dataset = film()
    values = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
    dataset.PixelData = encapsulate([bytes(imagecodecs.jpeg2k_encode(values, codecformat="j2k", level=0, reversible=True))])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    assert send(node.port, dataset) == [0]
    wait(lambda: len(archive.stored) == 2)


def test_only_known_callers_get_in(node: Node) -> None:
    assert send(node.port, film(), aet="STRANGER") == [None]
    assert send(node.port, film(), called="OTHER") == [None]
    assert node.counts() == {}
    entity = AE("PACS")
    entity.requested_contexts = VerificationPresentationContexts
    association = entity.associate("127.0.0.1", node.port, ae_title="KNEEXRAY")
    assert association.send_c_echo().Status == 0
    association.release()


def test_too_much_and_too_large(tmp_path: Path, archive: FakeArchive, predictor: Predictor) -> None:
    large = film(5, PixelData=bytes(2 << 20))
    with start(settings(tmp_path, archive.place, quiet=600, most_a_minute=2, most_bytes=1 << 20), predictor) as node:
        assert send(node.port, film(1)) == [0]
        assert send(node.port, large, patience=1) == [None]
        assert send(node.port, film(2), film(3), film(4)) == [0, 0xA700, 0xA700]
        assert node.counts()["film received"] == 2


def test_objects_that_make_no_sense_are_refused(node: Node) -> None:
    nameless = film()
    del nameless.StudyInstanceUID
    assert send(node.port, nameless) == [0xA900]
    assert node.counts() == {}


def test_a_film_that_is_none_gets_no_answer_and_stops_nobody(node: Node, archive: FakeArchive) -> None:
    assert send(node.port, film(1, PixelData=b"1234"), film(2, Modality="MR"), film(3)) == [0, 0, 0]
    wait(lambda: node.counts() == {"film graded": 3, "result sent": 3})
    assert [d.Modality for d in archive.datasets()].count("SR") == 2  # of the first too: why it got no grade


def test_a_film_that_cannot_be_graded_is_kept_and_may_come_again(
    node: Node, archive: FakeArchive, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(study: Study) -> FilmResult:
        raise ValueError(f"the patient {NAME}")

    with monkeypatch.context() as patch:
        patch.setattr(predictor, "predict_study", broken)
        send(node.port, film())
        wait(lambda: node.counts() == {"film failed": 1})
    wait(lambda: "film 1 cannot be graded" in caplog.text)
    assert "ValueError" in caplog.text
    assert NAME not in caplog.text
    assert send(node.port, film()) == [0]
    wait(lambda: len(archive.stored) == 2)


def test_an_archive_that_is_away_gets_everything_later_and_once(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(queue, "LONGEST_WAIT", 0.4)
    with FakeArchive() as archive:
        pass
    with start(settings(tmp_path, archive.place), predictor) as node:
        send(node.port, film(1), film(2))
        wait(lambda: node.counts().get("result waiting") == 4)
        with FakeArchive(archive.port) as back:
            busy = {"left": 3}

            def answer(uid: str) -> int:
                busy["left"] -= 1
                return 0xA700 if busy["left"] >= 0 else 0

            back.answer = answer
            wait(lambda: node.counts().get("result sent") == 4)
            assert len({uid for uid, _ in back.stored}) == len(back.stored) == 4


def test_an_archive_may_refuse_one_and_take_the_others(
    tmp_path: Path, archive: FakeArchive, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(queue, "LONGEST_WAIT", 0.02)
    refused: list[str] = []

    def answer(uid: str) -> int:
        refused[:] = refused or [uid]
        return 0xA900 if uid in refused else 0x0111 if len(archive.stored) == 2 else 0

    archive.answer = answer
    with start(settings(tmp_path, archive.place), predictor) as node:
        send(node.port, film(1), film(2))
        wait(lambda: node.counts() == {"film graded": 2, "result sent": 3, "result refused": 1})
    wait(lambda: "for good: C-STORE status 0xA900" in caplog.text)
    assert len(archive.stored) == 2, "of the third it said that it has it"


def test_old_films_leave_the_spool(tmp_path: Path, archive: FakeArchive, predictor: Predictor) -> None:
    with start(settings(tmp_path, archive.place, keep_days=0), predictor) as node:
        send(node.port, film())
        wait(lambda: len(archive.stored) == 2 and node.counts() == {})
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["lock.sqlite", "queue.sqlite"]


def test_the_patient_is_in_no_log(node: Node, archive: FakeArchive, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    odd = film(4, PatientName=NAME, PixelData=b"12")
    send(node.port, film(1), odd)
    wait(lambda: node.counts().get("result sent") == 3)
    send(node.port, *archive.datasets(), film(1))
    wait(lambda: "is graded" in caplog.text)
    for secret in (NAME, NAME.split("^")[0], PATIENT_ID, ACCESSION, "19501231"):
        assert secret not in caplog.text
    own = [record.getMessage() for record in caplog.records if record.name.startswith("kneexray")]
    assert own
    assert not any(STUDY in message for message in own), "nor a UID, in what is ours"
    assert not any(STUDY in path.name or NAME in path.name for path in tmp_path.rglob("*"))


def test_a_port_in_use_is_an_error_that_says_so(tmp_path: Path, node: Node, archive: FakeArchive, predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match=f"port {node.port}"):
        start(settings(tmp_path / "other", archive.place, port=node.port), predictor)


class StowServer:
    """A DICOMweb archive: keeps what it is sent, and answers with what is in ``answers``, the last first, then with 200."""

    def __init__(self) -> None:
        self.stored: list[Dataset] = []
        self.answers = [(503, b""), (409, b""), (202, b'{"00081198": {"vr": "SQ", "Value": [{}]}}')]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status, answer = outer.answers.pop() if outer.answers else (200, b'{"00081198": {"vr": "SQ", "Value": []}}')
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/dicom-web/studies"
                if status == 200:
                    message = BytesParser().parsebytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body)
                    parts: Any = message.get_payload()
                    assert [part.get_content_type() for part in parts] == ["application/dicom"]
                    start, end = body.index(b"\r\n\r\n") + 4, body.rindex(b"\r\n--")
                    outer.stored.append(pydicom.dcmread(io.BytesIO(body[start:end])))
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = Archive(url=f"http://127.0.0.1:{self._server.server_port}/dicom-web")
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_results_go_by_stow(tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "FIRST_WAIT", 0.05)
    server = StowServer()
    try:
        with start(settings(tmp_path, server.place), predictor) as node:
            send(node.port, film())
            wait(lambda: node.counts().get("result sent") == 2)
    finally:
        server.close()
    assert [d.StudyInstanceUID for d in server.stored] == [STUDY, STUDY]
    assert {d.Modality for d in server.stored} == {"SR", "OT"}
