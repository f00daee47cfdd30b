"""The workbench: its pages as Streamlit runs them, and what they rest on."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

pytest.importorskip("streamlit", reason="the workbench extra is not installed")
pytest.importorskip("pyarrow", reason="the eval extra is not installed")

from streamlit.testing.v1 import AppTest

from kneexray.cli.app import app as cli
from kneexray.datasets import manifest as manifests
from kneexray.datasets.manifest import Manifest
from kneexray.errors import ConfigError, DataError
from kneexray.evaluation.evaluate import evaluate
from kneexray.evaluation.inputs import EvaluationInput
from kneexray.evaluation.predictions_file import write_predictions
from kneexray.tasks import get_task
from kneexray.workbench import decisions, evaluations, findings, fragments, launch, palette, places, reading_queue, thresholds
from kneexray.workbench.decisions import Decision

KL = get_task("kl")


@pytest.fixture(scope="module")
def labels(knees: Path) -> Manifest:
    """The drawn knees as a manifest."""
    return manifests.load(knees, task="kl")


def answers(labels: Manifest, *, seed: int, model_id: str = "a-model") -> EvaluationInput:
    """Answers to the validation knees that are right more often than not."""
    examples = labels.split("val")
    target = np.array(labels.labels(examples))
    logits = np.random.default_rng(seed).normal(0, 1, (len(examples), 5)) + 1.5 * np.eye(5)[target]
    odds = np.exp(logits)
    return EvaluationInput(
        task="kl",
        model_id=model_id,
        split_quality="patient",
        file=[e.path for e in examples],
        target=target,
        probabilities=odds / odds.sum(axis=1, keepdims=True),
        patient_id=[e.patient_id for e in examples],
        side=[e.side for e in examples],
        split=[e.split for e in examples],
        source=[e.source for e in examples],
        logits=logits,
    )


@pytest.fixture(scope="module")
def desk(labels: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two evaluations, a run, an audit and a manifest."""
    root = tmp_path_factory.mktemp("desk")
    for seed, name in enumerate(("eval-a", "eval-b")):
        (root / name).mkdir()
        write_predictions(root / name / "predictions.parquet", answers(labels, seed=seed, model_id=name))
    run = root / "run"
    run.mkdir()
    rows = [
        {"epoch": e, "step": e, "train_loss_epoch": 1 - e / 10, "val_nll": 1.0, "val_qwk": e / 10, "val_accuracy": 0.5} for e in range(3)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "config.json").write_text(json.dumps({"task": "kl", "optim": {"epochs": 5}, "select": {"monitor": "val_qwk"}}))
    manifests.write(labels, run / "data.csv")
    manifests.write(labels, root / "manifest.csv")
    own = manifests.load(root / "manifest.csv", task="kl")
    first, second, third = (example.path for example in own.examples[:3])
    audit = {
        "digest": own.digest(),
        "near_pairs": [{"files": [second, third], "how": "mirrored", "agreement": 0.9, "points": 30}],
        "label_conflicts": [{"files": [first, second], "labels": ["0", "0"]}],
        "split_leaks": [],
        "near_groups": [[second, third]],
        "exact_groups": [],
        "suspicious": [{"file": third, "reason": "looks inverted"}],
    }
    (root / "audit").mkdir()
    (root / "audit" / "audit.json").write_text(json.dumps(audit))
    return root


@pytest.fixture
def page(desk: Path, knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AppTest]:
    """Open a page of the workbench on the desk; what it writes goes into ``tmp_path``."""
    monkeypatch.setattr(sys, "argv", ["app.py", str(tmp_path / "out"), str(desk), str(knees)])

    def opened(name: str) -> AppTest:
        script = f"from kneexray.workbench.views import {name}\n{name}.show()"
        return AppTest.from_string(script, default_timeout=120).run()

    return opened


def shown(at: AppTest) -> str:
    """Everything that a page says."""
    assert not at.exception, at.exception
    texts = [*at.title, *at.subheader, *at.caption, *at.markdown, *at.warning, *at.error, *at.info, *at.success]
    return "\n".join([*(str(text.value) for text in texts), *(str(html.proto.body) for html in at.get("html"))])


def button(at: AppTest, key: str) -> AppTest:
    """Press a button and return the page after it."""
    return at.button(key=key).click().run()


def test_the_app_opens_on_the_page_for_films(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["app.py", str(tmp_path), str(desk)])
    at = AppTest.from_file(str(Path(launch.__file__).with_name("app.py")), default_timeout=120).run()
    assert at.title[0].value == "Predict"
    assert "Not a medical device" in shown(at)
    at.sidebar.text_input(key="place").input(str(tmp_path / "absent")).run()
    assert "does not exist" in at.error[0].value


def test_a_drawn_knee_is_graded_on_the_page(page: Callable[[str], AppTest]):
    at = page("predict")
    at.button_group(key="sample").set_value(4).run()
    said = shown(at)
    assert "KL 4" in said
    assert "90 % prediction set" in said
    assert at.slider(key="heat").value == 60


def test_what_is_no_knee_is_refused_with_its_reason(page: Callable[[str], AppTest]):
    at = page("predict")
    at.file_uploader(key="films").set_value([("note.png", b"no picture at all", "image/png")]).run()
    assert "Not graded" in shown(at)


def test_a_dicom_film_is_shown_without_what_it_says_of_its_patient(page: Callable[[str], AppTest]):
    nodes = pytest.importorskip("support.nodes", reason="the serve extra (pynetdicom) is not installed")
    at = page("predict")
    at.file_uploader(key="films").set_value([("film.dcm", nodes.as_file(nodes.film()), "application/dicom")]).run()
    said = shown(at)
    assert "90 % prediction set" in said
    assert "film.dcm" in said
    for secret in (nodes.PATIENT_ID, nodes.ACCESSION, *nodes.NAME.split("^")):
        assert secret not in said


def test_a_running_run_shows_its_curves_and_its_recipe(page: Callable[[str], AppTest]):
    at = page("runs")
    assert "3 of 5 epochs" in at.info[0].value
    assert {m.label: m.value for m in at.metric}["Best epoch"] == "3 of 3"
    assert len(at.get("vega_lite_chart")) == 4


@pytest.mark.parametrize("part", ["Figures", "Confusion matrix", "Worst errors", "Calibration", "OA threshold", "Subgroups and sets"])
def test_every_part_of_an_evaluation_is_shown(page: Callable[[str], AppTest], part: str):
    at = page("evaluations")
    at.button_group(key="part").set_value(part).run()
    said = shown(at)
    if part == "Confusion matrix":
        truth, answer = at.selectbox(key="cell").value
        assert f"KL {answer}" in said
        assert truth != answer, "the fullest cell off the diagonal comes first"
        assert "data:image/jpeg" in said
    if part == "OA threshold":
        at.select_slider(key="threshold").set_value(0.98).run()
        assert {m.label: m.value for m in at.metric}["Specificity"] == "1.000"


def test_two_evaluations_are_compared_in_words(page: Callable[[str], AppTest]):
    at = page("compare")
    assert re.search(r"is better in QWK|No difference in QWK|have the same QWK", shown(at))


def test_choices_on_findings_become_a_new_manifest_and_the_old_one_stays(page: Callable[[str], AppTest], desk: Path, tmp_path: Path):
    before = (desk / "manifest.csv").read_bytes()
    at = page("findings")
    at.selectbox(key="audited").select(desk / "manifest.csv").run()
    first, second = (e.path for e in manifests.load(desk / "manifest.csv", task="kl").examples[:2])
    at.text_input(key="reader").input("AB").run()
    at.button_group(key=f"choice-label_conflicts-0-{first}").set_value("3").run()
    at.button_group(key=f"choice-label_conflicts-0-{second}").set_value("drop").run()
    assert "1 decided" in shown(at)
    lines = [json.loads(line) for line in (tmp_path / "out" / decisions.FILE).read_text().splitlines()]
    assert [(line["label"], line["reader"]) for line in lines] == [("3", "AB"), (None, "AB")]
    at = button(at, "write")
    shown(at)
    old, new = (manifests.load(path, task="kl") for path in (desk / "manifest.csv", tmp_path / "out" / "manifest-1.csv"))
    assert len(new.examples) == len(old.examples) - 1
    assert new.examples[0].label == "3"
    assert (desk / "manifest.csv").read_bytes() == before


def test_the_others_of_a_group_are_dropped_at_once(page: Callable[[str], AppTest], desk: Path):
    at = page("findings")
    at.selectbox(key="audited").select(desk / "manifest.csv").run()
    first = manifests.load(desk / "manifest.csv", task="kl").examples[0].path
    button(at, f"only-label_conflicts-0-{first}")
    assert {m.label: m.value for m in at.metric}["Dropped"] == "1"


def test_a_reader_goes_through_the_queue_and_may_go_back(page: Callable[[str], AppTest], tmp_path: Path):
    at = page("reading")
    assert "answered" not in "".join(m.value for m in at.markdown), "label and answer are not given away"
    button(at, "grade-2")
    button(at, "drop")
    button(at, "back")
    button(at, "grade-4")
    lines = [json.loads(line) for line in (tmp_path / "out" / decisions.FILE).read_text().splitlines()]
    assert [line["label"] for line in lines] == ["2", None, "4"]
    assert lines[1]["file"] == lines[2]["file"] != lines[0]["file"]
    assert len(decisions.read(tmp_path / "out" / decisions.FILE, task=KL)) == 2


def test_pages_without_data_say_how_to_make_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Callable[[str], AppTest]):
    monkeypatch.setattr(sys, "argv", ["app.py", str(tmp_path)])
    for name in ("runs", "evaluations", "compare", "findings", "reading"):
        at = page(name)
        shown(at)
        assert at.code[0].value.startswith("kneexray ")


def test_streamlit_is_told_to_keep_to_this_machine(tmp_path: Path):
    given = launch.arguments([tmp_path], out=tmp_path / "out", port=8600)
    assert {"--server.address=127.0.0.1", "--server.port=8600", "--browser.gatherUsageStats=false"} <= set(given)
    assert given[-3:] == ["--", str(tmp_path / "out"), str(tmp_path)]


def test_the_theme_names_options_that_streamlit_has():
    from streamlit import config

    assert {f"theme.{name}" for name in palette.theme()} <= set(config.get_config_options())
    assert "light-dark(#1f2328, " in palette.style()


def test_a_path_that_is_not_there_is_told_before_anything_starts(tmp_path: Path):
    answer = CliRunner().invoke(cli, ["workbench", str(tmp_path / "absent")])
    assert isinstance(answer.exception, DataError)


def test_places_are_told_by_what_they_hold(desk: Path, knees: Path):
    found = places.find([desk, knees, desk / "manifest.csv"])
    assert [p.name for p in found.evaluations] == ["eval-a", "eval-b"]
    assert [p.name for p in found.runs] == ["run"]
    assert [p.name for p in found.audits] == ["audit"]
    assert found.manifests == (desk / "manifest.csv", desk / "run" / "data.csv")
    with pytest.raises(DataError, match="neither folder nor table"):
        places.find([next(knees.rglob("*.png"))])


def test_the_threshold_page_agrees_with_the_evaluation(labels: Manifest):
    inputs = answers(labels, seed=3)
    half = next(point for point in thresholds.operating_points(inputs) if point.threshold == 0.5)
    oa = evaluate(inputs)["oa"]
    assert half.sensitivity["value"] == pytest.approx(oa["sensitivity"]["value"])
    assert half.specificity["value"] == pytest.approx(oa["specificity"]["value"])
    assert half.true_positive + half.false_negative == oa["n_positive"]
    with pytest.raises(ValueError, match="osteoporosis"):
        thresholds.operating_points(replace(inputs, task="osteoporosis", probabilities=np.full((20, 3), 1 / 3), logits=None))


def test_a_cell_holds_its_films_the_surest_first(labels: Manifest):
    inputs = answers(labels, seed=1)
    counts = evaluate(inputs)["confusion_matrix"]
    for truth in range(5):
        for answer in range(5):
            rows = evaluations.cell(inputs, truth=truth, answer=answer)
            assert len(rows) == counts[truth][answer]
            sure = inputs.probabilities[rows, answer]
            assert (np.diff(sure) <= 0).all()


@given(st.lists(st.lists(st.floats(0.01, 1), min_size=5, max_size=5), min_size=1, max_size=20))
def test_entropy_is_between_certain_and_clueless(rows: list[list[float]]):
    given_rows = np.array(rows)
    given_rows /= given_rows.sum(axis=1, keepdims=True)
    found = reading_queue.entropy(given_rows)
    assert ((found >= 0) & (found <= 1)).all()
    assert reading_queue.entropy(np.full((1, 5), 0.2))[0] == pytest.approx(1)
    assert reading_queue.entropy(np.eye(5)) == pytest.approx(0)


def test_the_queue_starts_with_the_least_certain_and_names_a_file_once(labels: Manifest):
    inputs = answers(labels, seed=0)
    twice = replace(inputs, file=[inputs.file[0], *inputs.file[:-1]], facts={})
    order = reading_queue.queue(twice)
    assert len({twice.file[row] for row in order}) == len(order) == len(set(twice.file))
    uncertain = reading_queue.entropy(twice.probabilities)[order]
    assert (np.diff(uncertain) <= 0).all()


def test_decisions_outlive_a_torn_line_and_the_last_one_counts(tmp_path: Path):
    path = tmp_path / "deep" / decisions.FILE
    decisions.record(path, Decision("/a.png", "kl", "2"))
    with path.open("ab") as file:
        file.write(b'{"file": "/b.p')
    decisions.record(path, Decision("/a.png", "kl", None, reader="AB"))
    decisions.record(path, Decision("/c.png", "osteoporosis", "normal"))
    found = decisions.read(path, task=KL)
    assert {file: d.label for file, d in found.items()} == {"/a.png": None}
    assert found["/a.png"].time
    path.write_text('{"file": "/a.png", "task": "kl", "label": "7"}\n')
    with pytest.raises(DataError, match="label '7' is none of task 'kl'"):
        decisions.read(path, task=KL)


def test_no_manifest_is_written_over(labels: Manifest, tmp_path: Path):
    files = [decisions.key(labels.path_of(example)) for example in labels.examples[:3]]
    decided = {
        files[0]: Decision(files[0], "kl", "4"),
        files[1]: Decision(files[1], "kl", labels.examples[1].label),
        files[2]: Decision(files[2], "kl", None),
    }
    outcome = decisions.apply(labels, decided)
    assert (outcome.relabelled, outcome.kept, outcome.dropped) == (1, 1, 1)
    assert labels.examples[0].label == "0"
    target = decisions.free_name(tmp_path)
    decisions.write(outcome, target)
    assert manifests.load(target, task="kl").examples[0].label == "4"
    assert decisions.free_name(tmp_path) == tmp_path / "manifest-2.csv"
    with pytest.raises(ConfigError, match="exists already"):
        decisions.write(outcome, target)
    with pytest.raises(ConfigError, match="CSV or Parquet"):
        decisions.write(outcome, tmp_path / "manifest.txt")
    with pytest.raises(DataError, match="no film would be left"):
        decisions.apply(labels, {decisions.key(labels.path_of(e)): Decision("", "kl", None) for e in labels.examples})


def test_findings_come_by_kind_and_a_broken_audit_is_named(desk: Path, tmp_path: Path):
    found, _ = findings.read(desk / "audit")
    assert list(found) == ["label_conflicts", "near_groups", "suspicious"]
    assert found["near_groups"][0].what == "mirrored"
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(DataError, match="is no audit that can be read"):
        findings.read(tmp_path)


def test_names_of_files_are_escaped():
    page = fragments.grid([fragments.Tile([None], "<b>", "x/<script>alert(1)</script>.png")])
    assert "<script>" not in page
    assert "&lt;b&gt;" in page
