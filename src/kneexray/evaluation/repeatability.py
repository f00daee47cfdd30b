r"""How much do the answers differ between two films of a knee that did not change? Measured on films taken twice by drawing.

    python -m kneexray.evaluation.repeatability --crops ../shared/data/chen2018/val --model src/kneexray/models/reading \
        --joint-space src/kneexray/models/joint-space

Each crop of a knee is exposed and placed twice at random (:func:`repeated`), and graded and measured twice. The noise is what 95 % of
the differences stay within: the repeatability coefficient of Bland & Altman (Stat Methods Med Res 1999;8:135) without its assumption that
differences are normal. No knee was in fact filmed twice: the bend of the knee and the direction of the beam, which move the joint space
most, do not vary here. The noise is a lower bound. It is written beside the networks, and holds for them alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneexray import provenance
from kneexray.datasets.catalogue.chen2018 import CARD
from kneexray.evaluation.estimates import value
from kneexray.evaluation.metrics import resamples
from kneexray.evaluation.probes.corruptions import contrast, gamma, noise, rotate
from kneexray.inference.bundle import sha256_of
from kneexray.measure import joint_space
from kneexray.predict import Predictor
from kneexray.priors import REPEATABILITY, expected_grade
from kneexray.read import find_sources
from kneexray.roi import whole_knee
from kneexray.tasks import TASKS
from kneexray.types import Knee

logger = logging.getLogger(__name__)

SPREAD = {"shift": 0.015, "zoom": 0.02, "turn": 2.0, "gamma": 0.15, "contrast": 0.1, "noise": 0.01}
"""Standard deviations: of the box's place, in its sides, and of the log of its size, about as the localiser's differ from boxes drawn by
hand; of the leg's tilt in degrees; of the logs of gamma and contrast; of the grey values' noise, a share of their range."""
SHARE = 0.95


def repeated(knee: Knee, rng: np.random.Generator) -> Knee:
    """Return ``knee`` as another film of it might show it: tilt, exposure, noise, and the place and size of its box drawn anew."""
    draw = {name: float(rng.normal(0, spread)) for name, spread in SPREAD.items()}
    pixels = rotate(knee.radiograph.pixels, draw["turn"], rng)
    pixels = contrast(gamma(pixels, float(np.exp(draw["gamma"])), rng), float(np.exp(draw["contrast"])), rng)
    pixels = noise(pixels, SPREAD["noise"], rng)
    x0, y0, x1, y1 = knee.box
    side = x1 - x0
    x, y = (x0 + x1) / 2 + draw["shift"] * side, (y0 + y1) / 2 + float(rng.normal(0, SPREAD["shift"])) * side
    half = side / 2 * float(np.exp(draw["zoom"]))
    return replace(knee, radiograph=replace(knee.radiograph, pixels=pixels), box=(x - half, y - half, x + half, y + half))


def differences(knees: Sequence[Knee], *, model: Path | None, lengths: bool, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Return for each task of ``model`` the differences (N,) of the expected grade between two films of each knee, and with ``lengths``
    those of the widths of the joint space, in widths of the condyles; NaN where one of the two was not measured."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    graders = Predictor(models=[model], tasks=_tasks(model), heatmaps=False, threads=1).graders if model else []
    for knee in knees:
        pair = [repeated(knee, rng), repeated(knee, rng)]
        for grader in graders:
            for first, second in zip(*grader.grade(pair), strict=True):
                found.setdefault(first.task, []).append(expected_grade(second.probabilities) - expected_grade(first.probabilities))
        if lengths:
            first_widths, second_widths = ({m.name: m.value for m in knee.measurements} for knee in joint_space.measure(pair))
            for name in ("jsw_medial", "jsw_lateral"):
                found.setdefault(name, []).append(second_widths.get(name, np.nan) - first_widths.get(name, np.nan))
    return {name: np.array(values) for name, values in found.items()}


def _tasks(model: Path) -> list[str]:
    """Return the task of a bundle and those derived from it."""
    base = json.loads((model / "card.json").read_text(encoding="utf-8"))["task"]
    return [base, *(task.name for task in TASKS.values() if task.derived and task.derived[0] == base)]


def spread_of(differences: NDArray[np.float64], owner: NDArray[np.int64], *, replicates: int = 1000) -> dict[str, Any]:
    """Return what :data:`SHARE` of the ``differences`` (N,) stay within, with the interval of resamples of the patients in ``owner``."""
    known = ~np.isnan(differences)
    size = np.abs(differences[known])
    patient = np.unique(owner[known], return_inverse=True)[1]
    order = np.argsort(size)
    drawn = []
    for weights in resamples(int(patient.max()) + 1, replicates=replicates, seed=0):
        below = np.cumsum(weights[:, patient[order]], axis=1)
        drawn.append(size[order][np.argmax(below >= SHARE * below[:, -1:], axis=1)])
    rounded = {
        name: None if v is None else round(v, 4) for name, v in value(float(np.quantile(size, SHARE)), np.concatenate(drawn)).items()
    }
    return {**rounded, "n": int(known.sum()), "not_measured": int((~known).sum())}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--crops", type=Path, required=True, help="Crops of one AP knee each, named by patient and side, unseen in training."
    )
    parser.add_argument("--model", type=Path, help="A bundle: the file is written into it.")
    parser.add_argument("--joint-space", type=Path, help="The folder of the joint-space network: the file is written into it.")
    parser.add_argument("--knees", type=int, default=200, help="How many crops, evenly drawn.")
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    knees, owners = crops(options.crops, most=options.knees)
    found = differences(knees, model=options.model, lengths=options.joint_space is not None)
    for folder in filter(None, (options.model, options.joint_space)):
        names = [name for name in found if name.startswith("jsw_") == (folder == options.joint_space)]
        record = {
            "sha256": sha256_of(folder / joint_space.NETWORK.name),
            "command": provenance.command_line(["python", "-m", "kneexray.evaluation.repeatability", *given], home=str(Path.home())),
            "kneexray": provenance.environment()["git"],
            "data": f"{len(knees)} knees of {len(set(owners))} patients",
            "method": f"two films of each knee, drawn with standard deviations {SPREAD}; no knee was in fact filmed twice",
            "unit": "condyles' widths" if folder == options.joint_space else "grades of the expected grade",
            "share": SHARE,
            "noise": {name: spread_of(found[name], np.unique(owners, return_inverse=True)[1]) for name in names},
        }
        (folder / REPEATABILITY).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        logger.info("%s", json.dumps(record["noise"], indent=1))


def crops(root: Path, *, most: int) -> tuple[list[Knee], list[str]]:
    """Return ``most`` knees, evenly drawn from the crops below ``root``, and the patient of each."""
    sources = list(find_sources(root))
    knees, owners = [], []
    for source in sources[:: max(1, len(sources) // most)][:most]:
        if who := CARD.identify(Path(source.name).stem):
            knees.append(whole_knee(source.read().radiographs[0], side=who.side))
            owners.append(who.patient_id)
    return knees, owners


if __name__ == "__main__":
    main()
