"""Two models on the same knees: published examples of the tests, pairing, and verdicts that respect the interval."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.answers import answers

from kneexray.cli.app import run
from kneexray.errors import ConfigError, DataError
from kneexray.evaluation import metrics
from kneexray.evaluation.compare import compare, contingency, mcnemar, pair, stuart_maxwell, verdict
from kneexray.evaluation.inputs import EvaluationInput
from kneexray.evaluation.predictions_file import write_predictions
from kneexray.evaluation.report.comparison import markdown_table, write_comparison


def worse(inputs: EvaluationInput, *, share: float = 0.5) -> EvaluationInput:
    """Return the answers of another model: the first ``share`` of them drowned in those of nobody."""
    probabilities = inputs.probabilities.copy()
    probabilities[: int(share * len(probabilities))] = [0.1, 0.1, 0.6, 0.1, 0.1]
    return replace(inputs, model_id="worse", probabilities=probabilities, logits=None)


def disagreeing(only_a: int, only_b: int) -> dict[str, Any]:
    right = np.zeros((2, 20 + only_a + only_b), dtype=bool)
    right[0, :only_a] = right[1, only_a : only_a + only_b] = right[:, -10:] = True
    return mcnemar(*right)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (1, 7, 0.0391),  # Fagerland 2013, table 1: airway hyper-responsiveness before and after stem cell transplantation, mid-p
        (7, 1, 0.0391),
        (5, 5, 0.8770),
        (0, 0, 1.0),
    ],
)
def test_mcnemar(only_a: int, only_b: int, p: float) -> None:
    found = disagreeing(only_a, only_b)
    assert (found["only_a"], found["only_b"]) == (only_a, only_b)
    assert found["p"] == pytest.approx(p, abs=5e-5)


def test_stuart_maxwell_on_the_example_of_stuart() -> None:
    """Unaided distance vision of the right and left eyes of 7477 women (Stuart 1955): chi-squared 11.96, 3 df."""
    table = [[1520, 266, 124, 66], [234, 1512, 432, 78], [117, 362, 1772, 205], [36, 82, 179, 492]]
    found = stuart_maxwell(table)
    assert found["statistic"] == pytest.approx(11.957, abs=5e-4)
    assert found["df"] == 3
    assert found["p"] == pytest.approx(0.00753, abs=5e-6)
    padded = np.pad(table, (0, 2))  # classes that neither gives
    padded[4, 4] = 7  # one that both give to the same knees
    assert stuart_maxwell(padded) == pytest.approx(found)


def test_stuart_maxwell_of_two_classes_is_mcnemar_without_correction() -> None:
    assert stuart_maxwell([[20, 8], [19, 30]])["statistic"] == pytest.approx((8 - 19) ** 2 / (8 + 19))
    assert stuart_maxwell(np.diag([4, 5])) == {"statistic": None, "df": 0, "p": None}
    np.testing.assert_array_equal(contingency([0, 1, 1], [1, 1, 1], classes=2), [[0, 1], [0, 2]])


def test_differences_are_those_of_the_paired_bootstrap() -> None:
    a = answers()
    b = worse(a)
    found = compare(a, b, replicates=300, seed=3)
    owner = np.arange(120) // 2
    samples = [metrics.bootstrap(metrics.tally(x.probabilities, x.target, owner), replicates=300, seed=3)["qwk"] for x in (a, b)]
    difference = found["metrics"]["qwk"]["difference"]
    assert (difference["low"], difference["high"]) == metrics.interval(samples[1] - samples[0])
    assert difference["value"] == pytest.approx(found["metrics"]["qwk"]["b"] - found["metrics"]["qwk"]["a"])
    assert (found["n"], found["n_patients"], found["primary"]) == (120, 60, "qwk")
    assert all(row["better"] == "a" for name, row in found["metrics"].items() if name in ("accuracy", "mae", "nll", "macro_auc"))
    assert found["verdict"].startswith("A is better in QWK on these knees. B minus A is -0.")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_turned_round_everything_turns_round() -> None:
    a = answers()
    one, other = compare(a, worse(a), replicates=200), compare(worse(a), a, replicates=200)
    for name, row in one["metrics"].items():
        turned = other["metrics"][name]
        assert turned["difference"]["value"] == -row["difference"]["value"]
        assert {row["better"], turned["better"]} in ({"a", "b"}, {None})
    assert one["mcnemar"]["p"] == other["mcnemar"]["p"]
    assert one["stuart_maxwell"] == pytest.approx(other["stuart_maxwell"])


@pytest.mark.parametrize(
    ("low", "high", "better", "words"),
    [
        (0.01, 0.05, "b", "B is better in QWK on these knees. B minus A is +0.030 in QWK, 95% interval +0.010 to +0.050."),
        (-0.02, 0.08, None, "No difference in QWK can be told"),
        (0.0, 0.08, None, "A may be better by up to 0.000, and B by up to 0.080"),
        (0.0, 0.0, None, "A and B have the same QWK on these knees"),
        (None, None, None, "No verdict: there is no interval"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(low: float, high: float, better: str, words: str) -> None:
    assert words in verdict("qwk", {"difference": {"value": 0.03, "low": low, "high": high}, "better": better})


def test_a_model_against_itself() -> None:
    found = compare(answers(), answers(), replicates=50)
    assert found["agreement"] == 1
    assert found["mcnemar"]["p"] == 1
    assert "the same QWK" in found["verdict"]


def test_knees_are_matched_by_hash_and_side_whatever_their_names() -> None:
    names = {"sha256": [f"{row // 2:04x}" for row in range(40)]}
    a = answers(40, facts=names)
    b = replace(a.take(np.arange(39, -1, -1)), file=[f"elsewhere/{row}.png" for row in range(40)])
    both = pair(a, b)
    assert both.notes == ()
    np.testing.assert_array_equal(both.a.probabilities, both.b.probabilities)


def test_unmatched_knees_and_other_truths_are_named_and_left_out() -> None:
    a = answers(40)
    b = replace(a, target=np.where(np.arange(40) == 5, (a.target + 1) % 5, a.target)).take(np.arange(3, 40))
    found = compare(a, b, replicates=20)
    assert found["n"] == 36
    notes = " ".join(found["notes"])
    assert f"3 of 40 knees of A are not in the other evaluation and are left out: {', '.join(a.file[:3])}." in notes
    assert f"1 knees have another true label in B than in A and are left out: {a.file[5]}." in notes


def test_what_cannot_be_compared() -> None:
    a = answers(6)
    oa = replace(a, task="oa", target=a.target % 2, probabilities=np.full((6, 2), 0.5), logits=None)
    with pytest.raises(ConfigError, match="A grades task 'kl', B 'oa'"):
        compare(a, oa)
    with pytest.raises(DataError, match="no knee is in both"):
        compare(a, replace(a, file=["x"] * 6))
    with pytest.raises(DataError, match="another true label"):
        compare(a, replace(a, target=(a.target + 1) % 5))


def test_one_patient_one_class_and_no_order() -> None:
    one = compare(answers(2), worse(answers(2)))
    assert one["metrics"]["qwk"]["difference"]["low"] is None
    assert any("two patients or more" in note for note in one["notes"])
    a = answers(40, target=np.zeros(40, dtype=int), probabilities=np.eye(5)[[0] * 40], logits=None, patient_id=[None] * 40)
    same = compare(a, a, replicates=20)
    assert same["primary"] == "accuracy"
    assert same["stuart_maxwell"]["p"] is None
    assert any("40 of 40 rows of A name no patient" in note for note in same["notes"])


def test_the_report(tmp_path: Path) -> None:
    a = answers(60, model_id="<b>")
    found = compare(a, worse(a), replicates=50)
    page = write_comparison(found, tmp_path / "out", provenance={"Command": "kneexray compare a b"})
    text = page.read_text(encoding="utf-8")
    assert {path.name for path in page.parent.iterdir()} == {
        "comparison.json", "comparison_differences.png", "comparison_differences.svg", "report.html", "table.md",
    }  # fmt: skip
    assert json.loads((page.parent / "comparison.json").read_text()) == found
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert text.count("For research use. Not a medical device.") == 2
    for words in ("What B gains over A", "McNemar", "Stuart-Maxwell", "kneexray compare a b", found["verdict"]):
        assert words in text
    lines = markdown_table(found).splitlines()
    assert len(lines) == 2 + len(found["metrics"])
    assert "(" in lines[2]


def test_the_command_takes_folders_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_predictions(tmp_path / "a" / "predictions.parquet", answers(40))
    write_predictions(tmp_path / "b.parquet", worse(answers(40)))
    assert run(["compare", str(tmp_path / "a"), str(tmp_path / "b.parquet"), "--out", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert set(record["inputs"]) == {str(tmp_path / "a" / "predictions.parquet"), str(tmp_path / "b.parquet")}
    assert "in QWK" in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").is_file()
    assert run(["compare", str(tmp_path), str(tmp_path / "b.parquet")]) == 1
    assert "no such predictions file" in capsys.readouterr().err
