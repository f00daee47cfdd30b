"""What is reported of calibration and sets was measured on patients that did not calibrate."""

from __future__ import annotations

import numpy as np
import pytest
from support.answers import distorted, severities

from kneexray.errors import DataError
from kneexray.evaluation import crossfit
from kneexray.evaluation.estimates import Resampling
from kneexray.inference.calibration import cross_fit, softmax


def resampling(n: int, *, each: int = 1) -> Resampling:
    return Resampling(np.arange(n) // each, replicates=200)


def test_calibration_before_and_after() -> None:
    logits, grade = distorted(1500, seed=7)
    found = crossfit.calibration(logits, grade, resampling(1500, each=2))
    assert list(found) == ["folds", "chosen", "raw", "temperature", "vector"]
    assert found["chosen"] == "vector"
    own = cross_fit(logits, grade, scaling="vector", groups=list(np.arange(1500) // 2))
    assert found["vector"]["nll"]["value"] == pytest.approx(-np.log(own[np.arange(1500), grade]).mean())
    assert found["raw"]["nll"]["value"] == pytest.approx(-np.log(softmax(logits)[np.arange(1500), grade]).mean())
    assert found["vector"]["nll"]["high"] < found["raw"]["nll"]["value"]
    assert sum(entry["n"] for entry in found["vector"]["reliability"]) == 1500


def test_a_class_that_does_not_occur_leaves_temperature_only() -> None:
    logits, grade = distorted(400, seed=8)
    found = crossfit.calibration(logits[grade < 4], grade[grade < 4], resampling(int((grade < 4).sum())))
    assert list(found) == ["folds", "chosen", "raw", "temperature"]
    assert found["chosen"] == "temperature"


def test_sets_are_near_what_was_asked_and_told_by_class() -> None:
    logits, grade = severities(3000, seed=11)
    drawn = resampling(3000, each=2)
    found = crossfit.prediction_sets(logits * 1.7, grade, drawn, labels="01234", ordinal=True, scaling="temperature")
    assert [(entry["kind"], entry["coverage"]) for entry in found["sets"]] == [
        (kind, coverage) for kind in ("average", "per_class") for coverage in crossfit.COVERAGES
    ]
    shares = np.bincount(grade) / 3000
    for entry in found["sets"]:
        low, high = entry["measured"]["low"], entry["measured"]["high"]
        assert low < entry["measured"]["value"] < high
        assert entry["measured"]["value"] == pytest.approx(entry["coverage"], abs=0.03) or entry["kind"] == "per_class"
        assert 1 <= entry["mean_size"]["value"] <= 5
        for name in ("measured", "mean_size"):
            assert np.dot(shares, [part[name]["value"] for part in entry["per_class"].values()]) == pytest.approx(entry[name]["value"])
    small, *_, large = found["sets"][:3]
    assert small["mean_size"]["value"] < large["mean_size"]["value"]
    assert small["singletons"]["value"] > large["singletons"]["value"]


def test_a_patient_is_judged_by_the_others_only() -> None:
    """Four right answers and one wrong: the wrong one is held by its set only where its own score was allowed to calibrate it."""
    logits = np.array([[2.0, 0.0]] * 5)
    target = np.array([0, 0, 0, 0, 1])
    (average,) = crossfit.cross_fit_sets(logits, target, ordinal=True, coverages=(0.7,))["average"]
    assert average[np.arange(5), target].tolist() == [True, True, True, True, False]


def test_copies_of_a_patient_stay_in_one_fold() -> None:
    """Were a patient's copies on both sides of a fold, memorised scores would flatter the coverage."""
    logits, grade = severities(60, seed=12)
    once = crossfit.cross_fit_sets(logits, grade, ordinal=True)
    twice = np.repeat(np.arange(60), 2)
    copied = crossfit.cross_fit_sets(logits[twice], grade[twice], ordinal=True, groups=list(twice))
    for kind in ("average", "per_class"):
        np.testing.assert_array_equal(once[kind], copied[kind][:, ::2])
    with pytest.raises(DataError, match="3 patients cannot be cut into 5 folds"):
        crossfit.cross_fit_sets(logits[:6], grade[:6], ordinal=True, groups=[0, 0, 1, 1, 2, 2])
    with pytest.raises(DataError, match="2 patients were given for 6 rows"):
        crossfit.cross_fit_sets(logits[:6], grade[:6], ordinal=True, groups=["a", "b"])
