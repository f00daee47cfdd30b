r"""Fit the appearance model that the crop gate and the synthetic knees use.

    python -m kneexray.train.appearance --data ../shared/data/chen2018 --model src/kneexray/models/kl \
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

from kneexray.bundle import Bundle, open_bundle
from kneexray.datasets import manifest as manifests
from kneexray.predict import Grader
from kneexray.preprocess import Geometry, preprocess
from kneexray.read import read_file
from kneexray.roi import whole_knee
from kneexray.roi.gate import SIDE, judge, thumbnail
from kneexray.synthetic import SPREAD, render
from kneexray.types import Knee, Radiograph

DRAWN_SIDE = 160
DRAWN_COMPONENTS = 96
GATE_COMPONENTS = 16


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


def choose_exemplars(bundle: Bundle, arrays: dict[str, NDArray[Any]], *, candidates: int = 400) -> NDArray[np.float16]:
    """Return the components' amounts (K, C) of one drawn knee a grade: of many random ones, the one that the model is surest of.

    These are the demo's knees. That the model grades them rightly is how they were chosen; it says nothing about how good it is.
    """
    grader = Grader(bundle, [bundle.task], coverage=1.0, heatmaps=False, threads=0)
    chosen = []
    for grade in range(len(bundle.task.labels)):
        amounts = np.random.default_rng([7, grade]).normal(0, SPREAD, (candidates, DRAWN_COMPONENTS)).astype(np.float16)
        films = [render(arrays, grade, amounts=a.astype(np.float32), seed=0) for a in amounts]
        verdicts = [judge(film) for film in films]
        likely = [i for i, verdict in enumerate(verdicts) if verdict.is_crop]
        knees = [whole_knee(Radiograph(pixels=films[i], source="drawn"), verdict=verdicts[i]) for i in likely]
        answers = [grader.grade(knees[i : i + 16]) for i in range(0, len(knees), 16)]
        sureness = [answer[0].probabilities[grade] for chunk in answers for answer in chunk]
        chosen.append(amounts[likely[int(np.argmax(sureness))]])
    return np.stack(chosen)


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
