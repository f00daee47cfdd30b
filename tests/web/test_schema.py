"""Schemathesis reads the OpenAPI document and sends what it allows, and what it does not: every answer must be a documented one."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import uvicorn
from support.serving import Grades, wait_until

from kneexray.web.app import create_app
from kneexray.web.settings import Settings

pytest.importorskip("schemathesis", reason="schemathesis is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    app = create_app(Settings(workers=1), predictor=Grades())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("known", [False, True], ids=["no visit", "a visit"])
def test_every_answer_is_a_documented_one(address: str, known: bool, tmp_path: Path):
    options = ["--checks", "all", "--max-examples", "10", "--seed", "1", "--exclude-path-regex", "^/dicom-web", "--no-color"]
    if known:  # that DELETE would take away
        visit = httpx2.post(f"{address}/api/v1/sample").json()["visit"]
        (tmp_path / "schemathesis.toml").write_text(f'[parameters]\n"path.id" = "{visit}"\n')
        options += ["--exclude-method", "DELETE", "--include-path-regex", "/visits/"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/api/v1/openapi.json", *options]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert answer.returncode == 0, answer.stdout[-5000:] + answer.stderr[-1000:]
