"""Prediction sets keep their promise, on average and within each class, and are those of a reference implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.answers import severities

from kneexray.errors import ConfigError
from kneexray.inference import conformal
from kneexray.inference.calibration import softmax

LOGITS = hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(2, 6)), elements=st.floats(-8, 8))


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


@given(LOGITS, st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_sets_hold_the_mode_are_nested_and_contiguous(logits: np.ndarray, ordinal: bool, one: float, other: float) -> None:
    for probabilities in softmax(logits):
        small, large = (conformal.prediction_set(probabilities, threshold, ordinal=ordinal) for threshold in sorted((one, other)))
        assert int(probabilities.argmax()) in small
        assert set(small) <= set(large)
        if ordinal:
            assert list(small) == list(range(small[0], small[-1] + 1))
        assert conformal.prediction_set(probabilities, conformal.ALL_LABELS, ordinal=ordinal) == tuple(range(len(probabilities)))


@given(hnp.arrays(np.int64, st.tuples(st.integers(2, 6)), elements=st.integers(1, 64)), st.booleans(), st.integers(0, 63))
def test_sets_are_those_grown_by_hand(weights: np.ndarray, ordinal: bool, step: int) -> None:
    probabilities = weights / 64  # sums of multiples of 1/64 are exact, whatever the order of adding; no need to sum to one
    assert conformal.prediction_set(probabilities, step / 64, ordinal=ordinal) == naive_set(probabilities, step / 64, ordinal=ordinal)


def test_of_equal_neighbours_the_lower_enters_first() -> None:
    assert conformal.prediction_set([0.25, 0.5, 0.25], 0.5, ordinal=True) == (0, 1)
    assert conformal.prediction_set([0.25, 0.5, 0.25], 0.5, ordinal=False) == (0, 1)


def test_thresholds_are_the_conformal_quantile() -> None:
    logits, grade = severities(99, seed=3)
    probabilities = softmax(logits)
    score = np.sort(conformal.entry_mass(probabilities, ordinal=True)[np.arange(99), grade])
    for coverage, threshold in conformal.fit_thresholds(probabilities, grade, ordinal=True):
        assert threshold == score[int(np.ceil(round(100 * coverage, 6))) - 1]  # the ceil((n + 1) coverage)-th smallest


def test_too_few_patients_cannot_promise_much() -> None:
    table = dict(conformal.fit_thresholds([[0.9, 0.1]] * 9, [0] * 9, ordinal=True))
    assert table[0.9] == 0
    assert table[0.91] == conformal.ALL_LABELS


@pytest.mark.parametrize("ordinal", [True, False])
def test_coverage_holds_on_new_patients(ordinal: bool) -> None:
    logits, grade = severities(4000, seed=4)
    new, truth = severities(20_000, seed=5)
    table = conformal.fit_thresholds(softmax(logits), grade, ordinal=ordinal)
    entry = conformal.entry_mass(softmax(new), ordinal=ordinal)[np.arange(20_000), truth]
    for coverage in (0.8, 0.9, 0.95):
        error = 4 * np.sqrt(coverage * (1 - coverage) * (1 / 4000 + 1 / 20_000))
        assert abs((entry <= conformal.threshold_at(table, coverage)).mean() - coverage) < error


def test_a_patient_weighs_one_however_many_images() -> None:
    logits, grade = severities(300, seed=6)
    probabilities = softmax(logits)
    once = conformal.fit_thresholds(probabilities, grade, ordinal=True)
    times = np.random.default_rng(0).integers(1, 6, 300)
    copies = np.repeat(np.arange(300), times)
    assert conformal.fit_thresholds(probabilities[copies], grade[copies], ordinal=True, groups=[f"p{i}" for i in copies]) == once


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
    table = conformal.fit_thresholds(softmax(logits), grade, ordinal=True, groups=list(owner))
    held = conformal.entry_mass(softmax(new), ordinal=True)[np.arange(len(new)), truth] <= conformal.threshold_at(table, 0.9)
    assert np.average(held, weights=1 / np.bincount(new_owner)[new_owner]) == pytest.approx(0.9, abs=0.025)
    assert held.mean() < 0.87  # so the weighting is what keeps the promise


def test_threshold_lookup() -> None:
    table = ((0.5, 0.1), (0.9, 0.6), (0.99, 0.95))
    assert conformal.threshold_at(table, 0.5) == 0.1
    assert conformal.threshold_at(table, 0.51) == conformal.threshold_at(table, 0.9) == 0.6
    assert conformal.threshold_at(table, 1.0) == conformal.ALL_LABELS == conformal.threshold_at((), 1.0)
    for outside in (0.49, 0.995, 0.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"from 0\.5 to 0\.99, or 1\.0"):
            conformal.threshold_at(table, outside)
    with pytest.raises(ConfigError, match="no prediction-set thresholds"):
        conformal.threshold_at((), 0.9)


def test_thresholds_a_class_are_fitted_on_that_class_alone() -> None:
    logits, grade = severities(400, seed=13)
    probabilities = softmax(logits)
    tables = conformal.fit_class_thresholds(probabilities, grade, ordinal=True)
    for label, table in enumerate(tables):
        own = grade == label
        assert table == conformal.fit_thresholds(probabilities[own], grade[own], ordinal=True, coverages=conformal.CLASS_COVERAGES)
    assert tables[4][-1] == (0.99, conformal.ALL_LABELS)  # a dozen knees of the rarest grade cannot promise 99 %


def test_a_class_that_never_occurs_is_in_every_set() -> None:
    tables = conformal.fit_class_thresholds(softmax([[2.0, 0, 0]] * 30), [0, 1] * 15, ordinal=False)
    assert {threshold for _, threshold in tables[2]} == {conformal.ALL_LABELS}


def test_coverage_holds_within_each_class() -> None:
    logits, grade = severities(6000, seed=14, noise=1.2)
    new, truth = severities(20_000, seed=15, noise=1.2)
    one = conformal.threshold_at(conformal.fit_thresholds(softmax(logits), grade, ordinal=True), 0.9)
    each = [conformal.threshold_at(table, 0.9) for table in conformal.fit_class_thresholds(softmax(logits), grade, ordinal=True)]
    held = {}
    for name, limits in (("one", one), ("each", each)):
        inside = conformal.membership(softmax(new), limits, ordinal=True)[np.arange(len(new)), truth]
        held[name] = [inside[truth == label].mean() for label in range(5)]
    assert min(held["one"]) < 0.87  # so the thresholds a class are what keeps the promise
    assert min(held["each"]) > 0.87


@given(LOGITS, st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_sets_of_thresholds_a_class_hold_the_mode_and_have_no_gap(logits: np.ndarray, limits: list[float]) -> None:
    for probabilities in softmax(logits):
        chosen = conformal.prediction_set(probabilities, limits[: len(probabilities)], ordinal=True)
        plain = conformal.prediction_set(probabilities, limits[: len(probabilities)], ordinal=False)
        assert int(probabilities.argmax()) in chosen
        assert int(probabilities.argmax()) in plain
        assert list(chosen) == list(range(chosen[0], chosen[-1] + 1))


@pytest.mark.parametrize("ordinal", [True, False])
def test_sets_are_those_of_mapie(ordinal: bool) -> None:
    """By MAPIE 1.6.0: SplitConformalClassifier at 0.9, prefitted, with its LAC score (1 - p) given p = (1 - entry mass) / K.

    The sets of thresholds a class are column by column those of a classifier conformalised on that class's rows alone.
    """
    logits, grade = severities(300, seed=21, noise=1.6)
    new = softmax(severities(8, seed=22, noise=1.6)[0])
    one = conformal.threshold_at(conformal.fit_thresholds(softmax(logits), grade, ordinal=ordinal), 0.9)
    each = [conformal.threshold_at(table, 0.9) for table in conformal.fit_class_thresholds(softmax(logits), grade, ordinal=ordinal)]

    def written(limits: object) -> list[str]:
        return ["".join(map(str, conformal.prediction_set(row, limits, ordinal=ordinal))) for row in new]

    assert written(one) == ["01", "01", "012", "123", "234", "234", "234", "012"]
    assert written(each) == ["01", "01", "0123", "1234", "234", "234", "234", "0123"]
