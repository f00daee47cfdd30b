"""Films that come as Python objects, folders that hold earlier results, and media with a DICOMDIR."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from support.dicoms import dicom

from kneexray import Predictor
from kneexray.cli.app import run
from kneexray.read import find_sources
from kneexray.read.objects import array_pixels, sources_of
from kneexray.synthetic import draw_knee

KNEE = draw_knee(3, size=200)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(heatmaps=False)


def test_every_kind_of_film_gets_the_same_answer(predictor: Predictor, tmp_path: Path):
    grey = (KNEE * 255).round().astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(grey).save(sink, "PNG")
    (tmp_path / "knee.png").write_bytes(sink.getvalue())
    data_set = pydicom.dcmread(io.BytesIO(dicom((KNEE * 4095).round().astype(np.uint16), bits=12)), force=True)
    films = [
        *(str(tmp_path / "knee.png"), sink.getvalue(), io.BytesIO(sink.getvalue()), Image.fromarray(grey)),
        *(grey, grey.astype(np.uint16) * 257, KNEE, np.stack([grey] * 3, axis=2), data_set),
    ]
    answers = [film.predictions[0].probabilities for film in predictor.predict(films) if film.predictions]
    assert len(answers) == len(films)
    for answer in answers:
        np.testing.assert_allclose(answer, answers[0], atol=0.03)
    (alone,) = predictor.predict(KNEE)
    np.testing.assert_allclose(alone.predictions[0].probabilities, answers[0], atol=0.03)


@pytest.mark.parametrize("film", [3, None, 2.5, object(), [1, 2], np.zeros((4, 4), bool), np.zeros(16), np.zeros((4, 4, 7), np.uint8)])
def test_anything_else_is_a_type_error_that_says_so(predictor: Predictor, film: object):
    with pytest.raises(TypeError, match=r"is no image|a film is"):
        predictor.predict(film)


def test_arrays_of_bits_and_floats():
    assert array_pixels(np.array([[0, 4095]], np.uint16)).tolist() == [[0, 1]]
    assert array_pixels(np.array([[0, 65535]], np.uint16)).tolist() == [[0, 1]]
    assert array_pixels(np.array([[-100.0, 300.0]])).tolist() == [[0, 1]]
    assert array_pixels(np.array([[np.nan, 0.5, 1.0]]))[0, 1:].tolist() == [0.5, 1.0]


def test_results_are_never_graded_and_none_of_an_earlier_run_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(2):
        Image.fromarray((draw_knee(number, size=120) * 255).astype(np.uint8)).save(tmp_path / f"k{number}.png")
    monkeypatch.chdir(tmp_path)
    assert run(["predict", ".", "--out", "out"]) == 0
    first = {path.name for path in (tmp_path / "out" / "heatmaps").iterdir()}
    assert len(first) == 2
    (tmp_path / "k1.png").unlink()
    assert run(["predict", ".", "--out", "out"]) == 0
    assert (tmp_path / "out" / "predictions.csv").read_text().count('"graded"') == 1
    assert {path.name for path in (tmp_path / "out" / "heatmaps").iterdir()} < first
    assert run(["predict", ".", "--out", "second"]) == 0  # the first run's pictures are marked as its own
    assert (tmp_path / "second" / "predictions.csv").read_text().count('"graded"') == 1


def test_a_dicomdir_stands_for_the_files_that_it_lists(tmp_path: Path):

    folder = tmp_path / "cd" / "dicom"
    folder.mkdir(parents=True)
    (folder / "im000001").write_bytes(dicom((KNEE * 4095).astype(np.uint16), bits=12))
    directory = pydicom.Dataset()
    directory.file_meta = pydicom.dataset.FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    directory.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    records = [pydicom.Dataset() for _ in range(3)]
    records[1].ReferencedFileID = ["DICOM", "IM000001"]
    records[2].ReferencedFileID = ["DICOM", "GONE"]
    directory.DirectoryRecordSequence = records
    directory.save_as(tmp_path / "cd" / "DICOMDIR", enforce_file_format=True)
    (tmp_path / "cd" / "viewer.jar").write_bytes(b"PK\x03\x04")
    (tmp_path / "cd" / "AUTORUN.INF").write_text("[autorun]")
    named = [source.name for source in find_sources(tmp_path / "cd" / "DICOMDIR")]
    assert len(named) == 1
    assert "DICOMDIR" not in named[0]
    assert [source.name for source in find_sources(tmp_path / "cd")] == named


def test_sources_keep_their_order(tmp_path: Path):
    Image.fromarray((KNEE * 255).astype(np.uint8)).save(tmp_path / "a.png")
    names = [source.name for source in sources_of([KNEE, tmp_path / "a.png", KNEE])]
    assert names == ["ndarray-0", str(tmp_path / "a.png"), "ndarray-2"]
