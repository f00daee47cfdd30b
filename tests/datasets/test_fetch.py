"""Downloads against a server on this machine that is slow, breaks off, lies about its hash, or refuses."""

from __future__ import annotations

import hashlib
import io
import threading
import time
import types
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kneexray.datasets.catalogue import CATALOGUE, get_card
from kneexray.datasets.catalogue.record import ByHand, Card, Kaggle, WebFile
from kneexray.datasets.fetch import fetch
from kneexray.errors import ConfigError, DataError, MissingExtraError


def archive(size: int = 300_000) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("0/9003175L.png", bytes(range(256)) * (size // 256))
    return data.getvalue()


@dataclass
class Behaviour:
    """What the server does: each of ``cuts`` ends one answer after that many bytes of it, each of ``codes`` is the status of one answer."""

    data: bytes
    cuts: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    etag: str = '"one"'
    ranges: bool = True
    kind: str = "application/zip"
    delay: float = 0.0
    stall: float = 0.0
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    behaviour: Behaviour

    def do_GET(self) -> None:
        does = self.behaviour
        asked = self.headers.get("Range", "")
        does.asked.append(asked)
        if does.codes and (code := does.codes.pop(0)) != 200:
            self.send_error(code)
            return
        start = 0
        if asked and does.ranges and self.headers.get("If-Range") == does.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start > len(does.data):
            self.send_error(416)
            return
        rest = does.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", does.kind)
        self.send_header("Content-Length", str(len(rest)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(does.data) - 1}/{len(does.data)}")
        if does.etag:
            self.send_header("ETag", does.etag)
        self.end_headers()
        rest = rest[: does.cuts.pop(0)] if does.cuts else rest
        pause, does.stall = does.stall, 0.0
        time.sleep(pause)
        with suppress(BrokenPipeError, ConnectionResetError):  # the other side gave up
            for place in range(0, len(rest), 65536):
                self.wfile.write(rest[place : place + 65536])
                time.sleep(does.delay)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator:
    servers = []

    def start(behaviour: Behaviour) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"behaviour": behaviour}))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/set"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def card(url: str, sha256: str | None = None) -> Card:
    return replace(CATALOGUE["chen2018"], access=WebFile(url, "set.zip", sha256))


def bring(url: str, out: Path, *, sha256: str | None = None, **options: object) -> Path:
    return fetch(card(url, sha256), out, **{"wait": 0.01, "retries": 2, "timeout": 5.0} | options)


DATA = archive()
HASH = hashlib.sha256(DATA).hexdigest()


def test_a_file_arrives_whole_and_is_checked(serve, tmp_path: Path):
    seen: list[tuple[int, int | None]] = []
    place = bring(serve(Behaviour(DATA)), tmp_path, sha256=HASH, progress=lambda here, total: seen.append((here, total)))
    assert place.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert [p.name for p in tmp_path.iterdir()] == ["set.zip"]


def test_what_is_there_is_kept(serve, tmp_path: Path):
    behaviour = Behaviour(DATA)
    url = serve(behaviour)
    bring(url, tmp_path, sha256=HASH)
    bring(url, tmp_path, sha256=HASH)
    assert len(behaviour.asked) == 1


def test_a_slow_server_is_waited_for(serve, tmp_path: Path):
    assert bring(serve(Behaviour(DATA, delay=0.05)), tmp_path, sha256=HASH, timeout=1.0).read_bytes() == DATA


def test_a_silent_server_is_asked_again(serve, tmp_path: Path):
    behaviour = Behaviour(DATA, stall=3.0)
    assert bring(serve(behaviour), tmp_path, sha256=HASH, timeout=1.0).read_bytes() == DATA
    assert len(behaviour.asked) == 2


def test_a_broken_download_goes_on_where_it_was_cut(serve, tmp_path: Path):
    behaviour = Behaviour(DATA, cuts=[98_304, 49_152])
    assert bring(serve(behaviour), tmp_path, sha256=HASH).read_bytes() == DATA
    assert behaviour.asked == ["", "bytes=98304-", "bytes=147456-"]


def test_a_broken_download_starts_over_where_the_server_cannot_resume(serve, tmp_path: Path):
    behaviour = Behaviour(DATA, cuts=[98_304], ranges=False, etag="")
    assert bring(serve(behaviour), tmp_path, sha256=HASH).read_bytes() == DATA


def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(serve, tmp_path: Path):
    url = serve(first := Behaviour(DATA, cuts=[98_304, 0, 0, 0, 0]))
    with pytest.raises(DataError, match="broke off"):
        bring(url, tmp_path)
    assert (tmp_path / "set.zip.part").stat().st_size == 98_304
    first.data, first.etag, first.cuts = archive(200_000), '"two"', []
    assert bring(url, tmp_path).read_bytes() == first.data


def test_the_next_call_resumes_what_the_last_one_had_to_leave(serve, tmp_path: Path):
    behaviour = Behaviour(DATA, cuts=[98_304, 0, 0, 0])
    url = serve(behaviour)
    with pytest.raises(DataError, match="goes on at 98,304 bytes"):
        bring(url, tmp_path, sha256=HASH)
    behaviour.cuts = []
    assert bring(url, tmp_path, sha256=HASH).read_bytes() == DATA
    assert behaviour.asked[-1] == "bytes=98304-"
    assert [p.name for p in tmp_path.iterdir()] == ["set.zip"]


def test_a_wrong_hash_is_told_and_the_file_removed(serve, tmp_path: Path):
    with pytest.raises(DataError, match="not the file that was checked"):
        bring(serve(Behaviour(DATA)), tmp_path, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [401, 403])
def test_a_refusal_says_what_a_person_can_do_and_is_not_tried_again(serve, tmp_path: Path, code: int):
    behaviour = Behaviour(DATA, codes=[code] * 9)
    with pytest.raises(DataError, match=rf"refuses \({code}\).*licence to accept.*data\.mendeley\.com"):
        bring(serve(behaviour), tmp_path)
    assert len(behaviour.asked) == 1


def test_a_missing_file_is_told_at_once(serve, tmp_path: Path):
    behaviour = Behaviour(DATA, codes=[404] * 9)
    with pytest.raises(DataError, match="answers 404"):
        bring(serve(behaviour), tmp_path)
    assert len(behaviour.asked) == 1


def test_a_server_that_fails_for_a_moment_is_asked_again(serve, tmp_path: Path):
    assert bring(serve(Behaviour(DATA, codes=[503, 429])), tmp_path, sha256=HASH).read_bytes() == DATA


def test_a_server_that_fails_for_good_is_told(serve, tmp_path: Path):
    with pytest.raises(DataError, match="answers 500"):
        bring(serve(Behaviour(DATA, codes=[500] * 9)), tmp_path)


def test_a_login_page_is_no_data_set(serve, tmp_path: Path):
    with pytest.raises(DataError, match="a web page came"):
        bring(serve(Behaviour(b"<html>log in</html>", kind="text/html; charset=utf-8")), tmp_path)
    with pytest.raises(DataError, match="no archive but text"):
        bring(serve(Behaviour(b"please log in to go on", kind="application/zip")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_server_at_all_is_told(tmp_path: Path):
    with pytest.raises(DataError, match="Check the network"):
        bring("http://127.0.0.1:9/set", tmp_path)


def test_a_set_that_a_person_must_bring_says_how(tmp_path: Path):
    with pytest.raises(DataError, match=r"Open the page.*wwwn\.cdc\.gov"):
        fetch(get_card("nhanes3"), tmp_path)


def test_kaggle_is_asked_through_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    def download(handle: str, *, output_dir: str) -> str:
        Path(output_dir).mkdir()
        return output_dir

    errors = types.ModuleType("kagglehub.exceptions")
    for name in ("BackendError", "CredentialError", "DataCorruptionError", "NotFoundError", "UnauthenticatedError"):
        setattr(errors, name, type(name, (Exception,), {}))
    library = types.ModuleType("kagglehub")
    library.dataset_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", library)
    monkeypatch.setitem(sys.modules, "kagglehub.exceptions", errors)
    assert fetch(get_card("stevepython"), tmp_path) == tmp_path / "stevepython"

    def refuse(handle: str, *, output_dir: str) -> str:
        raise errors.UnauthenticatedError("log in first")

    library.dataset_download = refuse  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"log in first.*API token"):
        fetch(get_card("gobara"), tmp_path)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtraError, match="'kaggle' extra"):
        fetch(get_card("gobara"), tmp_path)


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_every_card_is_filled_in(name: str):
    facts = get_card(name).to_dict()
    for key in ("title", "task", "labels", "counts", "licence", "citation", "url", "size", "sha256", "layout", "traps"):
        assert facts[key], key
    assert isinstance(get_card(name).access, WebFile | Kaggle | ByHand)


def test_an_unknown_set_lists_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean chen2018"):
        get_card("chen2019")
