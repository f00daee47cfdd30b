"""Every metric against scikit-learn and known answers; the bootstrap against a plain loop."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st

from kneexray.evaluation import metrics


def answers(seed: int, *, n: int, classes: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (n, K) that know something about the target, and the target (n,)."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[target]
    if ties:
        logits = np.round(logits)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), target


def point(probabilities: np.ndarray, target: np.ndarray, patient: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return the plain metrics."""
    tallied = metrics.tally(probabilities, target, np.arange(len(target)) if patient is None else patient)
    return {name: values[0] for name, values in metrics.measure(tallied, np.ones(tallied.patients)).items()}


def scikit(probabilities: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Return the same metrics by scikit-learn, which warns about what is not defined and calls it zero."""
    answer, classes = probabilities.argmax(axis=1), range(probabilities.shape[1])
    onehot = np.eye(probabilities.shape[1])[target]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = [label for label in classes if 0 < (target == label).sum() < len(target)]
        aucs = [sk.roc_auc_score(target == label, probabilities[:, label]) for label in both]
        return {
            "accuracy": sk.accuracy_score(target, answer),
            "balanced_accuracy": sk.balanced_accuracy_score(target, answer),
            "qwk": sk.cohen_kappa_score(target, answer, labels=list(classes), weights="quadratic"),
            "mae": sk.mean_absolute_error(target, answer),
            "macro_f1": sk.f1_score(target, answer, average="macro"),
            "macro_auc": float(np.mean(aucs)) if aucs else np.nan,
            "brier": float(np.mean(((probabilities - onehot) ** 2).sum(axis=1))),
            "nll": sk.log_loss(target, probabilities, labels=list(classes)),
        }


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 6), st.booleans())
def test_headline_agrees_with_scikit_learn(seed: int, n: int, classes: int, ties: bool) -> None:
    probabilities, target = answers(seed, n=n, classes=classes, ties=ties)
    found = point(probabilities, target)
    for name, value in scikit(probabilities, target).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 6), st.booleans())
def test_classes_agree_with_scikit_learn(seed: int, n: int, classes: int, ties: bool) -> None:
    probabilities, target = answers(seed, n=n, classes=classes, ties=ties)
    found, answer, labels = point(probabilities, target), probabilities.argmax(axis=1), list(range(classes))
    np.testing.assert_array_equal(found["confusion"], sk.confusion_matrix(target, answer, labels=labels))
    precision, recall, f1, support = sk.precision_recall_fscore_support(target, answer, labels=labels, zero_division=np.nan)
    np.testing.assert_array_equal(found["support"], support)
    np.testing.assert_allclose(found["precision"], precision)
    np.testing.assert_allclose(found["recall"], recall)
    seen = (support > 0) | (found["confusion"].sum(axis=0) > 0)
    np.testing.assert_allclose(found["f1"][seen], f1[seen])
    assert np.isnan(found["f1"][~seen]).all()
    for average in ("macro", "weighted"):
        ours = np.array([found[f"{average}_{name}"] for name in metrics.AVERAGED[:2]])
        theirs = np.array(sk.precision_recall_fscore_support(target, answer, labels=labels, average=average, zero_division=np.nan)[:2])
        defined = ~np.isnan(ours)  # scikit-learn calls a mean over nothing zero
        np.testing.assert_allclose(ours[defined], theirs[defined], err_msg=average)
        assert defined.all() or average == "weighted"
    for label in labels:
        if support[label]:
            assert found["ap"][label] == pytest.approx(sk.average_precision_score(target == label, probabilities[:, label]))
        else:
            assert np.isnan(found["ap"][label])
        if 0 < support[label] < n:
            assert found["auc"][label] == pytest.approx(sk.roc_auc_score(target == label, probabilities[:, label]))
        else:
            assert np.isnan(found["auc"][label])


def test_brier_agrees_with_scikit_learn_for_two_classes() -> None:
    probabilities, target = answers(1, n=50, classes=2)
    assert point(probabilities, target)["brier"] == pytest.approx(2 * sk.brier_score_loss(target, probabilities[:, 1]))


def test_known_answers() -> None:
    probabilities = np.array([[0.8, 0.2, 0.0], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.1, 0.5, 0.4]])
    found = point(probabilities, np.array([0, 1, 2, 0]))
    assert found["accuracy"] == 0.5
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert found["mae"] == 0.5
    assert found["qwk"] == pytest.approx(1 - 2 / (22 / 4))  # by chance: (2*1*1 + 2*1*4 + 1*2*1 + 1*1*1 + 1*2*4 + 1*1*1) / 4
    assert found["nll"] == pytest.approx(-np.log([0.8, 0.3, 0.7, 0.1]).mean())
    assert found["ece"] == pytest.approx((0.2 + 0.6 + 0.3 + 0.5) / 4)  # each answer alone in its bin: |hit - probability|


def test_ece_by_hand() -> None:
    """Two full bins: (0.6, 0.667] with one of two right, (0.933, 1] with two of two; an edge belongs to the bin below it."""
    probabilities = np.array([[0.62, 0.38], [0.64, 0.36], [0.95, 0.05], [1.0, 0.0], [0.6, 0.4]])
    found = point(probabilities, np.array([0, 1, 0, 0, 0]))
    assert found["ece"] == pytest.approx((abs(1 - 1.26) + abs(2 - 1.95) + abs(1 - 0.6)) / 5)
    np.testing.assert_array_equal(np.flatnonzero(found["bin_images"]), [8, 9, 14])
    assert found["bin_accuracy"][9] == 0.5
    assert found["bin_confidence"][14] == pytest.approx(0.975)
    assert np.isnan(found["bin_accuracy"][0])


def test_a_perfect_model_and_an_absent_class() -> None:
    found = point(np.eye(3)[[0, 1, 0, 1]], np.array([0, 1, 0, 1]))
    assert [found[name] for name in ("accuracy", "balanced_accuracy", "qwk", "mae", "macro_f1", "macro_auc", "ece", "brier")] == [
        1, 1, 1, 0, 1, 1, 0, 0,
    ]  # fmt: skip
    assert all(np.isnan(found[name][2]) for name in metrics.PER_CLASS)


def test_one_class_only_leaves_kappa_and_auc_undefined() -> None:
    found = point(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]))
    assert np.isnan(found["qwk"])
    assert np.isnan(found["macro_auc"])
    assert found["accuracy"] == found["balanced_accuracy"] == found["macro_f1"] == 1


def test_a_certain_miss_has_a_finite_nll() -> None:
    assert point(np.array([[1.0, 0.0]]), np.array([1]))["nll"] == pytest.approx(-np.log(np.finfo(np.float64).eps))


def test_another_decision_than_the_most_probable() -> None:
    probabilities, target = answers(2, n=40, classes=2)
    tallied = metrics.tally(probabilities, target, np.arange(40), grade=np.ones(40))
    found = metrics.measure(tallied, np.ones(40))
    assert found["recall"][0].tolist() == [0, 1]
    assert found["auc"][0, 1] == pytest.approx(sk.roc_auc_score(target, probabilities[:, 1]))


def loop_bootstrap(probabilities: np.ndarray, target: np.ndarray, patient: np.ndarray, weights: np.ndarray) -> dict[str, list[float]]:
    """Draw the images of each resample as a list, patient by patient, and measure the list."""
    samples: dict[str, list[float]] = {}
    for weight in weights:
        rows = np.concatenate([np.flatnonzero(patient == owner) for owner in range(len(weight)) for _ in range(int(weight[owner]))])
        for name, value in (scikit(probabilities[rows], target[rows]) | {"ece": point(probabilities[rows], target[rows])["ece"]}).items():
            samples.setdefault(name, []).append(value)
    return samples


def test_bootstrap_agrees_with_a_loop_over_the_same_resamples() -> None:
    probabilities, target = answers(3, n=60, classes=4, ties=True)
    patient = np.random.default_rng(0).permutation(np.repeat(np.arange(25), 3)[:60])
    fast = metrics.bootstrap(metrics.tally(probabilities, target, patient), replicates=40, seed=5)
    weights = np.concatenate(list(metrics.resamples(int(patient.max()) + 1, replicates=40, seed=5)))
    slow = loop_bootstrap(probabilities, target, patient, weights)
    assert set(slow) == set(metrics.HEADLINE)
    for name in metrics.HEADLINE:
        np.testing.assert_allclose(fast[name], slow[name], rtol=1e-9, atol=1e-12, err_msg=name)
        assert metrics.interval(fast[name]) == pytest.approx(tuple(np.percentile(slow[name], [2.5, 97.5])))


def test_resamples_do_not_depend_on_the_block() -> None:
    one, other = (np.concatenate(list(metrics.resamples(11, replicates=30, seed=1, block=block))) for block in (7, 64))
    np.testing.assert_array_equal(one, other)
    assert (one.sum(axis=1) == 11).all()
    assert not np.array_equal(one, np.concatenate(list(metrics.resamples(11, replicates=30, seed=2))))


def test_bootstrap_of_many_images_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    tallied = metrics.tally(*answers(4, n=90, classes=3), np.repeat(np.arange(30), 3))
    whole = metrics.bootstrap(tallied, replicates=50)
    monkeypatch.setattr(metrics, "_BLOCK", 200)
    for name, values in metrics.bootstrap(tallied, replicates=50).items():
        np.testing.assert_allclose(values, whole[name], err_msg=name)


def test_two_knees_of_a_patient_widen_the_interval() -> None:
    """Copies of an image add no evidence: as one patient they leave the interval as it was, as patients of their own they shrink it."""
    probabilities, target = answers(5, n=200, classes=3)
    copies = np.repeat(np.arange(200), 2)

    def width(patient: np.ndarray, rows: np.ndarray) -> float:
        low_high = metrics.interval(metrics.bootstrap(metrics.tally(probabilities[rows], target[rows], patient))["accuracy"])
        assert low_high
        return low_high[1] - low_high[0]

    once = width(np.arange(200), np.arange(200))
    assert width(copies, copies) == pytest.approx(once)
    assert width(np.arange(400), copies) < 0.85 * once


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for seed in range(120):
        right = rng.random(150) < 0.7
        probabilities = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
        tallied = metrics.tally(probabilities, np.zeros(150), np.arange(150))
        bounds = metrics.interval(metrics.bootstrap(tallied, replicates=300, seed=seed)["accuracy"])
        assert bounds
        hits += bounds[0] <= 0.7 <= bounds[1]
    assert 0.88 <= hits / 120 <= 1


def test_interval_of_what_is_mostly_undefined() -> None:
    values = np.arange(100.0)
    values[:5] = np.nan
    assert metrics.interval(values) == pytest.approx((7.35, 96.65))
    values[5] = np.nan
    assert metrics.interval(values) is None
    assert metrics.interval(np.full(10, np.nan)) is None
    assert metrics.interval([]) is None


def test_curves_are_those_of_scikit_learn() -> None:
    probabilities, target = answers(7, n=100, classes=3)
    false_rate, true_rate = metrics.roc(probabilities[:, 1], target == 1)
    assert np.trapezoid(true_rate, false_rate) == pytest.approx(point(probabilities, target)["auc"][1])
    precision, recall = metrics.precision_recall(probabilities[:, 1], target == 1)
    assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(point(probabilities, target)["ap"][1])
