"""The record of a run: complete, plain, and silent about who and where."""

from __future__ import annotations

import getpass
import json
import platform
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from kneexray import __version__, provenance
from kneexray.errors import OutputError
from kneexray.provenance import command_line, environment, run_manifest, without_home, write_manifest

STARTED = datetime(2026, 1, 15, 9, 30, tzinfo=UTC)


def manifest(**changed: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "command": ["/opt/venv/bin/kneexray", "predict", "my films", "--out", "out"],
        "config": {"coverage": 0.9, "seed": 7},
        "inputs": {"model.onnx": "ab12"},
        "outputs": {"films": 3},
        "started": STARTED,
        "finished": STARTED + timedelta(seconds=2.5),
        "environment": {"device": "cpu"},
    }
    return run_manifest(**(facts | changed))


def test_manifest_holds_the_facts_and_nothing_else() -> None:
    assert manifest() == {
        "version": 1,
        "command": "kneexray predict 'my films' --out out",
        "started": "2026-01-15T09:30:00+00:00",
        "finished": "2026-01-15T09:30:02.500000+00:00",
        "seconds": 2.5,
        "config": {"coverage": 0.9, "seed": 7},
        "inputs": {"model.onnx": "ab12"},
        "outputs": {"films": 3},
        "environment": {"device": "cpu"},
    }
    assert manifest() == manifest()


def test_manifest_is_plain_json_whatever_it_is_given() -> None:
    config = MappingProxyType(
        {
            "path": PurePosixPath("a/b"),
            "rate": np.float32(0.5),
            "sizes": (1, np.int64(2)),
            "weights": np.array([[1.0, np.nan]]),
            "best": float("inf"),
            "on": True,
            "none": None,
            "when": STARTED,
            3: {"x"},
        }
    )
    plain = {
        "path": "a/b",
        "rate": 0.5,
        "sizes": [1, 2],
        "weights": [[1.0, None]],
        "best": None,
        "on": True,
        "none": None,
        "when": "2026-01-15T09:30:00+00:00",
        "3": ["x"],
    }
    config_written = manifest(config=config)["config"]
    assert config_written == plain
    json.dumps(config_written, allow_nan=False)


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        ([], ""),
        (["/opt/venv/bin/kneexray", "info"], "kneexray info"),
        (["/opt/venv/lib/kneexray/__main__.py", "info"], "kneexray info"),
        (["kneexray", "predict", "/home/ann/films", "--out=/home/ann/out"], "kneexray predict ~/films --out=~/out"),
    ],
)
def test_command_is_as_a_person_types_it(command: list[str], typed: str) -> None:
    assert command_line(command, home="/home/ann") == typed


@pytest.mark.parametrize(
    ("text", "home", "said"),
    [
        ("/home/ann/films/1.png", "/home/ann", "~/films/1.png"),
        ("/home/ann", "/home/ann", "~"),
        ("/home/anna/1.png", "/home/ann", "/home/anna/1.png"),
        ("/data/home/ann/1.png", "/home/ann", "/data/home/ann/1.png"),
        ("file /home/ann/1.png is blank", "/home/ann", "file ~/1.png is blank"),
        ("C:\\Users\\ann\\1.png", "C:\\Users\\ann", "~\\1.png"),
        ("/a/b", "/", "/a/b"),
        ("films/1.png", "/home/ann", "films/1.png"),
    ],
)
def test_home_is_not_told_and_other_paths_are_as_given(text: str, home: str, said: str) -> None:
    assert without_home({text: [text, 1, None]}, home=home) == {said: [said, 1, None]}


def test_written_manifest_names_neither_home_nor_user_nor_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home-of-ann"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    facts = manifest(command=["kneexray", "predict", str(home / "films")], inputs={str(home / "m.onnx"): "ab"}, environment=environment())
    write_manifest(tmp_path / "out" / "manifest.json", facts)
    text = (tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")
    assert "home-of-ann" not in text
    assert json.loads(text)["inputs"] == {"~/m.onnx": "ab"}
    words = set(json.dumps(json.loads(text)["environment"]).replace("-", " ").split('"'))
    assert not {platform.node(), getpass.getuser()} & words


def test_environment_names_what_matters() -> None:
    facts = environment(device="cuda: H200")
    assert facts["kneexray"] == __version__
    assert facts["device"] == "cuda: H200"
    assert {"numpy", "pillow", "onnxruntime", "pydicom"} <= set(facts["packages"])
    assert not {"ruff", "pytest", "kneexray"} & set(facts["packages"])
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["cpu_count"] >= 1
    json.dumps(facts)


def test_environment_of_a_folder_that_was_never_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise provenance.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(provenance.metadata, "requires", absent)
    assert environment()["packages"] == {}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_is_that_of_the_checkout_itself(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    inside = tmp_path / "venv" / "site-packages"
    inside.mkdir(parents=True)
    assert provenance._commit(tmp_path) is None
    git("init", "-q")
    assert provenance._commit(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "a")
    assert provenance._commit(tmp_path) == {"commit": git("rev-parse", "HEAD"), "modified": False}
    (tmp_path / "a").write_text("2")
    assert provenance._commit(tmp_path) == {"commit": git("rev-parse", "HEAD"), "modified": True}
    assert provenance._commit(inside) is None  # installed inside somebody else's checkout


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance._commit(tmp_path) is None


def test_a_manifest_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="a file is where a folder is meant"):
        write_manifest(tmp_path / "out" / "manifest.json", manifest())
