"""What stands at the front door: public names, types, packaging, workflow files, the documentation site."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import kneexray

PUBLIC = {
    "BundleError",
    "ConfigError",
    "DataError",
    "FilmResult",
    "Knee",
    "KneeXRayError",
    "MissingExtraError",
    "OutputError",
    "Prediction",
    "Predictor",
    "Radiograph",
    "ReadError",
    "Rejection",
    "Study",
    "TASKS",
    "open_bundle",
    "read_file",
}


def test_the_public_names_are_these_and_each_can_be_had():
    assert {name for name in dir(kneexray) if not name.startswith("_")} == PUBLIC
    for name in PUBLIC:
        assert getattr(kneexray, name) is not None


def test_types_ship(root: Path):
    assert (root / "src" / "kneexray" / "py.typed").exists()


@pytest.mark.parametrize("name", [".pre-commit-config.yaml", ".github/workflows/ci.yml", "CITATION.cff"])
def test_files_for_forges_are_valid_yaml(root: Path, name: str):
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load((root / name).read_text(encoding="utf-8"))


def test_the_citation_has_the_present_version(root: Path):
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))["version"] == kneexray.__version__


def test_the_workflow_runs_what_ci_runs_here(root: Path):
    text = (root / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    for command in ("ruff check .", "ruff format --check .", "lint-imports", "mypy", "mkdocs build --strict", ".ci/run"):
        assert f"run: {command}" in text


def test_no_extra_is_asked_for_under_a_name_that_is_not_published(root: Path):
    for page in [*root.glob("*.md"), *(root / "docs").glob("*.md"), *(root / "src").rglob("*.py")]:
        assert "pip install kneexray" not in page.read_text(encoding="utf-8"), page
        assert "pip install 'kneexray" not in page.read_text(encoding="utf-8"), page


@pytest.mark.slow
@pytest.mark.network
def test_the_wheel_holds_recipes_models_and_types(root: Path, tmp_path: Path):
    command = [sys.executable, "-m", "uv", "build", "--wheel", "--system-certs", "--out-dir", str(tmp_path), str(root)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(f"no wheel can be built here: {built.stderr[-200:]}")
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    assert {"kneexray/py.typed", "kneexray/recipes/studies/osteoporosis-cnn.toml"} <= names
    assert any(name.startswith("kneexray/models/") and name.endswith(".onnx") for name in names)


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(root: Path, tmp_path: Path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    assert (tmp_path / "generated" / "gallery" / "index.html").exists()


def test_every_extra_that_dev_needs_exists(root: Path):
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    asked = next(line for line in extras["dev"] if line.startswith("kneexray[")).removeprefix("kneexray[").removesuffix("]").split(",")
    assert set(asked) <= set(extras)
