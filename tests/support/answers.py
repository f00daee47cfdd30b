"""Stored answers of models that exist only as numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kneexray.evaluation.inputs import EvaluationInput

WEIGHT, BIAS = np.array([1.4, 0.7, 1.0, 2.0, 0.9]), np.array([0.5, -0.8, 0.2, 0.4, -0.3])


def answers(n: int = 120, *, seed: int = 0, **changes: Any) -> EvaluationInput:
    """Return plausible KL answers for two knees a patient."""
    rng = np.random.default_rng(seed)
    target = rng.choice(5, p=[0.35, 0.2, 0.25, 0.15, 0.05], size=n)
    logits = -((target[:, None] + rng.normal(0, 0.8, (n, 1)) - np.arange(5)) ** 2)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    made = EvaluationInput(
        task="kl",
        model_id="kl-test",
        split_quality="patient",
        file=[f"val/{grade}/{row:04d}.webp" for row, grade in enumerate(target)],
        target=target,
        probabilities=probabilities,
        patient_id=[f"p{row // 2}" for row in range(n)],
        side=["RL"[row % 2] for row in range(n)],
        split=["val"] * n,
        source=["chen2018"] * n,
        logits=logits,
    )
    return replace(made, **changes)


def severities(n: int, *, seed: int, noise: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated logits (n, 5) of a noisy reading of an ordinal grade, and the grade."""
    rng, prior = np.random.default_rng(seed), np.array([0.4, 0.18, 0.26, 0.13, 0.03])
    grade = rng.choice(5, p=prior, size=n)
    reading = grade + rng.normal(0, noise, n)
    return -((reading[:, None] - np.arange(5)) ** 2) / (2 * noise**2) + np.log(prior), grade


def distorted(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (n, 5) that vector scaling by WEIGHT and BIAS makes calibrated, and the grade."""
    logits, grade = severities(n, seed=seed, noise=1.0)
    return (logits - BIAS) / WEIGHT, grade
