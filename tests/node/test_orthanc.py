"""The DICOM node with a real archive: Orthanc (Debian: orthanc, orthanc-dicomweb), which sends it films and gets its answers."""

from __future__ import annotations

import gc
import io
import json
import shutil
import socket
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

pytest.importorskip("pynetdicom", reason="the serve extra is not installed")
pytest.importorskip("highdicom", reason="the dicom extra is not installed")

from pydicom.dataset import Dataset
from support.dciodvfy import errors_in
from support.nodes import IGNORED, as_file, film, send, settings, wait

from kneexray.node import Archive, queue, start
from kneexray.predict import Predictor

pytestmark = [*IGNORED, pytest.mark.slow]

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
SEEN = """
function ReceivedInstanceFilter(dicom, origin)
  local file = io.open("{log}", "a")
  file:write(dicom.SOPInstanceUID, "\\n")
  file:close()
  return true
end
"""


class Orthanc:
    """An Orthanc of its own in ``folder``, called PACS, that notes the UID of everything it is sent before it stores it."""

    def __init__(self, folder: Path, *, plugins: tuple[Path, ...] = ()) -> None:
        program = shutil.which("Orthanc")
        if program is None:
            pytest.skip("Orthanc (Debian: orthanc) is not installed")
        self._log = folder / "seen.txt"
        (folder / "seen.lua").write_text(SEEN.format(log=self._log))
        self.dicom_port, self.http_port = free_port(), free_port()
        facts = {
            "Name": "test",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "DicomAet": "PACS",
            "DicomPort": self.dicom_port,
            "HttpPort": self.http_port,
            "AuthenticationEnabled": False,
            "LuaScripts": [str(folder / "seen.lua")],
            "Plugins": [str(plugin) for plugin in plugins],
        }
        (folder / "orthanc.json").write_text(json.dumps(facts))
        self._command = [program, str(folder / "orthanc.json")]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait(self._answers)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            self.get("/system")
        except OSError:
            return False
        return True

    def ask(self, path: str, body: bytes | None = None, *, method: str | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data=body, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())

    def get(self, path: str) -> Any:
        return json.loads(self.ask(path))

    def forward(self, dataset: Dataset, *, port: int) -> None:
        """Take an object in, and send it to the node at ``port``."""
        instance = json.loads(self.ask("/instances", as_file(dataset)))["ID"]
        node = {"AET": "KNEEXRAY", "Host": "127.0.0.1", "Port": port, "Timeout": 60}
        self.ask("/modalities/node", json.dumps(node).encode(), method="PUT")
        self.ask("/modalities/node/store", instance.encode())

    def answers(self) -> list[Dataset]:
        """The objects that it got from the node."""
        files = (self.ask(f"/instances/{instance}/file") for instance in self.get("/instances"))
        return [dataset for dataset in (pydicom.dcmread(io.BytesIO(data)) for data in files) if dataset.get("Manufacturer") == "KneeXRay"]

    def seen(self) -> Counter[str]:
        """How often each object arrived."""
        return Counter(self._log.read_text().split()) if self._log.exists() else Counter()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(queue, "FIRST_WAIT", 0.2)
    monkeypatch.setattr(queue, "LONGEST_WAIT", 1.0)
    yield
    gc.collect()


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor()


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    orthanc = Orthanc(tmp_path)
    yield orthanc
    orthanc.kill()


def real_film(shared: Path, number: int) -> Dataset:
    """A public AP film of two knees as a DX object, with the patient of the drawn films."""
    path = sorted((shared / "wani" / "normal").iterdir())[number]
    values = np.asarray(Image.open(path).convert("L"))
    return film(
        number,
        Rows=values.shape[0],
        Columns=values.shape[1],
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelData=values.tobytes() + bytes(values.size % 2),
    )


def check(made: list[Dataset], spool: Path, folder: Path) -> None:
    """The objects are those in the spool, and valid."""
    local = {dataset.SOPInstanceUID: dataset for dataset in map(pydicom.dcmread, (spool / "results").rglob("*.dcm"))}
    for dataset in made:
        assert dataset == local[dataset.SOPInstanceUID]
        path = folder / f"{dataset.SOPInstanceUID}-{'sr' if dataset.Modality == 'SR' else 'sc'}.dcm"
        dataset.save_as(path)
        assert errors_in(path) == []


def test_orthanc_forwards_a_film_and_gets_report_and_picture_into_its_study(tmp_path: Path, orthanc: Orthanc, predictor: Predictor) -> None:
    place = Archive("PACS", "127.0.0.1", orthanc.dicom_port)
    with start(settings(tmp_path / "spool", place), predictor) as node:
        orthanc.forward(film(), port=node.port)
        wait(lambda: len(orthanc.answers()) == 2)
        orthanc.ask("/modalities/node/store", json.dumps(orthanc.get("/studies")).encode())  # the whole study comes back, answers and all
        assert node.counts() == {"film graded": 1, "result sent": 2}
    (study,) = orthanc.get("/studies?expand")
    assert len(study["Series"]) == 3
    check(orthanc.answers(), tmp_path / "spool", tmp_path)
    assert set(orthanc.seen().values()) == {1}


def test_real_films_by_dicomweb(tmp_path: Path, shared_data: Path, predictor: Predictor) -> None:
    if not DICOMWEB.exists():
        pytest.skip("Orthanc's DICOMweb plugin (Debian: orthanc-dicomweb) is not installed")
    orthanc = Orthanc(tmp_path, plugins=(DICOMWEB,))
    try:
        place = Archive.parse(f"http://127.0.0.1:{orthanc.http_port}/dicom-web")
        with start(settings(tmp_path / "spool", place), predictor) as node:
            for number in range(2):
                orthanc.forward(real_film(shared_data, number), port=node.port)
            wait(lambda: node.counts() == {"film graded": 2, "result sent": 4})
        made = orthanc.answers()
        check(made, tmp_path / "spool", tmp_path)
        assert sorted(dataset.Modality for dataset in made) == ["OT", "OT", "SR", "SR"]
        assert set(orthanc.seen().values()) == {1}
    finally:
        orthanc.kill()


def test_orthanc_killed_while_it_receives_ends_with_everything_once(tmp_path: Path, orthanc: Orthanc, predictor: Predictor) -> None:
    place = Archive("PACS", "127.0.0.1", orthanc.dicom_port)
    films = [film(number) for number in range(3)]
    with start(settings(tmp_path / "spool", place), predictor) as node:
        assert send(node.port, films[0], films[1]) == [0, 0]
        wait(lambda: bool(orthanc.seen()))
        orthanc.kill()
        assert send(node.port, films[2]) == [0]
        wait(lambda: node.counts().get("film graded") == 3)
        orthanc.start()
        wait(lambda: node.counts() == {"film graded": 3, "result sent": 6})
    made = orthanc.answers()
    assert len({dataset.SOPInstanceUID for dataset in made}) == len(made) == 6
    check(made, tmp_path / "spool", tmp_path)
    again = [uid for uid, times in orthanc.seen().items() if times > 1]
    assert len(again) <= 1, "at most what it was receiving, and had not answered, when it was killed"
