r"""Fit the appearance model that the crop gate and the synthetic knees use.

    python -m kneexray.makers.appearance --data ../shared/data/chen2018 --model src/kneexray/models/reading \
        --out src/kneexray/models/appearance.npz

It holds means and principal components over thousands of training crops. No patient's image can be had back from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from kneexray.datasets import manifest as manifests
from kneexray.inference.bundle import Bundle, open_bundle
from kneexray.inference.preprocess import Geometry, preprocess
from kneexray.predict import Grader
from kneexray.read import read_file
from kneexray.roi import whole_knee
from kneexray.roi.gate import SIDE, judge, thumbnail
from kneexray.synthetic import SPREAD, render
from kneexray.types import Knee, Radiograph

DRAWN_SIDE = 160
DRAWN_COMPONENTS = 96
GATE_COMPONENTS = 16
LIMIT = 2.0
"""Largest amount of a component in the demo's knees, in standard deviations: none may look unlike a knee."""


def principal_components(rows: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the first ``count`` orthonormal components (C, P) of centred ``rows`` (N, P) and their standard deviations (C,)."""
    fitted = PCA(count, svd_solver="randomized", random_state=0).fit(rows)
    return fitted.components_.astype(np.float32), np.sqrt(fitted.explained_variance_).astype(np.float32)


def standardised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``image`` with mean 0 and standard deviation 1."""
    return np.asarray((image - image.mean()) / (image.std() + 0.02), dtype=np.float32)


def fit(data: str | Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of the appearance model, fitted on the training split of ``data`` (KL).

    Inverted crops, those that correlate negatively with the mean of all, are left out.
    """
    manifest = manifests.load(data, task="kl")
    examples = manifest.split("train")
    labels = np.array(manifest.labels(examples))
    drawn = np.empty((len(examples), DRAWN_SIDE, DRAWN_SIDE), np.float32)
    small = np.empty((len(examples), SIDE * SIDE), np.float32)
    for i, example in enumerate(examples):
        radiograph = read_file(manifest.path_of(example)).radiographs[0]
        height, width = radiograph.pixels.shape
        knee = Knee(radiograph, box=(0.0, 0.0, float(width), float(height)), mirrored=example.side == "L")
        drawn[i] = standardised(preprocess(knee, Geometry(size=DRAWN_SIDE))[0])
        small[i] = thumbnail(radiograph.pixels)
    kept = small @ small.mean(axis=0) > 0
    drawn, small, labels = drawn[kept], small[kept], labels[kept]
    both = np.concatenate([small, small.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(small.shape)])
    gate_mean = both.mean(axis=0)
    gate_components, gate_deviation = principal_components(both - gate_mean, GATE_COMPONENTS)
    means = np.stack([drawn[labels == grade].mean(axis=0) for grade in range(len(manifest.task.labels))])
    components, deviations = principal_components((drawn - means[labels]).reshape(len(drawn), -1), DRAWN_COMPONENTS)
    scale = np.abs(components).max(axis=1) / 127
    return {
        "gate_mean": gate_mean.astype(np.float16),
        "gate_components": gate_components.astype(np.float16),
        "gate_variance": (gate_deviation**2).astype(np.float32),
        "means": means.astype(np.float16),
        "components": np.round(components / scale[:, None]).astype(np.int8).reshape(-1, DRAWN_SIDE, DRAWN_SIDE),
        "component_scale": scale.astype(np.float32),
        "deviations": deviations,
        "exemplars": np.zeros((len(means), DRAWN_COMPONENTS), np.float16),
    }


def choose_exemplars(bundle: Bundle, arrays: dict[str, NDArray[Any]], *, rounds: int = 12, candidates: int = 64) -> NDArray[np.float16]:
    """Return the components' amounts (K, C) of one drawn knee a grade, the one that the model is surest of.

    Found by the cross-entropy method (Rubinstein, Methodol Comput Appl Probab 1999;1:127): draw many, keep the surest eighth, draw
    around those. These are the demo's knees. That the model grades them rightly is how they were chosen; it says nothing about how
    good it is.
    """
    grader = Grader(bundle, [bundle.task], coverage=1.0, heatmaps=False, threads=0)
    chosen = []
    for grade in range(len(bundle.task.labels)):
        rng = np.random.default_rng([7, grade])
        middle, spread = np.zeros(DRAWN_COMPONENTS), np.full(DRAWN_COMPONENTS, SPREAD)
        for _ in range(rounds):
            amounts = np.clip(rng.normal(middle, spread, (candidates, DRAWN_COMPONENTS)), -LIMIT, LIMIT).astype(np.float16)
            surest = amounts[np.argsort(_sureness(grader, arrays, grade, amounts))[::-1][: candidates // 8]].astype(np.float64)
            middle, spread = surest.mean(axis=0), surest.std(axis=0) + 0.05
        chosen.append(surest[0].astype(np.float16))
    return np.stack(chosen)


def _sureness(grader: Grader, arrays: dict[str, NDArray[Any]], grade: int, amounts: NDArray[np.float16]) -> NDArray[np.float64]:
    """Return (N,) the probability of ``grade`` that the model gives to drawn knees, 0 for those that do not look like one."""
    sureness = np.zeros(len(amounts))
    films = [render(arrays, grade, amounts=a.astype(np.float32), seed=0) for a in amounts]
    knees = {
        i: whole_knee(Radiograph(pixels=film, source="drawn"), verdict=v) for i, film in enumerate(films) if (v := judge(film)).is_crop
    }
    for i, answers in zip(knees, grader.grade(list(knees.values())), strict=True):
        sureness[i] = answers[0].probabilities[grade]
    return sureness


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--model", help="The KL bundle that chooses the demo's knees; without one they are the grades' means.")
    options = parser.parse_args(arguments)
    arrays = fit(options.data)
    np.savez_compressed(options.out, allow_pickle=False, **arrays)
    if options.model:
        arrays["exemplars"] = choose_exemplars(open_bundle(options.model), arrays)
        np.savez_compressed(options.out, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
