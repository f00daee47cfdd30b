"""Subgroups: who is in them, that small ones get no figures, and that means are bootstrapped by patient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.answers import answers

from kneexray.evaluation import metrics
from kneexray.evaluation.estimates import Estimates, Resampling, means
from kneexray.evaluation.inputs import EvaluationInput, patients
from kneexray.evaluation.subgroups import FEWEST, group_name, subgroups


def grouped(inputs: EvaluationInput) -> dict[str, dict]:
    return {group_name(row): row for row in subgroups(inputs, Resampling(patients(inputs), replicates=50))}


def test_a_group_is_measured_as_if_it_stood_alone() -> None:
    inputs = answers(200)
    found = grouped(inputs)
    assert list(found) == ["Side: left", "Side: right"]
    left = np.array([side == "L" for side in inputs.side])
    alone = Estimates.of(inputs.probabilities[left], inputs.target[left], Resampling(np.arange(100), replicates=50))
    row = found["Side: left"]
    assert (row["n"], row["n_patients"], row["too_small"]) == (100, 100, False)
    assert all(row[name] == alone.scalar(name) for name in ("accuracy", "balanced_accuracy", "qwk", "mae"))


def test_small_groups_are_named_and_get_no_figures() -> None:
    inputs = answers(200, source=["one"] * 180 + ["two"] * 20, facts={"sex": ["F", "M", None, None] * 50})
    found = grouped(inputs)
    assert [name for name, row in found.items() if row["too_small"]] == ["Source: two"]
    assert found["Source: two"]["n_patients"] == 10 < FEWEST
    assert found["Source: two"]["accuracy"]["value"] is None
    assert found["Sex: unknown"]["n"] == 100


def test_sizes_are_put_together_where_there_are_many() -> None:
    few = answers(200, facts={"width": [299, 224] * 100, "height": [299, 224] * 100})
    assert {name: row["n"] for name, row in grouped(few).items() if "Image" in name} == {
        "Image size, px: 224 x 224": 100,
        "Image size, px: 299 x 299": 100,
    }
    many = answers(200, facts={"width": list(range(200)), "height": [None, *range(1, 200)]})
    found = {name: row["n"] for name, row in grouped(many).items() if "Image" in name}
    assert sum(found.values()) == 200
    assert list(found)[-1] == "Image size, px: unknown"
    assert all("longer side" in name for name in list(found)[:-1])
    assert len(found) == 4


def test_what_has_one_value_makes_no_groups_and_tasks_without_order_no_kappa() -> None:
    inputs = answers(80, side=["R"] * 80)
    assert subgroups(inputs, Resampling(patients(inputs), replicates=5)) == []
    binary = replace(answers(200), task="oa", target=np.arange(200) % 2, probabilities=np.full((200, 2), 0.5), logits=None)
    assert grouped(binary)["Side: left"]["accuracy"]["value"] is not None


def test_means_are_bootstrapped_by_patient() -> None:
    rng = np.random.default_rng(0)
    values, weights, owner = rng.random(60), rng.random(60), np.arange(60) // 3
    (found,) = means([(values, weights)], Resampling(owner, replicates=300, seed=2))
    assert found["value"] == pytest.approx(np.average(values, weights=weights))
    draws = np.concatenate(list(metrics.resamples(20, replicates=300, seed=2)))
    slow = [np.average(values, weights=weights * draw[owner]) for draw in draws]
    assert (found["low"], found["high"]) == pytest.approx(metrics.interval(slow))
    assert means([(values, np.zeros(60))], Resampling(owner, replicates=5)) == [{"value": None, "low": None, "high": None}]
