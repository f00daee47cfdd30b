"""Finding films: files, folders, globs and archives, the odd ones and the hostile ones."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kneexray.read import Limits, Source, archives, find_sources, read_file
from kneexray.read.names import is_passed_over


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(members: dict[str, bytes] | list[tuple[str | zipfile.ZipInfo, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as packed:
        for name, data in members.items() if isinstance(members, dict) else members:
            packed.writestr(name, data)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w", extra: list[tarfile.TarInfo] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as packed:  # type: ignore[call-overload]
        for info in extra or []:
            packed.addfile(info)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def values(source: Source) -> list[int]:
    """The grey of each radiograph of a source: these films hold one value."""
    return [round(float(r.pixels[0, 0]) * 255) for r in source.read().radiographs]


def told(sources: Iterator[Source], root: Path) -> dict[str, int | str]:
    """Each source's name below ``root``, and its grey or the reason of its rejection."""
    out: dict[str, int | str] = {}
    for source in sources:
        study = source.read()
        assert study.source == source.name
        name = source.name.removeprefix(str(root) + os.sep)
        assert name not in out, f"{name} came twice"
        out[name] = study.rejections[0].reason if study.rejections else values(source)[0]
        assert all(r.source == source.name for r in (*study.rejections, *study.radiographs))
    return out


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


# --- files, folders and globs -----------------------------------------------------------------------------------------------------


def test_folders_are_searched_in_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"b/2.png": png(2), "b/10.png": png(10), "a.png": png(1), "b/c/ä ü.PNG": png(3), "d/no suffix": png(4), "e.jpg": b"broken"},
    )
    assert list(told(find_sources(tmp_path), tmp_path).items()) == [
        ("a.png", 1),
        ("b/10.png", 10),
        ("b/2.png", 2),
        ("b/c/ä ü.PNG", 3),
        ("d/no suffix", 4),
        ("e.jpg", "not_an_image"),
    ]


def test_what_is_plainly_no_image_is_passed_over_unless_named(tmp_path: Path) -> None:
    others = ["notes.txt", "labels.csv", "Thumbs.db", "report.pdf", ".hidden.png", "DICOMDIR", ".git/x.png", "__MACOSX/._a.png", "README"]
    write(tmp_path, dict.fromkeys(others, b"words") | {"a.png": png(1), "film.heic": b"\x00\x00\x00\x20ftypheic", "odd": b"?\0?"})
    assert told(find_sources([tmp_path]), tmp_path) == {"a.png": 1, "film.heic": "unsupported", "odd": "not_an_image"}
    assert told(find_sources(tmp_path / name for name in ("notes.txt", ".hidden.png")), tmp_path) == {
        "notes.txt": "not_an_image",
        ".hidden.png": "not_an_image",
    }
    assert told(find_sources([tmp_path, tmp_path / "notes.txt"]), tmp_path)["notes.txt"] == "not_an_image"


def test_names_stay_as_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"films/a.png": png(1), "x.zip": zipped({"in/b.png": png(2)})})
    monkeypatch.chdir(tmp_path)
    assert [s.name for s in find_sources(["./films", "x.zip"])] == ["./films/a.png", "x.zip!/in/b.png"]
    assert [s.name for s in find_sources("films/")] == ["films/a.png"]
    assert [s.name for s in find_sources(Path("films"))] == ["films/a.png"]


def test_globs(tmp_path: Path) -> None:
    write(tmp_path, {"a/1.png": png(1), "a/b/2.png": png(2), "a/b/3.csv": b"1", "scan[1].png": png(9)})
    assert told(find_sources([str(tmp_path / "a" / "**" / "*.png")]), tmp_path) == {"a/1.png": 1, "a/b/2.png": 2}
    assert told(find_sources([str(tmp_path / "a" / "?")]), tmp_path) == {"a/b/2.png": 2}
    assert told(find_sources([str(tmp_path / "a" / "b" / "*")]), tmp_path) == {"a/b/2.png": 2, "a/b/3.csv": "not_an_image"}
    assert told(find_sources([str(tmp_path / "scan[1].png")]), tmp_path) == {"scan[1].png": 9}  # a file of that name comes first


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": png(1), "empty/words.txt": b"x", "empty.zip": zipped({"words.txt": b"x"})})
    paths = ["absent", "none*.png", "empty", "empty.zip", "a.png", "a.png/b.png"]
    found = told(find_sources(str(tmp_path / path) for path in paths), tmp_path)
    assert found == dict.fromkeys(paths, "not_found") | {"a.png": 1}
    (nul,) = find_sources("a\0b")
    assert nul.read().rejections[0].reason == "not_found"


def test_a_file_is_yielded_once(tmp_path: Path) -> None:
    write(tmp_path, {"d/a.png": png(1), "d/b.png": png(2), "e/c.png": png(3), "x.zip": zipped({"z.png": png(4)})})
    d = tmp_path / "d"
    paths = [
        d / "b.png",
        d,
        str(d) + "/",
        d / "a.png",
        str(d / "*.png"),
        d / ".." / "d" / "b.png",
        tmp_path / "x.zip",
        tmp_path,
        tmp_path / "x.zip",
    ]
    names = [s.name.removeprefix(f"{tmp_path}/") for s in find_sources(paths)]
    assert names == ["d/b.png", "d/a.png", "x.zip!/z.png", "e/c.png"]


def test_links(tmp_path: Path) -> None:
    write(tmp_path, {"d/a.png": png(1), "elsewhere/b.png": png(2), "elsewhere/sub/c.png": png(3)})
    links = {
        "d/loop": tmp_path / "d",
        "d/up": tmp_path,
        "d/self": tmp_path / "d" / "self",
        "d/twin.png": tmp_path / "d" / "a.png",
        "d/gone.png": tmp_path / "nothing",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    found = told(find_sources(tmp_path / "d"), tmp_path)
    assert found.pop("d/self") == found.pop("d/gone.png") == "not_found"
    assert sorted(map(str, found.values())) == ["1", "2", "3"]


def test_unreadable_folder_and_special_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a/1.png": png(1), "b/2.png": png(2), "c/3.png": png(3)})
    os.mkfifo(tmp_path / "c" / "pipe")
    scan = os.scandir

    def denied(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    found = told(find_sources(tmp_path), tmp_path)
    assert found == {"a/1.png": 1, "b": "no_permission", "c/3.png": 3, "c/pipe": "not_an_image"}


def test_searching_is_lazy(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": png(1)})

    def paths() -> Iterator[Path]:
        yield tmp_path / "a.png"
        raise AssertionError("looked too far ahead")

    assert values(next(find_sources(paths()))) == [1]


# --- good archives ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.zip", zipped({"dir/b.png": png(2), "c.png": png(3), "notes.txt": b"x", "__MACOSX/._b.png": b"x"})),
        ("stored", zipped({"dir/b.png": png(2), "c.png": png(3)}, zipfile.ZIP_STORED)),
        ("lzma.zip", zipped({"dir/b.png": png(2), "c.png": png(3)}, zipfile.ZIP_LZMA)),
        ("x.tar", tarred({"dir/b.png": png(2), "c.png": png(3), "labels.csv": b"x"})),
        ("x.tar.gz", tarred({"dir/b.png": png(2), "c.png": png(3)}, "w:gz")),
        ("x.tar.bz2", tarred({"dir/b.png": png(2), "c.png": png(3)}, "w:bz2")),
        ("x.txz", tarred({"dir/b.png": png(2), "c.png": png(3)}, "w:xz")),
    ],
)
def test_archives(tmp_path: Path, name: str, data: bytes) -> None:
    write(tmp_path, {name: data})
    expected = {f"{name}!/dir/b.png": 2, f"{name}!/c.png": 3}
    assert told(find_sources(tmp_path / name), tmp_path) == expected
    assert told(find_sources(tmp_path), tmp_path) == expected
    assert read_file(tmp_path / name).rejections[0].reason == "unsupported"  # one file is one image


def test_nested_archives(tmp_path: Path) -> None:
    inner = zipped({"c.png": png(3)})
    data = zipped({"b.zip": inner, "t": tarred({"d.png": png(4), "e.zip": inner}, "w:gz"), "a.png": png(1)})
    write(tmp_path, {"a.zip": data})
    assert told(find_sources(tmp_path), tmp_path) == {
        "a.zip!/b.zip!/c.png": 3,
        "a.zip!/t!/d.png": 4,
        "a.zip!/t!/e.zip!/c.png": 3,
        "a.zip!/a.png": 1,
    }
    shallow = told(find_sources(tmp_path, limits=Limits(max_depth=2)), tmp_path)
    assert shallow["a.zip!/t!/e.zip"] == "unsafe_archive"
    assert shallow["a.zip!/b.zip!/c.png"] == 3


def test_sources_outlive_the_search_and_serve_threads(tmp_path: Path) -> None:
    films = {f"{i:03}.png": png(i) for i in range(60)}
    write(tmp_path, {"z.zip": zipped(films), "n.zip": zipped({"inner.zip": zipped(films), "t.tar": tarred(films)}), "t.tar": tarred(films)})
    sources = list(find_sources(sorted(tmp_path.iterdir())))
    gc.collect()
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(values, sources * 2))
    assert read == [[i] for i in range(60)] * 8
    assert values(sources[7]) == values(sources[7]) == [7]


def test_real_nested_archive(shared_data: Path) -> None:
    sources = list(find_sources(shared_data / "chen2018-as-published" / "KneeXrayData.zip"))
    assert len(sources) == 160
    assert sources[0].name.endswith("KneeXrayData.zip!/ClsKLData/kneeKL224/train.zip!/train/0/9577425R.png")
    with ThreadPoolExecutor(4) as pool:
        studies = list(pool.map(Source.read, sources))
    assert all(s.radiographs[0].pixels.shape == (224, 224) and not s.rejections for s in studies)


# --- bad and hostile archives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar"])
@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:\\evil.png", "..\\evil.png", "\\\\host\\evil.png", "a\nb.png"]
)
def test_names_that_lead_outside(tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes], name: str) -> None:
    write(tmp_path, {"x": pack({name: png(1), "good.png": png(2)})})
    assert told(find_sources(tmp_path / "x"), tmp_path) == {f"x!/{name}": "unsafe_archive", "x!/good.png": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_links_and_devices_in_archives(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    infos = []
    for name, kind in (
        ("s.png", tarfile.SYMTYPE),
        ("h.png", tarfile.LNKTYPE),
        ("dev", tarfile.CHRTYPE),
        ("pipe", tarfile.FIFOTYPE),
        ("dir", tarfile.DIRTYPE),
    ):
        infos.append(tarfile.TarInfo(name))
        infos[-1].type, infos[-1].linkname = kind, "/etc/passwd"
    write(tmp_path, {"a.zip": zipped([(link, b"/etc/passwd"), ("good.png", png(2))]), "b.tar": tarred({"good.png": png(3)}, extra=infos)})
    found = told(find_sources(tmp_path), tmp_path)
    assert found.pop("a.zip!/good.png") == 2
    assert found.pop("b.tar!/good.png") == 3
    assert found == dict.fromkeys(["a.zip!/link.png", "b.tar!/s.png", "b.tar!/h.png", "b.tar!/dev", "b.tar!/pipe"], "unsafe_archive")


def test_encrypted_and_doubled_members(tmp_path: Path) -> None:
    data = bytearray(zipped({"secret.png": png(1), "good.png": png(2)}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped([("a.png", png(1)), ("a.png", png(2)), ("b.png", png(3))])
    write(tmp_path, {"e.zip": bytes(data), "t.zip": twice})
    assert told(find_sources(tmp_path / "e.zip"), tmp_path) == {"e.zip!/secret.png": "unsafe_archive", "e.zip!/good.png": 2}
    studies = [s.read() for s in find_sources(tmp_path / "t.zip")]
    assert [s.rejections[0].reason if s.rejections else "ok" for s in studies] == ["unsafe_archive", "ok", "ok"]


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = bytes(3_000_000)
    bomb = zipped({"bomb.dcm": zeros, "good.png": png(2)})
    write(tmp_path, {"b.zip": bomb, "t.tgz": tarred({"bomb.dcm": zeros, "good.png": png(2)}, "w:gz"), "n.zip": zipped({"b.zip": bomb})})
    tight = Limits(max_bytes=1_000_000)
    for path, prefix in (("b.zip", "b.zip!"), ("t.tgz", "t.tgz!")):
        assert told(find_sources(tmp_path / path, limits=tight), tmp_path) == {f"{prefix}/bomb.dcm": "too_large", f"{prefix}/good.png": 2}
    total = told(find_sources(tmp_path / "n.zip", limits=Limits(max_total_bytes=2_000_000)), tmp_path)
    assert total == {"n.zip!/b.zip": "too_large"}
    assert told(find_sources(tmp_path / "n.zip", limits=Limits(max_nested_bytes=1000)), tmp_path) == {"n.zip!/b.zip": "too_large"}
    monkeypatch.setattr(archives, "_MEMBER_RATIO_FROM", 1_000_000)
    assert told(find_sources(tmp_path / "b.zip"), tmp_path) == {"b.zip!/bomb.dcm": "unsafe_archive", "b.zip!/good.png": 2}
    monkeypatch.setattr(archives, "_RATIO_FROM", 1_000_000)
    assert told(find_sources(tmp_path / "t.tgz"), tmp_path)["t.tgz"] == "too_large"


def test_sizes_that_lie(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.png": png(1) + bytes(5000)}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = (100).to_bytes(4, "little")
    write(tmp_path, {"x.zip": bytes(data)})
    assert told(find_sources(tmp_path), tmp_path) == {"x.zip!/a.png": "corrupt"}


def test_broken_archives(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    whole = tarred({"a.png": png(1), "b.png": png(2) + noise})
    damaged = bytearray(zipped({"a.png": png(1), "b.png": noise}, zipfile.ZIP_STORED))
    damaged[damaged.index(noise) + 7] ^= 0xFF
    write(
        tmp_path,
        {
            "cut.zip": zipped({"a.png": png(1)})[:60],
            "damaged.zip": bytes(damaged),
            "cut.tar": whole[: 512 + 512 + 512 + 1000],
            "cut.tgz": gzip.compress(whole)[:2000],
            "words.gz": gzip.compress(b"just words"),
            "words.bz2": bz2.compress(b"just words"),
            "odd.zip": b"PK\x03\x04" + bytes(50),
        },
    )
    assert told(find_sources(tmp_path), tmp_path) == {
        "cut.zip": "corrupt",
        "damaged.zip!/a.png": 1,
        "damaged.zip!/b.png": "corrupt",
        "cut.tar!/a.png": 1,
        "cut.tar!/b.png": "truncated",
        "cut.tar": "truncated",
        "cut.tgz!/a.png": 1,
        "cut.tgz": "truncated",
        "words.gz": "unsupported",
        "words.bz2": "unsupported",
        "odd.zip": "corrupt",
    }


def test_unknown_compression(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.png": png(1), "b.png": png(2)}, zipfile.ZIP_STORED))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(signature) + offset] = 9  # Deflate64
    write(tmp_path, {"x.zip": bytes(data)})
    assert told(find_sources(tmp_path), tmp_path) == {"x.zip!/a.png": "unsupported", "x.zip!/b.png": 2}


def test_temporary_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(archives, "_IN_MEMORY", 10)
    write(tmp_path, {"a.zip": zipped({"b.zip": zipped({"c.png": png(3)}), "broken.zip": b"PK\x03\x04" + bytes(50)})})
    assert told(find_sources(tmp_path / "a.zip"), tmp_path) == {"a.zip!/b.zip!/c.png": 3, "a.zip!/broken.zip": "corrupt"}
    gc.collect()
    assert not list((tmp_path / "temporary").iterdir())

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", full)
    (source, _) = find_sources(tmp_path / "a.zip")
    rejection = source.read().rejections[0]
    assert rejection.reason == "failed"
    assert "No space left" in rejection.detail


_SEED = zipped({"a.png": png(1), "b": tarred({"c.png": png(2)}), "d.zip": zipped({"e.png": png(3)})})


@given(
    st.sampled_from([_SEED, tarred({"c.png": png(2), "d.png": png(1)})]),
    st.integers(0, 6000),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_damage_never_raises(tmp_path_factory: pytest.TempPathFactory, seed: bytes, length: int, edits: list[tuple[int, int]]) -> None:
    data = bytearray(seed[:length])
    for position, value in edits:
        if position < len(data):
            data[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    studies = [source.read() for source in find_sources(path, limits=Limits(max_bytes=1 << 20, max_nested_bytes=1 << 20))]
    assert studies
    assert all(study.radiographs or study.rejections for study in studies)


def test_names_that_are_passed_over() -> None:
    assert not any(map(is_passed_over, ("a.png", "a", "dir.txt/IM0001", "x.gz", "../a.png", "report.gif")))
    assert all(map(is_passed_over, (".a.png", "a.TXT", "x/.y/z.png", "x\\__MACOSX\\z.png", "DICOMDIR")))
