"""The report's data, the stored predictions, and the files: known answers, bad rows, thin data, broken folders."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from matplotlib.figure import Figure
from support.answers import answers

from kneexray.errors import DataError, OutputError
from kneexray.evaluation import metrics
from kneexray.evaluation.evaluate import evaluate
from kneexray.evaluation.metric_table import METRICS
from kneexray.evaluation.predictions_file import read_predictions, write_predictions
from kneexray.evaluation.report.report import FIGURES, latex_table, markdown_table, render, worst_errors, write_evaluation
from kneexray.pages.figure_style import style
from kneexray.pages.page import Section, Table

PIXEL = bytes.fromhex("89504e470d0a1a0a") + b"not decoded here"


def further(**changes: Any) -> Section:
    """Return the section of a further test, with one of everything."""
    with style():
        figure = Figure(figsize=(9, 3))
        figure.subplots().plot([0, 1], [1, 0])
    whole = Section(
        key="further",
        title="A <further> test",
        lead="What was done & what came of it.",
        alarm="It must be <seen>.",
        figures={"curve": (figure, "A <curve>.")},
        tables=(Table("Its rows", ("Change", "Accuracy"), (("none", "0.66\n0.63–0.69"), ("<all>", "n/a"))),),
        data={"accuracy": 0.5},
    )
    return replace(whole, **changes)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "deep" / "out"
    inputs = answers()
    report = write_evaluation(
        evaluate(inputs, replicates=100),
        inputs,
        out,
        thumbnail=lambda file: PIXEL if file != inputs.file[worst_errors(inputs)[0]] else None,
        heatmap=lambda file: b"\xff\xd8jpeg",
        provenance={"Command": "kneexray evaluate <bundle> & co"},
        sections=[further()],
    )
    assert report == out / "report.html"
    return out


def test_known_answers() -> None:
    inputs = replace(answers(4), target=np.array([0, 2, 4, 2]), probabilities=np.eye(5)[[0, 2, 3, 1]] * 0.8 + 0.04)
    found = evaluate(inputs)
    assert found["accuracy"]["value"] == 0.5
    assert found["mae"]["value"] == 0.5
    assert found["n"] == 4
    assert found["n_patients"] == 2
    assert found["confusion_matrix"] == [[1, 0, 0, 0, 0], [0] * 5, [0, 1, 1, 0, 0], [0] * 5, [0, 0, 0, 1, 0]]
    assert found["per_class"]["2"]["recall"]["value"] == 0.5
    assert found["per_class"]["1"]["support"] == 0
    assert found["per_class"]["1"]["recall"] == {"value": None, "low": None, "high": None}
    # P(KL >= 2) of the four: 0.12, 0.88, 0.88, 0.12; three of them are OA
    assert found["oa"]["threshold"] == 0.5
    assert (found["oa"]["n_positive"], found["oa"]["n_negative"]) == (3, 1)
    assert found["oa"]["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert found["oa"]["specificity"]["value"] == 1
    assert found["oa"]["auc"]["value"] == pytest.approx((1 + 1 + 0.5) / 3)


def test_the_contract_of_metrics_json() -> None:
    found = evaluate(answers(), replicates=200)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for name in ("accuracy", "balanced_accuracy", "qwk", "mae", "macro_f1", "macro_auc", "ece", "brier", "nll"):
        assert found[name].keys() == {"value", "low", "high"}
        assert found[name]["low"] <= found[name]["high"]
    assert {"n", "n_patients", "per_class", "confusion_matrix", "split_quality"} <= found.keys()
    assert {"task", "labels", "model_id", "notes", "oa", "averages", "subgroups", "calibration", "prediction_sets"} <= found.keys()
    assert {row["attribute"] for row in found["subgroups"]} == {"side"}
    assert list(found["per_class"]) == found["labels"] == ["0", "1", "2", "3", "4"]
    assert np.sum(found["confusion_matrix"]) == found["n"] == sum(entry["n"] for entry in found["reliability"]) == 120
    assert found["bootstrap"] == {"unit": "patient", "replicates": 200, "seed": 0, "level": 0.95}
    assert evaluate(answers(), replicates=200) == found
    assert set(METRICS) == set(metrics.HEADLINE)


def test_intervals_are_those_of_the_patient_bootstrap() -> None:
    inputs = answers()
    found = evaluate(inputs, replicates=300, seed=4)
    patient = np.arange(120) // 2
    samples = metrics.bootstrap(metrics.tally(inputs.probabilities, inputs.target, patient), replicates=300, seed=4)
    assert (found["qwk"]["low"], found["qwk"]["high"]) == metrics.interval(samples["qwk"])
    assert (found["per_class"]["2"]["f1"]["low"], found["per_class"]["2"]["f1"]["high"]) == metrics.interval(samples["f1"][:, 2])


def test_oa_threshold_moves_sensitivity_against_specificity() -> None:
    low, high = (evaluate(answers(), oa_threshold=threshold, replicates=20)["oa"] for threshold in (0.2, 0.8))
    assert low["sensitivity"]["value"] > high["sensitivity"]["value"]
    assert low["specificity"]["value"] < high["specificity"]["value"]
    assert low["auc"] == high["auc"]


@pytest.mark.parametrize(("task", "classes", "has_oa"), [("oa", 2, True), ("osteoporosis", 3, False)])
def test_other_tasks(task: str, classes: int, has_oa: bool) -> None:
    whole = answers()
    inputs = replace(whole, task=task, target=whole.target % classes, probabilities=np.full((120, classes), 1 / classes), logits=None)
    found = evaluate(inputs, replicates=20)
    assert (found["oa"] is not None) == has_oa
    if has_oa:
        assert found["oa"]["sensitivity"]["value"] == 0  # 0.5 is not above the threshold
        assert found["oa"]["auc"]["value"] == 0.5


def test_what_takes_logits_or_patients_is_left_out_and_said() -> None:
    torn = np.where(np.arange(40)[:, None] == 3, np.nan, 0.5) * np.ones(5)
    cases = ((None, 40, "Logits are not stored"), (torn, 40, "Logits are not stored"), (np.zeros((8, 5)), 8, "Fewer than 5 patients"))
    for logits, n, words in cases:
        inputs = answers(n, logits=logits)
        found = evaluate(inputs, replicates=20)
        assert (found["calibration"], found["prediction_sets"]) == (None, None)
        assert any(words in note for note in found["notes"])


def test_small_subgroups_are_noted() -> None:
    notes = evaluate(answers(40), replicates=20)["notes"]
    assert "Subgroups of fewer than 30 patients are too small for figures of their own: side L (20), side R (20)." in notes


def test_one_image_gets_values_and_no_interval() -> None:
    found = evaluate(answers().take(np.array([3])))
    assert found["n"] == 1
    assert found["accuracy"]["value"] in (0, 1)
    assert found["accuracy"]["low"] is None
    assert found["macro_auc"]["value"] is None
    notes = " ".join(found["notes"])
    for words in ("No interval", "AUC is not defined", "No image is truly", "Few images of", "OA: sensitivity or specificity"):
        assert words in notes


def test_an_absent_class_is_named_and_the_others_counted() -> None:
    whole = answers(400)
    inputs = whole.take(whole.target != 4)
    found = evaluate(inputs, replicates=50)
    assert found["per_class"]["4"]["auc"]["value"] is None
    assert any("No image is truly KL 4" in note for note in found["notes"])
    assert found["macro_auc"]["value"] == pytest.approx(np.mean([found["per_class"][label]["auc"]["value"] for label in "0123"]))
    assert found["balanced_accuracy"]["value"] == pytest.approx(np.mean([found["per_class"][label]["recall"]["value"] for label in "0123"]))


def test_a_thin_class_is_named() -> None:
    inputs = answers(30, target=np.array([0] * 29 + [1]))
    notes = evaluate(inputs)["notes"]
    assert any("Few images of KL 1 (1)" in note for note in notes)
    assert any("macro auc is not defined in" in note and "it gets no interval" in note for note in notes)


def test_unknown_patients_and_repeated_knees_are_noted() -> None:
    inputs = answers(20, patient_id=[None, ""] * 10, file=["same.png"] * 20)
    found = evaluate(inputs, replicates=20)
    assert found["n_patients"] == 20
    assert found["bootstrap"]["unit"] == "image"
    assert any("20 of 20 rows name no patient" in note for note in found["notes"])
    assert any("2 knees occur more than once (the first: same.png)" in note for note in found["notes"])
    assert evaluate(answers(20, split_quality="cluster"), replicates=20)["bootstrap"]["unit"] == "cluster"


BAD_ROWS = [
    ([0.2, np.nan, 0.3, 0.3, 0.2], 0, "[0.2, nan, 0.3, 0.3, 0.2] are not all finite"),
    ([0.2, 0.2, 0.3, 0.4, 0.2], 0, "sum to 1.3, not 1"),
    ([-0.2, 0.2, 0.5, 0.3, 0.2], 0, "are not all between 0 and 1"),
    ([np.inf, 0, 0, 0, 0], 0, "are not all finite"),
    ([0.2] * 5, 5, "true label index 5 is outside 0..4"),
    ([0.2] * 5, -1, "true label index -1 is outside 0..4"),
]


@pytest.mark.parametrize(("values", "target", "message"), BAD_ROWS)
def test_bad_rows_are_an_error_that_names_them_or_are_left_out(values: list[float], target: int, message: str) -> None:
    good = answers(40)
    probabilities, targets = good.probabilities.copy(), good.target.copy()
    probabilities[7], targets[7] = values, target
    inputs = replace(good, probabilities=probabilities, target=targets)
    with pytest.raises(DataError, match=re.escape(good.file[7])) as caught:
        evaluate(inputs)
    assert message in str(caught.value)
    found = evaluate(inputs, invalid="drop", replicates=20)
    assert found["n"] == 39
    assert any(message in note and good.file[7] in note for note in found["notes"])
    without = evaluate(good.take(np.arange(40) != 7), replicates=20)
    assert {**found, "notes": []} == {**without, "notes": []}


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(DataError, match="no row is left to evaluate"):
        evaluate(answers(5).take(np.zeros(5, dtype=bool)))
    with pytest.raises(DataError, match=r"no row is left .* 5 of 5 rows were left out"):
        evaluate(answers(5, target=np.full(5, 9)), invalid="drop")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": np.zeros(3)}, "5 files but 3 values of target"),
        ({"side": ["R"]}, "1 values of side"),
        ({"probabilities": np.full((5, 3), 1 / 3)}, r"probabilities of task 'kl' must have shape \(5, 5\), not \(5, 3\)"),
        ({"split_quality": "patients"}, "Did you mean patient"),
        ({"facts": {"sexe": ["F"] * 5}}, "unknown fact 'sexe'. Did you mean sex"),
        ({"facts": {"sex": ["F"]}}, "Each has 5 values, one a file; not 1"),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        answers(5, **changes)


@pytest.mark.parametrize("with_logits", [True, False])
def test_predictions_survive_the_file(tmp_path: Path, with_logits: bool) -> None:
    facts = {"sex": ["F", None] * 15, "width": [299] * 30, "height": [None, 299] * 15}
    inputs = answers(30, patient_id=[None, "p1"] * 15, side=["", "L"] * 15, split_quality="cluster", facts=facts)
    inputs = inputs if with_logits else replace(inputs, logits=None)
    path = tmp_path / "Ärger" / "predictions.parquet"
    write_predictions(path, inputs)
    again = read_predictions(path)
    for name in ("task", "model_id", "split_quality", "file", "patient_id", "split", "source"):
        assert getattr(again, name) == getattr(inputs, name)
    assert again.side == [None, "L"] * 15
    np.testing.assert_array_equal(again.target, inputs.target)
    np.testing.assert_array_equal(again.probabilities, inputs.probabilities)
    assert (again.logits is not None) == with_logits
    assert again.facts == facts
    assert evaluate(again, replicates=20) == evaluate(inputs, replicates=20)
    assert pyarrow.parquet.read_table(path)["grade"].to_pylist() == [str(grade) for grade in inputs.probabilities.argmax(axis=1)]


def rows(**changes: Any) -> dict[str, list[Any]]:
    """Return the least that another tool's file must hold."""
    columns: dict[str, list[Any]] = {"file": ["a.png", "b.png"], "label": ["0", "KL-2"], "task": ["kl", "kl"]}
    columns |= {f"p_{place}": [0.2, 0.2] for place in range(5)}
    return {name: values for name, values in (columns | changes).items() if values is not None}


def stored(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "predictions.parquet"
    pyarrow.parquet.write_table(pyarrow.table(rows(**changes)), path)
    return path


def test_a_file_of_another_tool(tmp_path: Path) -> None:
    inputs = read_predictions(stored(tmp_path))
    assert inputs.target.tolist() == [0, 2]
    assert inputs.split_quality == "image"
    assert inputs.model_id == "unknown"
    assert read_predictions(stored(tmp_path, patient_id=["x", "y"])).split_quality == "patient"
    assert read_predictions(stored(tmp_path, label=[0, 2])).target.tolist() == [0, 2]
    mixed = stored(tmp_path, task=["kl", "oa"])
    assert read_predictions(mixed, task="kl").file == ["a.png"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "no column label"),
        ({"p_3": None}, "no column probabilities, and no p_3"),
        ({"task": ["kl", "oa"]}, "several tasks: kl, oa; name one"),
        ({"task": ["hip", "hip"]}, "unknown task 'hip'"),
        ({"label": ["0", "sever"]}, "b.png: unknown label 'sever'"),
        ({"label": ["0", None]}, "b.png: it has no label"),
        ({"p_0": [0.2, None]}, r"b.png: probabilities \[nan, 0.2"),
        ({"probabilities": [[0.2] * 5, [0.5, 0.5]]}, "b.png: 2 probabilities for the 5 labels of task 'kl'"),
        ({"probabilities": [[0.2] * 5, None]}, "b.png: .* not all finite"),
        ({"width": ["wide", None]}, "column width holds a value that is no int"),
        ({"model_id": ["one", "two"]}, "several values of model_id"),
        ({"split_quality": ["pateint"] * 2}, "Did you mean patient"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = stored(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(str(path))


def test_unknown_labels_and_impossible_rows_can_be_left_out(tmp_path: Path) -> None:
    changes = {name: [*values, values[0]] for name, values in rows().items()}
    path = stored(tmp_path, **(changes | {"file": ["a", "b", "c"], "label": ["0", "sever", "2"], "p_1": [0.2, 0.2, 7.0]}))
    found = evaluate(read_predictions(path, invalid="drop"))
    assert found["n"] == 1
    notes = " ".join(found["notes"])
    assert "b: unknown label 'sever'" in notes
    assert "c: probabilities [0.2, 7, 0.2, 0.2, 0.2]" in notes


def test_files_that_are_no_predictions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such predictions file"):
        read_predictions(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_predictions(tmp_path / "text.parquet")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_predictions(tmp_path)


def test_worst_errors_are_the_widest_then_the_surest() -> None:
    probabilities = np.array([[0.9, 0.1, 0, 0, 0], [0.1, 0.1, 0.1, 0.1, 0.6], [0.8, 0.2, 0, 0, 0], [0.7, 0.3, 0, 0, 0]])
    inputs = answers(4, target=np.array([0, 0, 1, 1]), probabilities=probabilities)
    assert worst_errors(inputs) == [1, 2, 3]
    assert worst_errors(inputs, most=1) == [1]


def test_the_folder_holds_what_the_contract_names(written: Path) -> None:
    own = ("subgroups_accuracy", "subgroups_qwk", "calibration_before", "calibration_after", "sets_measured", "sets_mean_size")
    drawn = {f"{name}.{kind}" for name in (*FIGURES, *own, "further_curve") for kind in ("png", "svg")}
    assert {path.name for path in written.iterdir()} == drawn | {
        "metrics.json", "predictions.parquet", "report.html", "table.md", "table.tex",
    }  # fmt: skip
    found = json.loads((written / "metrics.json").read_text())
    assert found.pop("further") == {"accuracy": 0.5}
    assert found == evaluate(read_predictions(written / "predictions.parquet"), replicates=100)


def test_figures_are_whole_and_their_text_is_text(written: Path) -> None:
    for name in FIGURES:
        tree = ElementTree.parse(written / f"{name}.svg")
        texts = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
        assert any(text and "KL" in text for text in texts) or name == "reliability"
        assert not list(tree.iter("{http://www.w3.org/2000/svg}image"))
        assert (written / f"{name}.png").read_bytes().startswith(b"\x89PNG")


class Page(HTMLParser):
    """What a browser would fetch or trip over."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in {"src", "href", "xlink:href"} and value:
                self.links.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("data:image/") or link.removeprefix("#") in page.ids for link in page.links)
    assert "<script" not in text
    assert "url(http" not in text
    assert text.count("For research use. Not a medical device.") == 2
    assert "kneexray evaluate &lt;bundle&gt; &amp; co" in text
    assert text.count("data:image/png") == 11  # the first worst error has no thumbnail
    assert text.count("data:image/jpeg") == 12
    order = (
        "Figures",
        "Each class",
        "Subgroups",
        "Calibration, before",
        "Prediction sets",
        "A &lt;further&gt; test",
        "Worst errors",
        "How these",
    )
    places = [text.index(f"<h2>{heading}") for heading in order]
    assert places == sorted(places)
    assert text.count('<p class="alarm"><strong>A &lt;further&gt; test.</strong> It must be &lt;seen&gt;.</p>') == 2  # on top, and in place
    assert "<td>0.66<br><small>0.63–0.69</small></td>" in text
    assert 'class="wide" role="img" aria-label="A &lt;curve&gt;."' in text
    found = json.loads((written / "metrics.json").read_text())
    assert f"{found['accuracy']['value']:.3f}" in text
    assert all(color not in text.split("</style>", 1)[1] for color in ("#1f2328", "#0072b2"))  # figures take the page's colours


def test_names_of_files_cannot_break_the_page() -> None:
    inputs = answers(12, file=["<script>alert(1)</script>.png"] * 12, model_id="<b>", source=["$title"] * 12)
    text = render(evaluate(inputs, replicates=5), inputs, dict.fromkeys(FIGURES, ""))
    assert "<script>" not in text
    assert "<b>" not in text.split("</header>")[0]
    assert "source: $title" in text


def test_thin_data_still_make_a_report(tmp_path: Path) -> None:
    good = answers(3, split_quality="image", target=np.zeros(3, dtype=int))
    probabilities = good.probabilities.copy()
    probabilities[1] = np.nan
    inputs = replace(good, probabilities=probabilities, patient_id=[None] * 3)
    text = write_evaluation(evaluate(inputs, invalid="drop"), inputs, tmp_path).read_text(encoding="utf-8")
    for words in ("should not be quoted", "1 of 3 rows were left out", "AUC is not defined", "all images are of one class", "n/a"):
        assert words in text


def test_no_wrong_answer() -> None:
    inputs = answers(6, target=np.array([0, 1, 2, 3, 4, 0]), probabilities=np.eye(5)[[0, 1, 2, 3, 4, 0]])
    assert "No answer is wrong" in render(evaluate(inputs, replicates=5), inputs, dict.fromkeys(FIGURES, ""))


def test_tables_for_papers() -> None:
    found = evaluate(answers(model_id="kl_a|b"), replicates=50)
    lines = markdown_table(found).splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    accuracy = found["accuracy"]
    assert f"{accuracy['value']:.3f} ({accuracy['low']:.3f}–{accuracy['high']:.3f})" in lines[2]
    tex = latex_table(found)
    assert r"kl\_a|b & 120 images of 60 patients \\" in tex
    assert f"Accuracy & {accuracy['value']:.3f} ({accuracy['low']:.3f}--{accuracy['high']:.3f})" in tex
    assert "n/a" in markdown_table(evaluate(answers(1)))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    inputs = answers(10)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_evaluation(evaluate(inputs, replicates=5), inputs, blocked)
    with pytest.raises(OutputError, match="cannot be written"):
        write_predictions(blocked / "predictions.parquet", inputs)
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(OutputError, match=r"metrics\.json"):
        write_evaluation(evaluate(inputs, replicates=5), inputs, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "metrics.json"}  # nothing half-written is left


def test_numbers_need_neither_plots_nor_tables_to_be_loaded() -> None:
    imports = "import sys, kneexray.evaluation.evaluate, kneexray.inference.calibration"
    code = f"{imports}; print({{'matplotlib', 'sklearn', 'pyarrow', 'torch'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
