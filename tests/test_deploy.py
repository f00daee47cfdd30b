"""What stands in ``deploy/``: parsed, linted where the tools are, and compared with the program that it starts."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from kneexray.cli.app import app


@pytest.fixture(scope="module")
def deploy(root: Path) -> Path:
    return root / "deploy"


@pytest.fixture(scope="module")
def options() -> set[str]:
    """The options of ``kneexray serve``."""
    return {name for parameter in get_command(app).commands["serve"].params for name in parameter.opts}


@pytest.fixture(scope="module")
def compose(deploy: Path) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return yaml.safe_load((deploy / "compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def unit(deploy: Path) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(deploy / "kneexray.service", encoding="utf-8")
    return parser


def named(words: list[str]) -> set[str]:
    """The long options among ``words``."""
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def instructions(deploy: Path) -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each with its arguments on one line."""
    text = re.sub(r"\\\n", " ", (deploy / "Dockerfile").read_text(encoding="utf-8"))
    return [(line.split()[0], line.partition(" ")[2]) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_container_starts_what_there_is_as_nobody_in_particular(deploy: Path, options: set[str]):
    told = dict(instructions(deploy))
    assert json.loads(told["ENTRYPOINT"]) == ["kneexray"]
    assert json.loads(told["CMD"])[0] == "serve"
    assert named(json.loads(told["CMD"])) <= options
    assert told["USER"] == "10001:10001"


def test_the_health_check_asks_where_health_is_told_without_a_token(deploy: Path):
    security = pytest.importorskip("kneexray.web.security", reason="the serve extra is not installed")
    assert f"http://127.0.0.1:8000{security._OPEN}'" in dict(instructions(deploy))["HEALTHCHECK"]


def test_the_image_is_made_from_files_that_are_there_and_not_ignored(deploy: Path, root: Path):
    ignored = (deploy / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [source for name, rest in instructions(deploy) if name == "COPY" and "--from" not in rest for source in rest.split()[:-1]]
    assert "requirements/serve.txt" in copied
    for source in copied:
        assert f"!{source}" in ignored
        assert (root / source).exists(), f"{source} is not there: CONTRIBUTING.md tells how requirements are pinned"


def test_the_base_image_is_a_python_that_the_package_runs_on(deploy: Path, root: Path):
    least = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"].removeprefix(">=")
    bases = [rest.split()[0] for name, rest in instructions(deploy) if name == "FROM"]
    assert set(bases) == {f"python:{least}-slim"}


def test_compose_starts_the_server_read_only_with_options_it_has(compose: dict[str, Any], options: set[str], deploy: Path):
    service = compose["services"]["kneexray"]
    assert service["command"][0] == "serve"
    assert named(service["command"]) <= options
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"]), "only this machine reaches the pages"
    used = {volume.partition(":")[0] for s in compose["services"].values() for volume in s["volumes"]}
    assert {name for name in used if not name.startswith(".")} == set(compose["volumes"])
    assert all((deploy / name).is_file() for name in used if name.startswith("."))
    assert set(service["secrets"]) == set(compose["secrets"])


def test_orthanc_and_the_node_know_each_other_by_the_same_names(compose: dict[str, Any], deploy: Path):
    given = dict(word.removeprefix("--").split("=", 1) for word in compose["services"]["kneexray"]["command"][1:])
    orthanc = json.loads((deploy / "orthanc.json").read_text(encoding="utf-8"))
    assert given["send-to"] == f"{orthanc['DicomAet']}@orthanc:{orthanc['DicomPort']}"
    assert given["allow"] == orthanc["DicomAet"]
    assert orthanc["DicomModalities"] == {"kneexray": ["KNEEXRAY", "kneexray", int(given["dicom-port"])]}
    mounted = {volume.split(":")[1] for volume in compose["services"]["orthanc"]["volumes"]}
    assert {*orthanc["LuaScripts"], orthanc["StorageDirectory"]} <= mounted


def test_the_unit_starts_the_server_with_options_it_has_and_no_more_rights_than_it_needs(unit: ConfigParser, options: set[str]):
    words = shlex.split(unit["Service"]["ExecStart"])
    assert words[:2] == ["/opt/kneexray/bin/kneexray", "serve"]
    assert named(words) <= options
    assert unit["Service"]["DynamicUser"] == unit["Service"]["NoNewPrivileges"] == "yes"
    assert unit["Service"]["ProtectSystem"] == "strict"
    assert unit["Service"]["CapabilityBoundingSet"] == ""


def test_the_guide_names_options_and_files_that_there_are(root: Path, options: set[str]):
    text = (root / "docs" / "deploy.md").read_text(encoding="utf-8")
    commands = [
        line.partition("kneexray serve")[2] for line in text.splitlines() if line.startswith("      -v") and "kneexray serve" in line
    ]
    asked = re.findall(r"KNEEXRAY_OPTIONS=(.*)", text)
    assert commands
    assert asked
    assert named(shlex.split(" ".join([*commands, *asked]))) <= options
    for name in re.findall(r"^\| `([\w.]+)`", text, flags=re.MULTILINE):
        assert (root / "deploy" / name).is_file()


def test_nginx_hands_on_as_much_as_the_server_takes(deploy: Path):
    settings = pytest.importorskip("kneexray.web.settings").Settings()
    text = (deploy / "nginx.conf").read_text(encoding="utf-8")
    assert f"client_max_body_size {settings.max_upload_mb}m;" in text
    assert f"client_body_timeout {settings.idle_seconds:g}s;" in text
    assert int(re.search(r"proxy_read_timeout (\d+)s", text)[1]) > settings.film_seconds


def test_hadolint_finds_nothing(deploy: Path):
    tool = shutil.which("hadolint") or pytest.skip("hadolint is not installed")
    answer = subprocess.run([tool, str(deploy / "Dockerfile")], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout


def test_systemd_takes_the_unit(deploy: Path, tmp_path: Path):
    tool = shutil.which("systemd-analyze") or pytest.skip("systemd is not installed")
    text = (deploy / "kneexray.service").read_text(encoding="utf-8")
    copy = tmp_path / "kneexray.service"
    copy.write_text(text.replace("/opt/kneexray/bin/kneexray", "/bin/true"), encoding="utf-8")  # verify looks for the program
    answer = subprocess.run([tool, "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
