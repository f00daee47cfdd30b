"""The page of a model: made from its card, and kept where people look."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kneexray.cli.app import run
from kneexray.errors import DataError
from kneexray.inference.bundle import read_card, shipped, shipped_models
from kneexray.train.export.model_card import PAGE, markdown


def test_pages_of_shipped_models_are_made_from_their_cards(root: Path):
    for folder in shipped_models():
        page = markdown(read_card(folder))
        assert (folder / PAGE).read_text(encoding="utf-8") == page
        assert (root / "cards" / f"{folder.name}.md").read_text(encoding="utf-8") == page


def test_a_page_says_what_must_be_said():
    card = read_card(shipped("kl"))
    page = markdown(card)
    assert page.startswith("---\nlicense: apache-2.0\n")
    said = ("For research use. Not a medical device.", card.sha256, card.data.licence, "patient-level bootstrap")
    assert [words for words in said if words not in page] == []


def evaluation(**changes: object) -> dict[str, object]:
    """Return the content of a metrics.json of the shipped model, as far as a card needs it."""
    card = read_card(shipped("kl"))
    rest = {"bootstrap": {"unit": "patient"}, "split_quality": "patient", "sources": {"clinic": 40}, "splits": {"test": 40}}
    return {**card.scores, "model_id": card.model_id, **rest, **changes}


@pytest.mark.parametrize("further", [[], [evaluation(), evaluation(oa=None)]])
def test_a_hub_reads_the_scores(further: list[dict[str, object]]):
    hub = pytest.importorskip("huggingface_hub", reason="comes with the train extra")
    card = read_card(shipped("kl"))
    data = hub.ModelCard(markdown(card, further)).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "kneexray", "image-classification")
    assert data.model_name == card.model_id
    results = {(result.dataset_split, result.metric_name.split(",")[0]): result for result in data.eval_results}
    assert results["validation", "accuracy"].metric_value == pytest.approx(card.scores["accuracy"]["value"], abs=1e-4)
    assert results["validation", "quadratic weighted kappa"].metric_type == "cohen_kappa"
    assert ("test", "accuracy") in results or not further
    assert len(data.eval_results) == 12 + (12 + 9 if further else 0)


def test_what_is_not_defined_is_said_and_not_sent():
    nothing = {"value": None, "low": None, "high": None}
    page = markdown(read_card(shipped("kl")), [evaluation(macro_auc=nothing, accuracy={**nothing, "value": 0.5})])
    assert "| macro AUC (one against the rest) | not defined |" in page
    assert "| accuracy | 0.500 |" in page
    assert "null" not in page.split("---")[1]


def test_calibration_is_told_where_it_was_measured():
    card, value = read_card(shipped("kl")), {"value": 0.9, "low": 0.88, "high": 0.92}
    sets = [{"kind": "per_class", "coverage": 0.9, "measured": value, "mean_size": value, "singletons": value}]
    scores = {**card.scores, "cross_fitted": {"scaling": "vector", "folds": 5, "nll": value, "brier": value, "ece": value, "sets": sets}}
    page = markdown(card.model_copy(update={"scores": scores}))
    assert "calibrated by vector scaling" in page
    assert "| 90% within each class | 0.900 (0.880 to 0.920) |" in page
    assert "Prediction sets" not in markdown(card.model_copy(update={"scores": {**card.scores, "cross_fitted": None}}))


def test_an_evaluation_of_another_model_is_refused():
    with pytest.raises(DataError, match="of model other"):
        markdown(read_card(shipped("kl")), [evaluation(model_id="other")])


def test_the_command_writes_the_page(tmp_path: Path):
    (tmp_path / "metrics.json").write_text(json.dumps(evaluation()), encoding="utf-8")
    out = tmp_path / "card.md"
    assert run(["card", str(shipped("kl")), "--evaluation", str(tmp_path), "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == markdown(read_card(shipped("kl")), [evaluation()])
    assert run(["card", str(shipped("kl")), "--evaluation", str(tmp_path / "absent"), "--out", str(out)]) == 1
    assert run(["card", str(tmp_path), "--out", str(out)]) == 1
