"""The structured reading of a knee, as table and as text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneexray.render.reading import NO_SIDE, doubt, reading_of, record, said
from kneexray.tasks import FEATURES, GROUPS, TASKS
from kneexray.types import Knee, Measurement, Prediction, Radiograph
from kneexray.web.translation import LANGUAGES, Words

FILM = Radiograph(np.zeros((8, 8), np.float32), "knee.png")
KNEE = Knee(FILM, (0, 0, 8, 8), "R", measurements=(Measurement("jsw_medial", 2.1, "mm"), Measurement("jsw_lateral", 5.2, "mm")))


def predicted(task: str, grade: int, grades: tuple[int, ...] | None = None, knee: Knee = KNEE) -> Prediction:
    labels = TASKS[task].labels
    probabilities = np.full(len(labels), 0.1 / (len(labels) - 1))
    probabilities[grade] = 0.9
    return Prediction(task, labels, probabilities, grade, grades or (grade,), 0.9, knee, "m")


def reading(**grades: int) -> list[Prediction]:
    """A whole reading, grade 0 but where ``grades`` says otherwise."""
    return [predicted(task, grades.get(task, 0)) for task in GROUPS["reading"]]


def test_a_normal_knee_is_said_to_be_one():
    found = reading_of(reading())
    assert found is not None
    medial, lateral = found.findings()
    assert medial == "Medial compartment: no narrowing, osteophytes or sclerosis. Minimum joint space: 2.1 mm."
    assert lateral.startswith("Lateral compartment: no narrowing")
    assert found.impression()[-1] == "No radiographic osteoarthritis."


def test_findings_are_named_with_compartment_bone_grade_and_doubt():
    found = reading_of([*reading(kl=3, oa=1, jsn_medial=2), predicted("osteophyte_fm", 1, (0, 1)), predicted("sclerosis_tm", 0, (0, 1))])
    assert found is not None
    medial, lateral = found.findings()
    assert "joint space narrowing: definite, grade 2;" in medial
    assert "osteophytes, femur: probable, grade 1;" in medial
    assert medial.endswith("sclerosis, tibia: cannot be excluded; no other finding. Minimum joint space: 2.1 mm.")
    assert "no narrowing" in lateral
    assert "Narrowing is mainly medial." in found.impression()
    assert found.impression()[0].startswith("Kellgren-Lawrence grade 3 (90 %")


def test_a_contradiction_is_said():
    predictions = reading(osteophyte_tl=2)
    found, stored = reading_of(predictions), record(predictions)
    assert found is not None
    assert found.contradicts
    assert any("contradict" in line for line in found.impression())
    assert stored is not None
    assert stored["contradiction"] is True


def test_without_features_there_is_no_reading():
    assert reading_of([predicted("kl", 2), predicted("oa", 1)]) is None
    assert record([]) is None


@given(st.sampled_from(FEATURES), st.lists(st.floats(0.01, 1), min_size=4, max_size=4), st.sets(st.integers(0, 3), min_size=1))
def test_doubt_follows_from_probability_and_prediction_set(task: str, weights: list[float], grades: set[int]):
    probabilities = np.array(weights) / sum(weights)
    grade = int(probabilities.argmax())
    prediction = replace(predicted(task, grade, tuple(sorted({grade, *grades}))), probabilities=probabilities)
    finding = 1 - probabilities[0]
    assert doubt(prediction) in ({"definite", "probable"} if grade else {"possible", "none"})
    if doubt(prediction) == "definite":
        assert finding >= prediction.coverage
        assert 0 not in prediction.prediction_set
    if doubt(prediction) == "none":
        assert 1 - finding >= prediction.coverage
        assert prediction.prediction_set == (0,)
    assert said(prediction)


def test_a_set_of_one_does_not_make_a_doubtful_answer_sure():
    oa = replace(predicted("oa", 1), probabilities=np.array([0.305, 0.695]))
    found = reading_of([*(p for p in reading(kl=2) if p.task != "oa"), oa])
    assert found is not None
    assert any("Probable radiographic osteoarthritis (70 %" in line for line in found.impression())


def test_a_knee_of_unknown_side_says_that_compartments_are_not_told_apart():
    knee = replace(KNEE, side=None, warnings=(NO_SIDE,))
    asked = replace(predicted("kl", 2, knee=knee), warnings=(NO_SIDE,))
    found, stored = reading_of([asked]), record([asked])
    assert found is not None
    assert found.findings() == ("The side is not known: findings are not given by compartment.",)
    assert stored is not None
    assert stored["features"] == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_every_reading(language: str):
    say = Words(language).reading
    for grades in ({}, {"jsn_medial": 3, "kl": 4, "oa": 1}, {"jsn_lateral": 1, "osteophyte_fl": 2}):
        found = reading_of(reading(**grades))
        assert found is not None
        lines = [*found.findings(say), *found.impression(say)]
        assert all(line and "{" not in line for line in lines)


def test_a_reading_without_widths_says_none():
    found = reading_of([replace(p, knee=replace(KNEE, measurements=())) for p in reading()])
    assert found is not None
    assert "Minimum" not in " ".join(found.findings())
