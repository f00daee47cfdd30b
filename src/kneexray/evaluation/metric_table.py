"""The metrics of an evaluation's main row: what reports and model cards call them, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its ``title`` in tables, its ``meaning``, its ``name`` in running text, and its type on model hubs."""

    title: str
    meaning: str
    name: str
    hub: str


METRICS: MappingProxyType[str, Metric] = MappingProxyType(
    {
        "accuracy": Metric(
            "Accuracy",
            "Share of images whose answer (the most probable class) is the true class.",
            "accuracy",
            hub="accuracy",
        ),
        "balanced_accuracy": Metric(
            "Balanced accuracy",
            "Mean recall over the classes.",
            "balanced accuracy",
            hub="balanced_accuracy",
        ),
        "qwk": Metric(
            "QWK",
            "Cohen's kappa with quadratic weights: agreement beyond chance, far misses weighing more. 1 is perfect.",
            "quadratic weighted kappa",
            hub="cohen_kappa",
        ),
        "mae": Metric(
            "MAE, grades",
            "Mean distance between answer and truth, in grades. Lower is better.",
            "mean absolute error, grades",
            hub="mae",
        ),
        "macro_f1": Metric(
            "Macro F1",
            "Mean F1 over the classes.",
            "macro F1",
            hub="f1",
        ),
        "macro_auc": Metric(
            "Macro AUC",
            "Mean area under the ROC curve, each class against the rest.",
            "macro AUC (one against the rest)",
            hub="roc_auc",
        ),
        "ece": Metric(
            "ECE",
            "Expected calibration error of the answer's probability, 15 equal bins. Lower is better; resampling biases it upwards.",
            "expected calibration error",
            hub="expected_calibration_error",
        ),
        "brier": Metric(
            "Brier",
            "Squared error of the probabilities, summed over classes (0 to 2). Lower is better.",
            "Brier score",
            hub="brier_score",
        ),
        "nll": Metric(
            "NLL",
            "Mean negative log probability of the true class, in nats. Lower is better.",
            "negative log likelihood",
            hub="log_loss",
        ),
    }
)
