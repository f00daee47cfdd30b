"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kneexray.errors import choices
from kneexray.tasks import TASKS, get_task

HEAVY = ("torch", "timm", "lightning", "pandas", "matplotlib", "sklearn", "pyarrow", "fastapi", "onnxruntime", "pydicom")


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    answer = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    return set(answer.stdout.strip().split(",")) - {""}


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import kneexray") == set()


def test_importing_the_predictor_loads_no_training_library():
    assert loaded_after("import kneexray.predict, kneexray.writers, kneexray.cli.app") == set()


def test_info_lists_what_there_is_and_loads_no_engine():
    assert loaded_after("from kneexray.cli.info import collect; collect()") == set()
    answer = subprocess.run([sys.executable, "-m", "kneexray", "info", "--json"], capture_output=True, text=True, check=True)
    facts = json.loads(answer.stdout)
    assert {task["name"] for task in facts["tasks"]} == set(TASKS)
    assert facts["models"][0]["task"] == "kl"


@pytest.mark.parametrize("forbidden", ["print", "exit", "filterwarnings", "simplefilter"])
def test_library_code_neither_prints_nor_exits_nor_silences_warnings(root: Path, forbidden: str):
    offenders = []
    for path in sorted((root / "src" / "kneexray").rglob("*.py")):
        if "cli" in path.parts or path.name == "__main__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name == forbidden:
                    offenders.append(f"{path.name}:{node.lineno}")
    assert offenders == []


def test_no_file_names_a_pickle_loader(root: Path):
    for path in (root / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import pickle" not in text, path
        assert "allow_pickle=True" not in text, path
        assert "weights_only=False" not in text, path


def test_unknown_names_list_the_nearest():
    assert choices("task", "osteoperosis", TASKS).startswith("unknown task 'osteoperosis'. Did you mean osteoporosis")


@pytest.mark.parametrize(
    ("task", "text", "label"),
    [
        ("kl", "0Normal", "0"),
        ("kl", "1Doubtful", "1"),
        ("kl", "Doubtful", "1"),
        ("kl", "KL3", "3"),
        ("kl", "kl-grade 4", "4"),
        ("kl", "4Severe", "4"),
        ("kl", "5", None),
        ("kl", "mild or moderate", None),
        ("osteoporosis", "Osteophenia", "osteopenia"),
        ("osteoporosis", "Normal", "normal"),
        ("oa", "osteoarthritis", "yes"),
        ("oa", "2", None),
    ],
)
def test_class_names_map_to_labels_or_to_none(task: str, text: str, label: str | None):
    assert get_task(task).label_of(text) == label


@pytest.mark.slow
@pytest.mark.parametrize(
    "tool",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["importlinter.cli"]],
    ids=["lint", "format", "types", "rooms"],
)
def test_the_tree_is_clean(root: Path, tool: list[str]):
    pytest.importorskip(tool[0])
    answer = subprocess.run([sys.executable, "-m", *tool], cwd=root, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_rooms_import_downwards_and_nothing_in_a_circle(root: Path):
    pytest.importorskip("importlinter")
    script = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    answer = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout
