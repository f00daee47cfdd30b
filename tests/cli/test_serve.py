"""``kneexray serve`` as a process of its own: its options, its client of a few lines, and how it stops."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from support.serving import form, png, wait_until

from kneexray.cli.app import run

TOKEN = "a-token-of-some-length"


@contextmanager
def server(*options: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server at a free port, and its address."""
    command = [sys.executable, "-m", "kneexray", "--verbose", "serve", "--port", "0", "--workers", "1", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"http://\S+", said)
            assert found, said + (process.stderr.read() if process.stderr else "")
            yield process, found[0]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("knees")
    paths = [folder / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        path.write_bytes(png(seed, size=299))
    return paths


@pytest.mark.slow
def test_a_stopped_server_finishes_what_it_took(knees: list[Path]):
    with server() as (process, address):
        httpx2.get(f"{address}/api/v1/health", timeout=60)  # it is up: from here on requests are taken
        answers: list[httpx2.Response] = []
        films = form(*((path.name, path.read_bytes()) for path in knees))
        asking = threading.Thread(target=lambda: answers.append(httpx2.post(f"{address}/api/v1/predict", files=films, timeout=60)))
        asking.start()
        wait_until(lambda: "kneexray_cache_total{" in httpx2.get(f"{address}/metrics", timeout=60).text)
        process.send_signal(signal.SIGTERM)
        asking.join(60)
        assert process.wait(60) == 0
        assert [answer.status_code for answer in answers] == [200]
        assert len(answers[0].json()["predictions"]) == 6
        assert "POST /api/v1/predict 200" in process.stderr.read()


@pytest.mark.slow
def test_the_client_in_the_docs_works(root: Path, knees: list[Path], tmp_path: Path):
    (tmp_path / "token").write_text(TOKEN)
    page = (root / "docs" / "serve.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with server("--token-file", tmp_path / "token") as (_, address):
        text = "\n".join(code).replace("http://127.0.0.1:8000", address).replace('"the-token"', repr(TOKEN))
        names: dict[str, object] = {"__name__": "client"}
        exec(compile(text, "docs/serve.md", "exec", dont_inherit=True), names)
        films = list(names["grade"](knees))
    assert [film["file"] for film in films] == [path.name for path in knees]
    assert all(film["predictions"] for film in films)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "70000"], "--port"),
        (["--max-films", "0"], "--max-films"),
        (["--task", "gout"], "unknown task"),
        (["--provider", "abacus"], "abacus"),
        (["--token-file", "absent"], "--token-file absent"),
        (["--host", "203.0.113.1"], "cannot be listened at"),
        (["--history", "absent/history.sqlite"], "history"),
        (["--dicom-port", "0"], "--spool"),
    ],
)
def test_wrong_use_is_a_sentence(options: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    assert run(["serve", "--port", "0", *options]) in (1, 2)
    assert said in capsys.readouterr().err


def test_a_short_token_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "token").write_text("secret\n")
    assert run(["serve", "--token-file", str(tmp_path / "token")]) == 2
    assert "16" in capsys.readouterr().err


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert run(["serve", "--port", port]) == 2
    assert port in capsys.readouterr().err
