"""A DICOM node's surroundings for its tests: films, an archive that keeps what it gets, and the node as a process that can be killed."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt

from kneexray.node import Archive, NodeSettings, start
from kneexray.node.queue import Queue
from kneexray.node.spool import Spool
from kneexray.predict import Predictor
from kneexray.synthetic import draw_knee

IGNORED = [pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")]
"""Warnings of pynetdicom: where the peer was the first to close a connection, it leaves closing its own end to the garbage collector."""

NAME, PATIENT_ID, ACCESSION = "Rumpelstiltskin^Zebulon", "MRN-77123987", "ACC-5551212"
STUDY = "1.2.826.0.1.71"
SYNTAX = ExplicitVRLittleEndian


def film(number: int = 1, *, study: str = STUDY, **attributes: Any) -> Dataset:
    """A DX film of two drawn knees, patient left on the right."""
    values = _two_knees(number)
    dataset = Dataset()
    given = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": f"{study}.1.{number}",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1",
        "PatientName": NAME,
        "PatientID": PATIENT_ID,
        "PatientBirthDate": "19501231",
        "PatientSex": "O",
        "StudyDate": "20240102",
        "StudyTime": "101112",
        "StudyID": "17",
        "AccessionNumber": ACCESSION,
        "ReferringPhysicianName": "",
        "Modality": "DX",
        "ViewPosition": "AP",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": values.tobytes(),
        **attributes,
    }
    for keyword, value in given.items():
        setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = SYNTAX
    return dataset


@cache
def _two_knees(number: int) -> NDArray[np.uint16]:
    """Return 12-bit pixels (400, 800)."""
    pixels = np.concatenate([draw_knee(number % 5, size=400, seed=number), draw_knee(3, size=400, seed=number)[:, ::-1]], axis=1)
    return np.rint(pixels * 4095).astype("<u2")


def as_file(dataset: Dataset) -> bytes:
    """The bytes of a DICOM file."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def send(port: int, *datasets: Dataset, aet: str = "PACS", called: str = "KNEEXRAY", patience: float = 60) -> list[int | None]:
    """Send objects to a node, and return the status of each; None for no answer within ``patience`` seconds."""
    entity = AE(aet)
    entity.dimse_timeout = patience
    for sop_class, syntax in dict.fromkeys((d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return [None for _ in datasets]
    statuses = []
    for dataset in datasets:
        try:
            statuses.append(association.send_c_store(dataset).get("Status"))
        except RuntimeError:  # the association is gone
            statuses.append(None)
    if association.is_established:
        association.release()
    return statuses


class FakeArchive:
    """An archive that keeps the bytes of everything it gets, and answers as told."""

    def __init__(self, port: int = 0) -> None:
        self.stored: list[tuple[str, bytes]] = []
        self.answer: Callable[[str], int] = lambda uid: 0
        self._entity = AE("PACS")
        for sop_class in (ComprehensiveSRStorage, SecondaryCaptureImageStorage, EncapsulatedPDFStorage):
            self._entity.add_supported_context(sop_class)
        server = self._entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        assert server is not None
        self.port: int = server.server_address[1]
        self.place = Archive("PACS", "127.0.0.1", self.port)

    def _store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        status = self.answer(uid)
        if status == 0:
            self.stored.append((uid, event.encoded_dataset()))
        return status

    def datasets(self) -> list[Dataset]:
        """What it has, in the order of arrival."""
        return [pydicom.dcmread(io.BytesIO(data)) for _, data in self.stored]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._entity.shutdown()


def settings(spool: Path, archive: Archive, **changes: Any) -> NodeSettings:
    """Settings of a node in a hurry, on a free port."""
    return NodeSettings(**{"spool": spool, "archive": archive, "allow": ("PACS",), "port": 0, "quiet": 0.2, **changes})


def wait(condition: Callable[[], bool], *, seconds: float = 300) -> None:
    """Return once the condition holds; fail where it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this never came to pass"
        time.sleep(0.02)


class NodeProcess:
    """A node in a process of its own. ``fatal`` names a method in which it kills itself as by ``kill -9``: ``before Queue.sent``."""

    def __init__(self, spool: Path, archive: Archive, *, fatal: str = "") -> None:
        context = multiprocessing.get_context("forkserver")  # what is heavy to import is imported once
        context.set_forkserver_preload(["support.nodes", "onnxruntime", "kneexray.writers.dicom_sr", "kneexray.writers.dicom_sc"])
        ours, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(theirs, spool, archive, fatal), daemon=True)
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")  # or the child would run what a test of Streamlit left there
        try:
            self._process.start()
        finally:
            sys.modules["__main__"] = main
        theirs.close()
        try:
            self.port: int = ours.recv()
        except EOFError:  # it died before it listened
            self.port = 0
        ours.close()

    def died(self) -> int | None:
        """Wait for its end, and return the exit status."""
        self._process.join(timeout=300)
        return self._process.exitcode

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._process.kill()
        self.died()


def _run(port: Connection, spool: Path, archive: Archive, fatal: str) -> None:
    if fatal:
        when, _, place = fatal.partition(" ")
        owner, _, method = place.partition(".")
        part = {"Queue": Queue, "Spool": Spool}[owner]
        original = getattr(part, method)

        def last(*arguments: Any, **options: Any) -> None:
            if when == "after":
                original(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(part, method, last)
    node = start(settings(spool, archive), Predictor())
    port.send(node.port)
    signal.pause()
