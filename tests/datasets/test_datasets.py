"""Manifests, import of data sets as they are published, and splits."""

from __future__ import annotations

import io
import json
import random
import tarfile
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kneexray.cli.app import run
from kneexray.datasets import layout, manifest, split
from kneexray.datasets.catalogue import identify
from kneexray.datasets.catalogue.record import Identity
from kneexray.datasets.manifest import Example, Manifest
from kneexray.datasets.prepare import prepare
from kneexray.errors import ConfigError, DataError, OutputError
from kneexray.tasks import TASKS, get_task

KL = get_task("kl")


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def tree(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(seed))
    return root


def zipped(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return data.getvalue()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# Places and names


@pytest.mark.parametrize(
    ("name", "label", "where"),
    [
        ("train/0Normal/a.png", "0", "train"),
        ("KneeXrayData.zip!/ClsKLData/kneeKL224/val.zip!/val/3/9003175L.png", "3", "val"),
        ("Testing/KL3/a.png", "3", "test"),
        ("a.png", None, ""),
        ("train/unknown/a.png", None, "train"),
        ("0/1/a.png", None, ""),
    ],
)
def test_folders_tell_class_and_split_or_nothing(name: str, label: str | None, where: str):
    found = layout.place(name, KL)
    assert (found.label, found.split) == (label, where)
    assert bool(found.problem) == (label is None)


def test_the_task_is_told_from_the_class_names():
    assert layout.infer_task(["normal/a.png", "osteopenia/b.png"]) == TASKS["osteoporosis"]
    assert layout.infer_task(["train/0/a.png", "train/4/b.png"]) == TASKS["kl"]
    assert layout.infer_task(["films/a.png"]) is None


@pytest.mark.parametrize(
    ("stem", "told"),
    [
        ("9003175L", ("chen2018", Identity("9003175", "L"))),
        ("9003175R_1", ("chen2018", Identity("9003175", "R"))),
        ("NormalG0 (12)", ("gornale2020", Identity())),
        ("9003175", None),
        ("N12", None),
    ],
)
def test_file_names_tell_patient_and_side_by_the_data_sets_own_rule(stem: str, told: tuple[str, Identity] | None):
    assert identify(stem) == told


# Manifests


def test_a_folder_of_classes_with_splits_is_a_manifest(tmp_path: Path):
    root = tree(tmp_path / "data", "train/0/9000001L.png", "train/1/9000002R.png", "val/0/9000003L.png")
    loaded = manifest.load(root, task="kl")
    assert [(e.path, e.label, e.split, e.patient_id, e.side) for e in loaded.examples] == [
        ("train/0/9000001L.png", "0", "train", "9000001", "L"),
        ("train/1/9000002R.png", "1", "train", "9000002", "R"),
        ("val/0/9000003L.png", "0", "val", "9000003", "L"),
    ]
    assert loaded.split_quality == "patient"
    assert all(len(e.sha256) == 64 for e in loaded.examples)


def test_a_folder_that_maps_to_no_class_is_named(tmp_path: Path):
    root = tree(tmp_path / "data", "0/a.png", "dubious/b.png")
    with pytest.raises(DataError, match=r"dubious/b.png \(dubious: no class\)"):
        manifest.load(root, task="kl")


def test_the_sex_of_patients_is_kept_and_the_column_left_out_where_nobody_knows_it(tmp_path: Path):
    loaded = manifest.load(tree(tmp_path / "data", "0/a.png", "1/b.png"), task="kl")
    manifest.write(loaded, tmp_path / "unknown.csv")
    assert "sex" not in (tmp_path / "unknown.csv").read_text().splitlines()[0].split(",")
    manifest.write(replace(loaded, examples=(replace(loaded.examples[0], sex="F"), loaded.examples[1])), tmp_path / "known.csv")
    assert [e.sex for e in manifest.load(tmp_path / "known.csv", task="kl").examples] == ["F", ""]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_manifest_is_written_and_read_back_to_the_byte(tmp_path: Path, suffix: str):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    loaded = manifest.load(tree(tmp_path / "data", "0/a.png", "1/b, c.png"), task="kl")
    manifest.write(loaded, tmp_path / f"one{suffix}")
    manifest.write(manifest.load(tmp_path / f"one{suffix}", task="kl"), tmp_path / f"two{suffix}")
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    assert manifest.load(tmp_path / f"two{suffix}", task="kl").digest() == loaded.digest()


def test_a_nested_zip_is_a_manifest_and_is_unpacked_once(tmp_path: Path):
    inner = zipped({"train/0/9000001L.png": png(1), "train/2/9000002R.png": png(2)})
    archive = tmp_path / "set.zip"
    archive.write_bytes(zipped({"KL224/train.zip": inner}))
    first = manifest.load(archive, task="kl")
    assert [(e.label, e.split, e.patient_id, e.side) for e in first.examples] == [
        ("0", "train", "9000001", "L"),
        ("2", "train", "9000002", "R"),
    ]
    assert all(first.path_of(e).is_file() for e in first.examples)
    times = {e.path: first.path_of(e).stat().st_mtime_ns for e in first.examples}
    again = manifest.load(archive, task="kl")
    assert again == first
    assert {e.path: again.path_of(e).stat().st_mtime_ns for e in again.examples} == times
    assert len(list((tmp_path / "cache" / "kneexray" / "prepared").iterdir())) == 1


def test_a_zip_that_does_not_map_is_refused_and_leaves_nothing(tmp_path: Path):
    archive = tmp_path / "set.zip"
    archive.write_bytes(zipped({"0/a.png": png(1), "other/b.png": png(2)}))
    with pytest.raises(DataError, match=r"1 file\(s\) cannot be used: other/b\.png"):
        manifest.load(archive, task="kl")
    assert list((tmp_path / "cache" / "kneexray" / "prepared").iterdir()) == []


@pytest.mark.parametrize("place", ["audit.json", "audit/audit.json"])
def test_an_audit_of_the_same_data_beside_a_manifest_lowers_its_split_quality(tmp_path: Path, place: str):
    root = tree(tmp_path / "data", "train/0/9000001L.png", "val/1/9000002R.png")
    plain = manifest.load(root, task="kl")
    leak = {"kind": "near", "files": [e.path for e in plain.examples], "splits": ["train", "val"]}
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text(json.dumps({"digest": plain.digest(), "split_leaks": [leak]}))
    loaded = manifest.load(root, task="kl")
    assert loaded.split_quality == "image"
    assert loaded.leaks == ("an audit found 1 group(s) of files in more than one split (near)",)
    (root / place).write_text(json.dumps({"digest": "of other data", "split_leaks": [leak]}))
    assert manifest.load(root, task="kl") == plain


# Import


def test_archives_are_imported_and_what_is_left_out_is_told(tmp_path: Path):
    archive = tmp_path / "set.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for name, data in {"s/Mild/a.png": png(1), "s/Mild/b.png": b"broken", "s/what/c.png": png(3), "s/Severe/a.png": png(4)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("s/Mild/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    imported = prepare(archive, tmp_path / "out", task=KL)
    assert [(e.path, e.label) for e in imported.examples] == [("images/2/a.png", "2"), ("images/4/a.png", "4")]
    assert (tmp_path / "out" / "images/2/a.png").read_bytes() == png(1)
    assert {item.name.removeprefix("s/"): item.reason.split(";")[0] for item in imported.left_out}.keys() == {
        "Mild/b.png",
        "what/c.png",
        "Mild/link.png",
    }


def test_a_member_that_leads_outside_is_refused(tmp_path: Path):
    archive = tmp_path / "set.zip"
    archive.write_bytes(zipped({"0/a.png": png(1), "0/../../../evil.png": png(2), "/0/abs.png": png(3)}))
    imported = prepare(archive, tmp_path / "out", task=KL)
    assert [e.path for e in imported.examples] == ["images/0/a.png"]
    assert len(imported.left_out) == 2
    assert not list(tmp_path.rglob("evil*"))


def test_two_files_of_one_name_are_both_kept(tmp_path: Path):
    archive = tmp_path / "set.zip"
    archive.write_bytes(zipped({"x/0/a.png": png(1), "y/0/a.png": png(2)}))
    assert [e.path for e in prepare(archive, tmp_path / "out", task=KL).examples] == ["images/0/a.png", "images/0/a-2.png"]


def test_nothing_is_left_behind_when_an_import_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = tmp_path / "set.zip"
    archive.write_bytes(zipped({f"0/{i}.png": png(i) for i in range(3)}))

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="no space"):
            prepare(archive, tmp_path / "out", task=KL)
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(DataError, match="maps to a class of task 'osteoporosis'"):
        prepare(archive, tmp_path / "out", task=get_task("osteoporosis"))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_import_does_not_write_over_another(tmp_path: Path):
    archive = tmp_path / "set.zip"
    archive.write_bytes(zipped({"0/a.png": png(1)}))
    prepare(archive, tmp_path / "out", task=KL)
    with pytest.raises(OutputError, match="is there already"):
        prepare(archive, tmp_path / "out", task=KL)


def test_folders_that_repeat_others_of_the_same_set_are_left_out(tmp_path: Path):
    root = tree(tmp_path / "k", "kneeKL299/train/0/9000001L.png", "kneeKL299/auto_test/0/9000002L.png", "kneeKL224/train/0/9000001L.png")
    imported = prepare(root, tmp_path / "out", task=KL)
    assert [Path(e.path).parts[-4:] for e in imported.examples] == [("kneeKL299", "train", "0", "9000001L.png")]
    assert {item.repeats for item in imported.left_out} == {True}
    assert len(manifest.load(root, task="kl").examples) == 1


def test_a_table_of_any_spelling_is_imported(tmp_path: Path):
    tree(tmp_path, "films/a.png", "films/b.png", "films/c.png")
    table = tmp_path / "labels.csv"
    table.write_text(
        "Image_Path,Grade,Subject,Laterality,Gender\nfilms/a.png,Doubtful,p1,left,F\nfilms/b.png,9,p2,R,M\nfilms/none.png,1,p3,,\n"
    )
    imported = prepare(table, tmp_path / "out", task=KL)
    assert [(e.label, e.patient_id, e.side, e.sex) for e in imported.examples] == [("1", "p1", "L", "F")]
    assert [item.name for item in imported.left_out] == ["films/b.png", "films/none.png"]
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column of files; it has a, b"):
        prepare(tmp_path / "odd.csv", tmp_path / "out", task=KL)


def test_a_dicom_tree_gives_patients_as_pseudonyms_and_sides(tmp_path: Path):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    for number, (patient, side) in enumerate((("Jane Doe 1", "L"), ("Jane Doe 1", "R"), ("John Doe 2", "L"))):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, DigitalXRayImageStorageForPresentation
        meta.MediaStorageSOPInstanceUID = generate_uid()
        film = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        film.PatientID, film.ImageLaterality, film.Modality = patient, side, "DX"
        film.Rows = film.Columns = 32
        film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
        film.BitsAllocated = film.BitsStored = 8
        film.HighBit = 7
        film.PixelData = np.random.default_rng(number).integers(0, 256, (32, 32), dtype=np.uint8).tobytes()
        place = tmp_path / "films" / f"{number % 2}" / f"IM{number}"
        place.parent.mkdir(parents=True, exist_ok=True)
        film.save_as(place, enforce_file_format=True)
    imported = prepare(tmp_path / "films", tmp_path / "out", task=KL)
    patients = [e.patient_id for e in imported.examples]
    assert [e.side for e in imported.examples] == ["L", "L", "R"]
    assert patients[0] == patients[2] != patients[1]
    assert not any("Doe" in patient for patient in patients)


def test_the_published_chen_archive_is_imported(shared_data: Path, tmp_path: Path):
    imported = prepare(shared_data / "chen2018-as-published" / "KneeXrayData.zip", tmp_path / "out", task=KL)
    assert Counter(e.split for e in imported.examples) == {"train": 120, "val": 40}
    assert all(e.patient_id and e.side and e.source == "chen2018" for e in imported.examples)
    assert imported.left_out == ()


# Splits


def drawn(patients: list[int], labels: list[int]) -> Manifest:
    examples = [
        Example(f"{i}.png", str(label), "kl", f"p{patient}" if patient else "")
        for i, (patient, label) in enumerate(zip(patients, labels, strict=True))
    ]
    return Manifest(KL, tuple(examples), Path())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), min_size=30, max_size=120), st.integers(0, 5))
def test_no_patient_and_no_cluster_spans_two_splits(rows: list[tuple[int, int]], seed: int):
    made = drawn([patient for patient, _ in rows], [label for _, label in rows])
    clusters = [["0.png", "7.png", "9.png"], ["9.png", "12.png"]]
    parts = split.parse_fractions("80/20")
    done = split.split(made, parts=parts, seed=seed, clusters=clusters)
    where: dict[str, set[str]] = {}
    for before, after in zip(made.examples, done.examples, strict=True):
        where.setdefault(after.patient_id, set()).add(after.split)
        if before.patient_id:
            where.setdefault(before.patient_id, set()).add(after.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert len({done.examples[i].split for i in (0, 7, 9, 12)}) == 1
    assert done == split.split(made, parts=parts, seed=seed, clusters=clusters)


def test_shares_and_classes_come_out_as_asked():
    rng = random.Random(3)
    patients = [i // 2 + 1 for i in range(2000)]
    labels = [rng.choices(range(5), (40, 18, 26, 13, 3))[0] for _ in patients]
    done = split.split(drawn(patients, labels), parts=split.parse_fractions("70/10/20"), seed=1)
    assert done.split_quality == "patient"
    total = Counter(map(str, labels))
    for name, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        for label, n in Counter(e.label for e in done.split(name)).items():
            assert n == pytest.approx(share * total[label], abs=2)


def test_a_split_depends_on_content_and_seed_not_on_names_or_order():
    base = [Example(f"{i}.png", str(i % 5), "kl", f"p{i}", sha256=f"{i:064d}") for i in range(60)]
    renamed = [Example(f"x/{i}.png", str(i % 5), "kl", f"q{i}", sha256=f"{i:064d}") for i in reversed(range(60))]
    parts = split.parse_fractions("80/20")
    one = {e.sha256: e.split for e in split.split(Manifest(KL, tuple(base), Path()), parts=parts, seed=4).examples}
    two = {e.sha256: e.split for e in split.split(Manifest(KL, tuple(renamed), Path()), parts=parts, seed=4).examples}
    other = {e.sha256: e.split for e in split.split(Manifest(KL, tuple(base), Path()), parts=parts, seed=5).examples}
    assert one == two != other


def test_folds_put_every_image_into_val_once():
    made = split.folds(drawn([i // 2 + 1 for i in range(100)], [i % 5 for i in range(100)]), k=5, seed=0)
    assert Counter(e.path for fold in made for e in fold.split("val")) == Counter(f"{i}.png" for i in range(100))
    assert {fold.split_quality for fold in made} == {"patient"}


def test_unknown_patients_are_split_by_cluster_and_say_so():
    done = split.split(
        drawn([0] * 20, [i % 5 for i in range(20)]), parts=split.parse_fractions("80/20"), seed=0, clusters=[["0.png", "1.png"]]
    )
    assert done.split_quality == "cluster"
    assert done.examples[0].patient_id == done.examples[1].patient_id != done.examples[2].patient_id


@pytest.mark.parametrize("text", ["80", "80/30", "a/b", "0/100", "50/20/20/10", "-10/110"])
def test_wrong_fractions_are_refused(text: str):
    with pytest.raises(ConfigError, match="80/20"):
        split.parse_fractions(text)


def test_too_few_groups_are_told():
    with pytest.raises(DataError, match="1 group"):
        split.split(drawn([1, 1], [0, 1]), parts=split.parse_fractions("80/20"), seed=0)


# The command line


def test_list_prints_a_card_a_data_set(capsys: pytest.CaptureFixture[str]):
    assert run(["data", "list", "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert [card["name"] for card in cards] == ["chen2018", "gornale2020", "wani2021", "gobara", "stevepython", "nhanes3"]
    assert run(["data", "list", "chen2018"]) == 0
    assert "auto_test holds the test knees again" in capsys.readouterr().out
    assert run(["data", "list", "chen"]) == 2


def test_prepare_and_split_write_what_they_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    archive = tmp_path / "set.zip"
    members = {f"{i % 3}/90000{i:02d}{'LR'[i % 2]}.png": png(i) for i in range(30)}
    archive.write_bytes(zipped({**members, "odd/a.png": png(99)}))
    assert run(["data", "prepare", str(archive), "--out", str(tmp_path / "out")]) == 0
    assert "odd/a.png: odd: no class" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert record["outputs"]["images"] == 30
    assert [item["file"] for item in record["outputs"]["left_out"]] == ["odd/a.png"]
    made = tmp_path / "out" / "manifest.csv"
    for name in ("a.csv", "b.csv"):
        assert run(["data", "split", str(made), "--out", str(tmp_path / name), "--fractions", "70/10/20", "--seed", "3"]) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert manifest.load(tmp_path / "a.csv", task="kl").split_quality == "patient"
    assert run(["data", "split", str(made), "--out", str(tmp_path / "f.csv"), "--folds", "3"]) == 0
    assert sorted(p.name for p in tmp_path.glob("f.*")) == ["f.fold0.csv", "f.fold1.csv", "f.fold2.csv"]
    assert run(["data", "split", str(made), "--out", str(tmp_path / "c.csv"), "--fractions", "1/2"]) == 2
    assert run(["data", "prepare", str(tmp_path / "missing"), "--out", str(tmp_path / "x")]) == 1
