"""Temperature and vector are recovered, the better is chosen on patients that did not fit it, and the record survives JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.answers import BIAS, WEIGHT, distorted, severities

from kneexray.errors import ConfigError, DataError
from kneexray.inference import calibration, conformal
from kneexray.inference.calibration import Calibration

LOGITS = hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(2, 6)), elements=st.floats(-8, 8))


@given(LOGITS, st.floats(0.1, 10))
def test_softmax_is_a_distribution_and_keeps_the_order(logits: np.ndarray, temperature: float) -> None:
    probabilities = calibration.softmax(logits, temperature=temperature)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities[np.arange(len(logits)), logits.argmax(axis=1)] == probabilities.max(axis=1)).all()


def test_softmax_of_huge_logits_is_finite() -> None:
    np.testing.assert_allclose(calibration.softmax([[1e4, -1e4], [0, 0]]), [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_temperature_is_recovered(temperature: float) -> None:
    logits, grade = severities(20_000, seed=1)
    assert calibration.fit_temperature(logits * temperature, grade) == pytest.approx(temperature, rel=0.03)


@given(st.integers(0, 50))
def test_no_other_temperature_has_a_smaller_nll(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(size=(40, 3)) * 3, rng.integers(0, 3, 40)

    def nll(temperature: float) -> float:
        return float(-np.log(calibration.softmax(logits, temperature=temperature)[np.arange(40), target]).mean())

    best = calibration.fit_temperature(logits, target)
    assert all(nll(best) <= nll(other) + 1e-9 for other in np.geomspace(0.05, 20, 200))


def test_temperature_stays_in_range_where_there_is_no_minimum() -> None:
    right = np.eye(3) * 4
    assert calibration.fit_temperature(right, [0, 1, 2]) == pytest.approx(0.05)
    assert calibration.fit_temperature(right, [1, 2, 0]) == pytest.approx(20)


def test_merge_sums_the_mass_on_either_side() -> None:
    np.testing.assert_allclose(calibration.merge([0.4, 0.2, 0.2, 0.1, 0.1], first_positive=2), [0.6, 0.4])
    assert calibration.merge(np.full((7, 5), 0.2), first_positive=2).shape == (7, 2)


def nll(probabilities: np.ndarray, target: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(len(target)), target]).mean())


def test_the_vector_is_recovered() -> None:
    logits, grade = distorted(20_000, seed=2)
    found = Calibration(vector=calibration.fit_vector(logits, grade))
    assert np.abs(found.apply(logits) - calibration.softmax(logits * WEIGHT + BIAS)).mean() < 0.005
    weight, bias = np.transpose(found.vector)
    np.testing.assert_allclose(weight[:4], WEIGHT[:4], rtol=0.15)  # a few hundred knees of the rarest grade say less
    np.testing.assert_allclose(np.diff(bias[:4]), np.diff(BIAS[:4]), atol=0.25)


def test_no_neighbour_of_the_vector_has_a_smaller_nll() -> None:
    logits, grade = distorted(300, seed=3)
    vector = np.array(calibration.fit_vector(logits, grade))
    best = nll(Calibration(vector=calibration.fit_vector(logits, grade)).apply(logits), grade)
    assert best <= nll(calibration.softmax(logits, temperature=calibration.fit_temperature(logits, grade)), grade)
    for step in np.random.default_rng(0).normal(0, 0.05, (50, *vector.shape)):
        weight, bias = (vector + step).T
        assert best <= nll(calibration.softmax(logits * weight + bias), grade) + 1e-9


def test_the_scaling_is_chosen_on_patients_that_did_not_fit_it() -> None:
    assert calibration.choose_scaling(*distorted(2000, seed=4)) == "vector"
    logits, grade = severities(120, seed=5)
    assert calibration.choose_scaling(logits * 2, grade) == "temperature"  # nothing to gain, and ten parameters cost
    logits, grade = distorted(2000, seed=4)
    assert calibration.choose_scaling(logits[grade < 4], grade[grade < 4]) == "temperature"  # a vector would rule out what did not occur
    assert calibration.choose_scaling(logits, grade, groups=[row % 4 for row in range(2000)]) == "temperature"


@pytest.mark.parametrize("scaling", calibration.SCALINGS)
def test_cross_fitting_scales_a_patient_by_the_others_only(scaling: calibration.Scaling) -> None:
    logits, grade = distorted(200, seed=6)
    groups = [row // 2 for row in range(200)]
    given = calibration.cross_fit(logits, grade, scaling=scaling, groups=groups)
    np.testing.assert_allclose(given.sum(axis=1), 1)
    changed = grade.copy()
    changed[:2] = (changed[:2] + 1) % 5  # the first patient's own truth
    fold = calibration.folds_of(np.array(groups))
    again = calibration.cross_fit(logits, changed, scaling=scaling, groups=groups)
    np.testing.assert_array_equal(given[fold == fold[0]], again[fold == fold[0]])
    assert (given[fold != fold[0]] != again[fold != fold[0]]).any()


def test_folds_keep_patients_whole_and_are_even() -> None:
    patient = np.repeat(np.arange(52), 3)
    fold = calibration.folds_of(patient, seed=3)
    assert all(len(set(fold[patient == number])) == 1 for number in range(52))
    assert sorted(np.bincount(fold) // 3) == [10, 10, 10, 11, 11]
    with pytest.raises(DataError, match="4 patients cannot be cut into 5 folds"):
        calibration.folds_of(np.arange(4))


@pytest.mark.parametrize("scaling", calibration.SCALINGS)
def test_calibration_fits_its_task_and_the_derived_one_and_survives_json(scaling: str) -> None:
    logits, grade = distorted(600, seed=10) if scaling == "vector" else severities(300, seed=5)
    logits = logits * 2
    groups = [str(i // 2) for i in range(len(grade))]
    fitted = calibration.fit_calibration(logits, grade, task="kl", ordinal=True, groups=groups, derived={"oa": 2})
    again = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    if scaling == "vector":
        assert fitted.vector == calibration.fit_vector(logits, grade)
    else:
        assert (fitted.temperature, fitted.vector) == (calibration.fit_temperature(logits, grade), ())
    probabilities = again.apply(logits)
    assert probabilities.dtype == np.float64
    assert probabilities.shape == logits.shape
    merged = calibration.merge(probabilities, first_positive=2)
    assert again.thresholds["oa"] == conformal.fit_thresholds(merged, grade >= 2, ordinal=True, groups=groups)
    assert again.class_thresholds["kl"] == conformal.fit_class_thresholds(probabilities, grade, ordinal=True, groups=groups)
    assert again.limits("kl", coverage=0.9).tolist() == [dict(again.thresholds["kl"])[0.9]]
    assert again.limits("oa", coverage=0.9, per_class=True).tolist() == [dict(table)[0.9] for table in again.class_thresholds["oa"]]
    assert again.limits("kl", coverage=1.0, per_class=True).tolist() == [conformal.ALL_LABELS] * 5
    for unknown in ({"coverage": 0.9}, {"coverage": 0.9, "per_class": True}):
        with pytest.raises(ConfigError, match="carries no"):
            again.limits("osteoporosis", **unknown)
    with pytest.raises(ConfigError, match="out of range"):
        again.limits("kl", coverage=0.3, per_class=True)


def test_a_record_of_before_there_was_a_vector_is_read() -> None:
    old = Calibration.from_dict({"temperature": 1.5, "ordinal": True, "thresholds": {"kl": [[0.5, 0.1], [0.9, 0.6]]}})
    assert (old.temperature, old.vector, old.class_thresholds) == (1.5, (), {})
    np.testing.assert_array_equal(old.apply([[1.0, 2.0]]), calibration.softmax([[1.0, 2.0]], temperature=1.5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "temperature"),
        ({"temperature": "hot", "ordinal": True, "thresholds": {}}, "hot"),
        ({"temperature": 0.0, "ordinal": True, "thresholds": {}}, "positive"),
        ({"temperature": 1.0, "ordinal": True, "thresholds": []}, "not understood"),
        ({"vector": [[1.0, 0.0], [-1.0, 0.0]], "ordinal": True, "thresholds": {}}, "positive"),
        ({"vector": [1.0], "ordinal": True, "thresholds": {}}, "not understood"),
        ({"temperature": 1.0, "ordinal": True, "thresholds": {}, "class_thresholds": {"kl": [[[0.6, 0.4], [0.5, 0.5]]]}}, "do not grow"),
        ({"temperature": 1.0, "ordinal": True, "thresholds": {"kl": [[0.5, 0.4], [0.6, 0.3]]}}, "do not grow"),
        ({"temperature": 1.0, "ordinal": True, "thresholds": {"kl": [[0.5, 0.4], [0.4, 0.5]]}}, "do not grow"),
    ],
)
def test_a_broken_record_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Calibration.from_dict(values)


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        (np.zeros((0, 3)), [], "N at least 1"),
        (np.zeros((2, 3)), [0], "shapes"),
        ([[0.0, np.nan]], [0], "row 0 .* not finite"),
        (np.zeros((1, 3)), [3], "label index 3 is outside 0..2"),
        (np.zeros((2, 3)), [-1, 0], "label index -1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(scores: np.ndarray, target: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        calibration.fit_temperature(scores, target)
    with pytest.raises(DataError, match=message):
        conformal.fit_thresholds(scores, target, ordinal=True)
