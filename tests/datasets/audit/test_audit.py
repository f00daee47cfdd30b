"""The audit on drawn knees with planted faults, and on the real sets whose faults are known."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="the data extra is not installed")

from kneexray.cli.app import run
from kneexray.datasets import manifest
from kneexray.datasets.audit import audit as audits
from kneexray.datasets.audit.clean import clean
from kneexray.datasets.audit.confounds import confounds
from kneexray.datasets.audit.items import items_at
from kneexray.datasets.audit.near import candidates, mirrored
from kneexray.datasets.audit.register import overlay
from kneexray.datasets.audit.scan import find_points, looks_inverted
from kneexray.datasets.example import Example
from kneexray.errors import DataError
from kneexray.synthetic import draw_knee
from kneexray.tasks import TASKS

PATIENTS = 8


def knee(seed: int, size: int = 200) -> Image.Image:
    return Image.fromarray((draw_knee(seed % 5, seed=seed, size=size) * 255).round().astype(np.uint8))


def save(image: Image.Image, place: Path, **options: object) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    image.save(place, **options)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and val/ of drawn knees, two a patient, with one fault of every kind."""
    root = tmp_path_factory.mktemp("faulty")
    for split, first in (("train", 0), ("val", 100)):
        for grade in range(3):
            for patient in range(PATIENTS if split == "train" else 3):
                for number, side in enumerate("LR"):
                    seed = 5 * (first + patient * 2 + number) + grade
                    save(knee(seed), root / split / str(grade) / f"9{grade}{first + patient:05d}{side}.png")
    film = Image.open(root / "train/0/9000000L.png")
    save(film.transpose(Image.Transpose.FLIP_LEFT_RIGHT), root / "val/0/9800001L.png")
    save(film, root / "train/0/9800002L.jpg", quality=40)
    other = Image.open(root / "train/1/9100001R.png")
    width, height = other.size
    save(other.crop((10, 5, 10 + round(0.85 * width), 5 + round(0.85 * height))), root / "val/1/9800003R.png")
    third = Image.open(root / "train/2/9200002L.png")
    save(third.rotate(5, Image.Resampling.BILINEAR), root / "train/2/9800004L.png")
    save(third.point(lambda v: (v - 40) * 1.6), root / "train/2/9800005L.png")
    shutil.copy(root / "train/0/9000003L.png", root / "train/1/9800006L.png")  # the same bytes under another grade
    save(Image.open(root / "train/0/9000004L.png"), root / "train/0/9800007L.bmp")  # the same pixels in another format
    save(Image.new("L", (200, 200), 90), root / "train/0/9800008L.png")
    save(Image.fromarray(255 - np.asarray(knee(777))), root / "train/0/9800009L.png")
    (root / "train/0/9800010L.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    shutil.copy(root / "val/2/9200100L.png", root / "train/2/9200100L_1.png")  # a patient in two splits
    return root


@pytest.fixture(scope="module")
def found(faulty: Path) -> audits.Audit:
    return audits.audit(items_at([faulty]))


def names(found: audits.Audit, groups: tuple[tuple[int, ...], ...]) -> set[frozenset[str]]:
    return {frozenset(Path(file).stem for file in found.files(group)) for group in groups}


def test_exact_copies_are_found_by_bytes_and_by_pixels(found: audits.Audit):
    assert names(found, found.exact) == {
        frozenset({"9000003L", "9800006L"}),
        frozenset({"9000004L", "9800007L"}),
        frozenset({"9200100L", "9200100L_1"}),
    }


def test_altered_copies_are_found_and_nothing_else(found: audits.Audit):
    assert names(found, found.near) == {
        frozenset({"9000000L", "9800001L", "9800002L"}),
        frozenset({"9100001R", "9800003R"}),
        frozenset({"9200002L", "9800004L", "9800005L"}),
    }


def test_what_was_done_to_a_copy_is_told(found: audits.Audit):
    how = {Path(found.items[p.first].file).stem + Path(found.items[p.second].file).stem: p.how for p in found.pairs}
    told = {key: text for key, text in how.items() if "9800001L" in key and "9000000L" in key}
    assert all("mirrored" in text for text in told.values())
    assert any("turned 5°" in text for key, text in how.items() if "9800004L" in key)
    assert any("cropped" in text for key, text in how.items() if "9800003R" in key)


def test_conflicts_leaks_and_suspicious_images_are_told(found: audits.Audit):
    assert names(found, found.conflicts) == {frozenset({"9000003L", "9800006L"})}
    leaks = {(kind, frozenset(Path(f).stem for f in found.files(group))) for kind, group in found.leaks}
    assert leaks == {
        ("near", frozenset({"9000000L", "9800001L", "9800002L"})),
        ("recrop", frozenset({"9100001R", "9800003R"})),
        ("exact", frozenset({"9200100L", "9200100L_1"})),
        ("patient", frozenset({"9200100L", "9200100L_1", "9200100R"})),
    }
    reasons = {Path(found.items[place].file).stem: reason.split(":")[0] for place, reason in found.suspicious}
    assert reasons == {"9800008L": "nearly constant", "9800009L": "looks inverted", "9800010L": "cannot be read"}


def test_the_files_of_an_audit_agree_with_each_other(faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = tmp_path / "data"
    shutil.copytree(faulty, data)
    (data / "train/0/9800010L.png").unlink()
    assert run(["data", "audit", str(data), "--out", str(data), "--fix"]) == 0
    said = capsys.readouterr().out
    told = json.loads((data / "audit.json").read_text())
    page = (data / "audit.html").read_text()
    assert "label conflicts" in said
    assert {"exact_groups", "near_groups", "label_conflicts", "split_leaks", "confounds", "suspicious"} <= told.keys()
    assert told["label_conflicts"] == [{"files": ["train/0/9000003L.png", "train/1/9800006L.png"], "labels": ["0", "1"]}]
    for group in [*told["exact_groups"], *told["near_groups"]]:
        assert all(file in page for file in group)
    assert page.count("data:image/jpeg;base64,") > 10
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert manifest.load(data, task="kl").split_quality == "image"
    cleaned = manifest.load(data / "cleaned.csv", task="kl")
    kept = {Path(e.path).stem for e in cleaned.examples}
    assert not kept & {"9000003L", "9800006L", "9800008L"}
    assert len(kept & {"9000000L", "9800001L", "9800002L"}) == 1
    again = audits.audit(items_at([data / "cleaned.csv"]))
    assert (again.exact, again.near, again.conflicts) == ((), (), ())
    record = json.loads((data / "manifest.json").read_text())
    assert len(cleaned.examples) + len(record["outputs"]["dropped"]) == told["figures"]["images"]
    assert {"one film under different labels (0, 1)", "nearly constant"} <= {item["reason"] for item in record["outputs"]["dropped"]}


def test_a_split_of_unknown_patients_keeps_clusters_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for i in range(12):
        save(knee(40 + i), tmp_path / "data" / str(i % 2) / f"a{i}.png")
        save(knee(40 + i).transpose(Image.Transpose.FLIP_LEFT_RIGHT), tmp_path / "data" / str(i % 2) / f"b{i}.png")
    assert run(["data", "split", str(tmp_path / "data"), "--task", "kl", "--out", str(tmp_path / "s.csv"), "--fractions", "70/30"]) == 0
    made = manifest.load(tmp_path / "s.csv", task="kl")
    assert made.split_quality == "cluster"
    where = {Path(e.path).stem: e.split for e in made.examples}
    assert all(where[f"a{i}"] == where[f"b{i}"] for i in range(12))
    assert "split_quality: cluster" in capsys.readouterr().out


def test_an_audit_serves_the_manifest_that_it_cleaned_and_no_other(
    faulty: Path, found: audits.Audit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "audit.json").write_text(json.dumps(audits.to_dict(found, digest="")))
    cleaned, dropped = clean(found, task=TASKS["kl"], root=tmp_path)
    assert dropped
    manifest.write(cleaned, tmp_path / "cleaned.csv")
    split = ["data", "split", str(tmp_path / "cleaned.csv"), "--audit", str(tmp_path / "audit.json"), "--out", str(tmp_path / "s.csv")]
    assert run(split) == 0
    kept = manifest.load(tmp_path / "s.csv", task="kl")
    assert [e.path for e in kept.examples] == [e.path for e in cleaned.examples]
    added = replace(cleaned.examples[0], path="new.png", sha256="of a file that came later")
    manifest.write(replace(cleaned, examples=(*cleaned.examples, added)), tmp_path / "cleaned.csv")
    assert run(split) == 1
    assert "did not see new.png" in capsys.readouterr().err


def test_the_clusters_of_an_audit_are_found_by_what_files_hold(faulty: Path, found: audits.Audit, tmp_path: Path):
    (tmp_path / "audit.json").write_text(json.dumps(audits.to_dict(found, digest="")))
    named = [(item.file, seen.sha256, item.label) for item, seen in zip(found.items, found.scans, strict=True) if item.label]
    renamed = tuple(Example(f"elsewhere/{file}", label, "kl", sha256=sha256) for file, sha256, label in named)
    unhashed = tuple(Example(file, label, "kl") for file, sha256, label in named if sha256)
    for examples, prefix in ((renamed, "elsewhere/"), (unhashed, "")):
        groups = audits.clusters_of(tmp_path / "audit.json", manifest.Manifest(TASKS["kl"], examples, tmp_path))
        assert {frozenset(group) for group in groups} >= {frozenset(prefix + file for file in group) for group in found.clusters}


def test_archives_are_audited_without_unpacking_but_cannot_be_fixed(faulty: Path, tmp_path: Path):
    archive = Path(shutil.make_archive(str(tmp_path / "set"), "zip", faulty / "train" / "2"))
    found = audits.audit(items_at([archive]))
    assert frozenset({"9200002L", "9800004L", "9800005L"}) in names(found, found.near)
    assert run(["data", "audit", str(archive), "--out", str(tmp_path / "out"), "--task", "kl", "--fix"]) == 1


def test_a_plain_folder_and_an_empty_one(tmp_path: Path):
    save(knee(1), tmp_path / "a.png")
    save(knee(1), tmp_path / "b.webp", lossless=True)
    found = audits.audit(items_at([tmp_path]))
    assert found.exact == ((0, 1),)
    assert found.conflicts == ()
    (tmp_path / "none").mkdir()
    unreadable = audits.audit(items_at([tmp_path / "none"]))
    assert unreadable.figures["unreadable"] == 1
    with pytest.raises(DataError, match="does not exist"):
        items_at([tmp_path / "missing"])


def test_mirrored_points_are_those_of_the_mirrored_image():
    pixels = draw_knee(2, seed=5, size=200)
    turned = mirrored(find_points(pixels))
    seen = find_points(np.ascontiguousarray(pixels[:, ::-1]))
    over = overlay(seen, turned, flip=False)
    assert over is not None
    assert over.points > 0.7 * len(seen.frame)
    np.testing.assert_allclose(
        over.matrix, [[1, 0, 0], [0, 1, 0]], atol=0.6
    )  # half a pixel: points are counted from corners, mirrored about centres


def test_images_without_points_are_no_candidates():
    assert candidates([find_points(np.zeros((50, 50), np.float32))] * 3) == []


def test_a_label_that_depends_on_the_size_is_a_confound_and_chance_is_none():
    rng = np.random.default_rng(0)
    labels = [str(i % 3) for i in range(300)]
    told = confounds(
        labels, sizes=[(100 + int(label), 100) for label in labels], encodings=["PNG"] * 300, n_bytes=rng.integers(900, 1100, 300).tolist()
    )
    assert {c.feature: c.found for c in told} == {"image size": True, "image shape": False, "encoding": False, "bytes a pixel": False}
    assert told[0].balanced_accuracy == pytest.approx(1.0)
    assert confounds(labels[:5], sizes=[(1, 1)] * 5, encodings=["PNG"] * 5, n_bytes=[1] * 5) == []


def test_the_audit_is_the_same_each_time(faulty: Path, found: audits.Audit):
    again = audits.audit(items_at([faulty]), jobs=1)
    assert audits.to_dict(again, digest="") == audits.to_dict(found, digest="")


# The real sets


def test_real_knees_of_two_hundred_people_hold_no_copies(shared_data: Path):
    films = sorted((shared_data / "chen2018/val").glob("*/*.webp"))
    patients = sorted({film.stem[:7] for film in films})[:100]
    items = [item for item in items_at([shared_data / "chen2018/val"]) if Path(item.file).stem[:7] in patients]
    found = audits.audit(items)
    assert (found.exact, found.near) == ((), ())


@pytest.mark.slow
def test_wani_holds_the_copies_and_conflicts_that_are_known(shared_data: Path):
    found = audits.audit(items_at([shared_data / "wani"]))
    assert len(found.exact) == 21
    assert sum(len({found.items[i].label for i in group}) > 1 for group in found.exact) == 7
    assert not found.near


@pytest.mark.slow
def test_gornales_experts_differ_where_the_same_film_has_two_grades(shared_data: Path):
    found = audits.audit(items_at([shared_data / "gornale"]))
    one, two = (
        {p.name: p.parent.name for p in (shared_data / "gornale" / f"MedicalExpert-{expert}").rglob("*.png")} for expert in ("I", "II")
    )
    differing = {name for name in one if name in two and one[name] != two[name]}
    told = {Path(file).name for group in found.conflicts for file in found.files(group)}
    assert differing <= told


@pytest.mark.parametrize("side", [0, 1])
def test_a_film_is_not_taken_for_its_negative(shared_data: Path, side: int):
    film = sorted((shared_data / "chen2018/val/2").iterdir())[side]
    pixels = np.asarray(Image.open(film).convert("L"), dtype=np.float32) / 255
    assert not looks_inverted(pixels)
    assert looks_inverted(1 - pixels)
