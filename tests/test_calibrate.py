"""Temperature is recovered, sets keep their promise, and the record survives JSON."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kneexray import calibrate
from kneexray.calibrate import Calibration
from kneexray.errors import ConfigError, DataError

LOGITS = hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(2, 6)), elements=st.floats(-8, 8))


def severities(n: int, *, seed: int, noise: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated logits (n, 5) of a noisy reading of an ordinal grade, and the grade."""
    rng, prior = np.random.default_rng(seed), np.array([0.4, 0.18, 0.26, 0.13, 0.03])
    grade = rng.choice(5, p=prior, size=n)
    reading = grade + rng.normal(0, noise, n)
    return -((reading[:, None] - np.arange(5)) ** 2) / (2 * noise**2) + np.log(prior), grade


def naive_set(probabilities: np.ndarray, threshold: float, *, ordinal: bool) -> tuple[int, ...]:
    """Grow from the mode until the mass exceeds the threshold, as one would by hand."""
    chosen = [int(probabilities.argmax())]
    mass = probabilities[chosen[0]]
    while len(chosen) < len(probabilities) and mass <= threshold:
        near = {min(chosen) - 1, max(chosen) + 1} if ordinal else set(range(len(probabilities)))
        around = sorted(label for label in near - set(chosen) if 0 <= label < len(probabilities))
        chosen.append(max(around, key=lambda label: probabilities[label]))
        mass = mass + probabilities[chosen[-1]]
    return tuple(sorted(chosen))


@given(LOGITS, st.floats(0.1, 10))
def test_softmax_is_a_distribution_and_keeps_the_order(logits: np.ndarray, temperature: float) -> None:
    probabilities = calibrate.softmax(logits, temperature=temperature)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities[np.arange(len(logits)), logits.argmax(axis=1)] == probabilities.max(axis=1)).all()


def test_softmax_of_huge_logits_is_finite() -> None:
    np.testing.assert_allclose(calibrate.softmax([[1e4, -1e4], [0, 0]]), [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_temperature_is_recovered(temperature: float) -> None:
    logits, grade = severities(20_000, seed=1)
    assert calibrate.fit_temperature(logits * temperature, grade) == pytest.approx(temperature, rel=0.03)


@given(st.integers(0, 50))
def test_no_other_temperature_has_a_smaller_nll(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(size=(40, 3)) * 3, rng.integers(0, 3, 40)

    def nll(temperature: float) -> float:
        return float(-np.log(calibrate.softmax(logits, temperature=temperature)[np.arange(40), target]).mean())

    best = calibrate.fit_temperature(logits, target)
    assert all(nll(best) <= nll(other) + 1e-9 for other in np.geomspace(0.05, 20, 200))


def test_temperature_stays_in_range_where_there_is_no_minimum() -> None:
    right = np.eye(3) * 4
    assert calibrate.fit_temperature(right, [0, 1, 2]) == pytest.approx(0.05)
    assert calibrate.fit_temperature(right, [1, 2, 0]) == pytest.approx(20)


def test_merge_sums_the_mass_on_either_side() -> None:
    np.testing.assert_allclose(calibrate.merge([0.4, 0.2, 0.2, 0.1, 0.1], first_positive=2), [0.6, 0.4])
    assert calibrate.merge(np.full((7, 5), 0.2), first_positive=2).shape == (7, 2)


@given(LOGITS, st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_sets_hold_the_mode_are_nested_and_contiguous(logits: np.ndarray, ordinal: bool, one: float, other: float) -> None:
    for probabilities in calibrate.softmax(logits):
        small, large = (calibrate.prediction_set(probabilities, threshold, ordinal=ordinal) for threshold in sorted((one, other)))
        assert int(probabilities.argmax()) in small
        assert set(small) <= set(large)
        if ordinal:
            assert list(small) == list(range(small[0], small[-1] + 1))
        assert calibrate.prediction_set(probabilities, calibrate.ALL_LABELS, ordinal=ordinal) == tuple(range(len(probabilities)))


@given(hnp.arrays(np.int64, st.tuples(st.integers(2, 6)), elements=st.integers(1, 64)), st.booleans(), st.integers(0, 63))
def test_sets_are_those_grown_by_hand(weights: np.ndarray, ordinal: bool, step: int) -> None:
    probabilities = weights / 64  # sums of multiples of 1/64 are exact, whatever the order of adding; no need to sum to one
    assert calibrate.prediction_set(probabilities, step / 64, ordinal=ordinal) == naive_set(probabilities, step / 64, ordinal=ordinal)


def test_of_equal_neighbours_the_lower_enters_first() -> None:
    assert calibrate.prediction_set([0.25, 0.5, 0.25], 0.5, ordinal=True) == (0, 1)
    assert calibrate.prediction_set([0.25, 0.5, 0.25], 0.5, ordinal=False) == (0, 1)


def test_thresholds_are_the_conformal_quantile() -> None:
    logits, grade = severities(99, seed=3)
    probabilities = calibrate.softmax(logits)
    score = np.sort(calibrate.entry_mass(probabilities, ordinal=True)[np.arange(99), grade])
    for coverage, threshold in calibrate.fit_thresholds(probabilities, grade, ordinal=True):
        assert threshold == score[int(np.ceil(round(100 * coverage, 6))) - 1]  # the ceil((n + 1) coverage)-th smallest


def test_too_few_patients_cannot_promise_much() -> None:
    table = dict(calibrate.fit_thresholds([[0.9, 0.1]] * 9, [0] * 9, ordinal=True))
    assert table[0.9] == 0
    assert table[0.91] == calibrate.ALL_LABELS


@pytest.mark.parametrize("ordinal", [True, False])
def test_coverage_holds_on_new_patients(ordinal: bool) -> None:
    logits, grade = severities(4000, seed=4)
    new, truth = severities(20_000, seed=5)
    table = calibrate.fit_thresholds(calibrate.softmax(logits), grade, ordinal=ordinal)
    entry = calibrate.entry_mass(calibrate.softmax(new), ordinal=ordinal)[np.arange(20_000), truth]
    for coverage in (0.8, 0.9, 0.95):
        error = 4 * np.sqrt(coverage * (1 - coverage) * (1 / 4000 + 1 / 20_000))
        assert abs((entry <= calibrate.threshold_at(table, coverage)).mean() - coverage) < error


def test_a_patient_weighs_one_however_many_images() -> None:
    logits, grade = severities(300, seed=6)
    probabilities = calibrate.softmax(logits)
    once = calibrate.fit_thresholds(probabilities, grade, ordinal=True)
    times = np.random.default_rng(0).integers(1, 6, 300)
    copies = np.repeat(np.arange(300), times)
    assert calibrate.fit_thresholds(probabilities[copies], grade[copies], ordinal=True, groups=[f"p{i}" for i in copies]) == once


def test_coverage_holds_for_a_knee_of_a_new_patient() -> None:
    """Patients differ in difficulty and number of knees, and the hard ones have many: unweighted quantiles would be off."""
    rng = np.random.default_rng(7)

    def patients(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        hard = rng.random(n) < 0.3
        owner = np.repeat(np.arange(n), np.where(hard, 6, 1))
        logits, grade = severities(len(owner), seed=seed)
        shift = np.where(hard[owner], 1.5, 0.0)[:, None] * np.arange(5)
        return logits + shift, grade, owner

    logits, grade, owner = patients(3000, 8)
    new, truth, new_owner = patients(6000, 9)
    table = calibrate.fit_thresholds(calibrate.softmax(logits), grade, ordinal=True, groups=list(owner))
    held = calibrate.entry_mass(calibrate.softmax(new), ordinal=True)[np.arange(len(new)), truth] <= calibrate.threshold_at(table, 0.9)
    assert np.average(held, weights=1 / np.bincount(new_owner)[new_owner]) == pytest.approx(0.9, abs=0.025)
    assert held.mean() < 0.87  # so the weighting is what keeps the promise


def test_threshold_lookup() -> None:
    table = ((0.5, 0.1), (0.9, 0.6), (0.99, 0.95))
    assert calibrate.threshold_at(table, 0.5) == 0.1
    assert calibrate.threshold_at(table, 0.51) == calibrate.threshold_at(table, 0.9) == 0.6
    assert calibrate.threshold_at(table, 1.0) == calibrate.ALL_LABELS == calibrate.threshold_at((), 1.0)
    for outside in (0.49, 0.995, 0.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"from 0\.5 to 0\.99, or 1\.0"):
            calibrate.threshold_at(table, outside)
    with pytest.raises(ConfigError, match="no prediction-set thresholds"):
        calibrate.threshold_at((), 0.9)


def test_calibration_fits_its_task_and_the_derived_one_and_survives_json() -> None:
    logits, grade = severities(600, seed=10)
    groups = [str(i // 2) for i in range(600)]
    fitted = calibrate.fit_calibration(logits * 2, grade, task="kl", ordinal=True, groups=groups, derived={"oa": 2})
    again = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    assert fitted.temperature == pytest.approx(2, rel=0.15)
    probabilities = again.apply(logits)
    assert probabilities.dtype == np.float64
    assert probabilities.shape == (600, 5)
    merged = calibrate.merge(probabilities, first_positive=2)
    fitted_on = calibrate.merge(fitted.apply(logits * 2), first_positive=2)
    assert again.thresholds["oa"] == calibrate.fit_thresholds(fitted_on, grade >= 2, ordinal=True, groups=groups)
    for row in range(20):
        sets = [again.prediction_set(probabilities[row], task="kl", coverage=coverage) for coverage in (0.5, 0.8, 0.95, 1.0)]
        assert all(set(small) <= set(large) for small, large in pairwise(sets))
        assert sets[-1] == (0, 1, 2, 3, 4)
        assert int(merged[row].argmax()) in again.prediction_set(merged[row], task="oa", coverage=0.9)
    with pytest.raises(ConfigError):
        again.prediction_set(probabilities[0], task="osteoporosis", coverage=0.9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "temperature"),
        ({"temperature": "hot", "ordinal": True, "thresholds": {}}, "hot"),
        ({"temperature": 0.0, "ordinal": True, "thresholds": {}}, "positive"),
        ({"temperature": 1.0, "ordinal": True, "thresholds": []}, "not understood"),
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
        calibrate.fit_temperature(scores, target)
    with pytest.raises(DataError, match=message):
        calibrate.fit_thresholds(scores, target, ordinal=True)


def test_cross_fitted_coverage_is_near_the_asked_one() -> None:
    logits, grade = severities(4000, seed=11)
    groups = [i // 2 for i in range(4000)]
    estimates = calibrate.cross_fit_coverage(logits * 1.7, grade, ordinal=True, groups=groups, coverages=(0.95, 0.8))
    assert [estimate.coverage for estimate in estimates] == [0.8, 0.95]
    for estimate in estimates:
        assert estimate.measured == pytest.approx(estimate.coverage, abs=0.03)
        assert 1 <= estimate.mean_size <= 5
        assert len(estimate.per_class) == 5
        shares = np.bincount(grade) / 4000
        parts = [part for part in estimate.per_class if part]
        assert np.dot(shares, [part[0] for part in parts]) == pytest.approx(estimate.measured)
        assert np.dot(shares, [part[1] for part in parts]) == pytest.approx(estimate.mean_size)
    assert estimates[0].mean_size < estimates[1].mean_size
    assert estimates[0].singletons > estimates[1].singletons


def test_cross_fit_judges_a_patient_by_the_others_only() -> None:
    """Four right answers and one wrong: the wrong one is held by its set only where its own score was allowed to calibrate it."""
    logits = np.array([[2.0, 0.0]] * 5)
    (estimate,) = calibrate.cross_fit_coverage(logits, [0, 0, 0, 0, 1], ordinal=True, coverages=(0.7,))
    assert estimate.measured == pytest.approx(0.8)
    assert estimate.per_class[1] == (0.0, 1.0)


def test_cross_fit_keeps_a_patient_in_one_fold_and_names_an_absent_class() -> None:
    """Were a patient's copies on both sides of a fold, memorised scores would flatter the coverage."""
    logits, grade = severities(60, seed=12)
    keep = grade < 4
    once = calibrate.cross_fit_coverage(logits[keep], grade[keep], ordinal=True)
    twice = np.repeat(np.arange(keep.sum()), 2)
    copied = calibrate.cross_fit_coverage(logits[keep][twice], grade[keep][twice], ordinal=True, groups=list(twice))
    for one, other in zip(once, copied, strict=True):
        assert other.measured == pytest.approx(one.measured)
        assert other.mean_size == pytest.approx(one.mean_size)
        assert one.per_class[4] is None
    with pytest.raises(DataError, match="3 patients cannot be cut into 5 folds"):
        calibrate.cross_fit_coverage(logits[:6], grade[:6], ordinal=True, groups=[0, 0, 1, 1, 2, 2])
    with pytest.raises(DataError, match="2 patients were given for 6 rows"):
        calibrate.cross_fit_coverage(logits[:6], grade[:6], ordinal=True, groups=["a", "b"])
