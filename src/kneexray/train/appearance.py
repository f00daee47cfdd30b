"""Fit the appearance model that the crop gate and the synthetic knees use.

    python -m kneexray.train.appearance --data ../shared/data/chen2018 --out src/kneexray/models/appearance.npz

It holds means and principal components over thousands of training crops. No patient's image can be had back from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneexray.datasets import manifest as manifests
from kneexray.preprocess import Geometry, preprocess
from kneexray.read import read_file
from kneexray.roi import whole
from kneexray.roi.gate import SIDE, thumbnail

DRAWN_SIDE = 160
DRAWN_COMPONENTS = 96
GATE_COMPONENTS = 16


def principal_components(rows: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the first ``count`` orthonormal components (C, P) of centred ``rows`` (N, P) and their standard deviations (C,)."""
    covariance = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    if len(rows) < rows.shape[1]:
        vectors = (rows.T @ vectors) / np.sqrt(values)
    return np.ascontiguousarray(vectors.T, dtype=np.float32), np.sqrt(values / len(rows)).astype(np.float32)


def standardised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``image`` with mean 0 and standard deviation 1."""
    return np.asarray((image - image.mean()) / (image.std() + 0.02), dtype=np.float32)


def fit(data: str | Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of the appearance model, fitted on the training split of ``data`` (KL)."""
    manifest = manifests.load(data, task="kl")
    examples = manifest.split("train")
    labels = np.array(manifest.labels(examples))
    geometry = Geometry(size=DRAWN_SIDE)
    drawn = np.empty((len(examples), DRAWN_SIDE, DRAWN_SIDE), np.float32)
    gate = np.empty((2 * len(examples), SIDE * SIDE), np.float32)
    for i, example in enumerate(examples):
        radiograph = read_file(manifest.path_of(example)).radiographs[0]
        drawn[i] = standardised(preprocess(whole(radiograph, side=example.side), geometry)[0])
        gate[2 * i], gate[2 * i + 1] = thumbnail(radiograph.pixels), thumbnail(np.ascontiguousarray(radiograph.pixels[:, ::-1]))
    gate_mean = gate.mean(axis=0)
    gate_components, gate_deviation = principal_components(gate - gate_mean, GATE_COMPONENTS)
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    options = parser.parse_args(arguments)
    np.savez_compressed(options.out, **fit(options.data))


if __name__ == "__main__":
    main()
