"""Does the heatmap show what the answer rests on? Tests of the class map inside a bundle.

- Deletion and insertion (Petsiuk et al., RISE, BMVC 2018, arXiv:1806.07421): what the map calls important is blurred away first, or
  brought back first; a random map and a spot on the joint, the same for every knee, are the standards to beat.
- The share of its heat that lies in the joint region.
- Model randomisation (:mod:`.randomise`): a map that stays as it was when the weights are shuffled shows no more than edges.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import numpy as np

from kneexray.errors import DataError
from kneexray.evaluation.answers import Labelled
from kneexray.evaluation.metrics import Floats
from kneexray.evaluation.probes import figures
from kneexray.evaluation.probes.corruptions import Pixels
from kneexray.evaluation.probes.sample import Sample, draw, estimate, exceeds, words
from kneexray.geometry import JOINT_LINE, resample
from kneexray.inference.bundle import Bundle
from kneexray.inference.preprocess import Geometry, preprocess
from kneexray.inference.session import Session
from kneexray.pages import figure_style
from kneexray.pages.page import Section, Table, short
from kneexray.predict import Predictor
from kneexray.render.heatmap import heatmap_from_cam, on_box
from kneexray.roi import find_knees
from kneexray.tasks import get_task
from kneexray.types import Box

MAPS: MappingProxyType[str, str] = MappingProxyType({"heatmap": "Heatmap", "random": "Random map", "spot": "Spot on the joint"})
"""The heatmap, and the standards that it is measured against."""

JOINT: Box = (0.065, JOINT_LINE - 0.15, 0.935, JOINT_LINE + 0.15)
"""The joint region, in shares of the box: as wide as the condyles, from the notch to below the tibial plateau."""

SHARES = np.array([0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1])
"""Shares of the image that are blurred away or brought back."""
DEPTHS = (0.0, 0.33, 0.67, 1.0)
"""Shares of the network's weights that are randomised, from the class map back; the first is the last layer alone."""
ALIKE = 0.5
"""A map that correlates more than this with that of the wholly randomised network hardly shows what was learned."""

_BLUR, _GRID, _SPREAD = 8, 100, 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One knee as the model saw it: ``image`` (1, S, S), its answer, and the class map (h, w) of that answer."""

    image: Pixels
    answer: int
    cam: Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What was measured on N knees, by map where the name says so.

    ``deletion`` and ``insertion`` (N, S) are the probability of the answer at each of :data:`SHARES`, ``inside`` (N,) the share of the
    heat in the joint region, ``alike`` (N, D) the rank correlation of the class map with that of the network randomised to each of
    :data:`DEPTHS`; None where that could not be measured.
    """

    deletion: Mapping[str, Floats]
    insertion: Mapping[str, Floats]
    inside: Mapping[str, Floats]
    alike: Floats | None


def section(predictor: Predictor, items: Sequence[Labelled], *, seed: int = 0, most: int) -> Section:
    """Return the tests of the class map of the model in ``predictor`` on at most ``most`` of ``items``, patients drawn with ``seed``.

    Raises :class:`~kneexray.errors.DataError` where ``items`` are none, or where the model gives none of those drawn a class map.
    """
    drawn = draw(items, most=most, seed=seed)
    task = get_task(drawn.items[0].example.task)
    bundle = next(grader.bundle for grader in predictor.graders if task in grader.tasks)
    session = Session(bundle)
    found = {row: look for row, item in enumerate(drawn.items) if (look := _look(item, bundle, session)) is not None}
    if not found:
        raise DataError(
            f"{bundle.folder}: gives no class map for any of the {len(drawn.items)} images drawn; only models whose head is linear have one"
        )
    sample, looks = drawn.take([*found]), list(found.values())
    generator = np.random.default_rng(seed)
    maps = [_maps(look.cam, bundle.geometry, generator) for look in looks]
    erased = [[_erased(look, heat, bundle, session) for heat in mine.values()] for look, mine in zip(looks, maps, strict=True)]
    curves = np.array(erased)  # (N, maps, 2, S)
    findings = Findings(
        deletion={name: curves[:, place, 0] for place, name in enumerate(MAPS)},
        insertion={name: curves[:, place, 1] for place, name in enumerate(MAPS)},
        inside={name: np.array([inside(mine[name], bundle.geometry) for mine in maps]) for name in MAPS},
        alike=_alike(looks, sample, bundle, seed=seed) if find_spec("onnx") else None,
    )
    return report(findings, sample, seed=seed)


def report(findings: Findings, sample: Sample, *, seed: int) -> Section:
    """Return the section of ``findings`` on ``sample``."""
    deletion, insertion = (
        {name: sample.mean(area(values)) for name, values in of.items()} for of in (findings.deletion, findings.insertion)
    )
    joint = {name: sample.mean(values) for name, values in findings.inside.items()}
    alike = unsigned = None
    if findings.alike is not None:
        alike, unsigned = (
            np.stack([sample.mean(values) for values in of.T]) for of in (findings.alike, np.abs(findings.alike))
        )  # (D, 1 + B)
    with figure_style.style():
        means = [
            {MAPS[name]: [sample.mean(column) for column in values.T] for name, values in of.items()}
            for of in (findings.deletion, findings.insertion)
        ]
        drawn = {"erasure": (figures.erasure(*means, shares=SHARES), _ERASURE)}
        if alike is not None and unsigned is not None:
            drawn["randomisation"] = (figures.randomisation(alike, unsigned, depths=DEPTHS), _RANDOMISATION)
    return Section(
        key="faithfulness",
        title="Do the heatmaps show what the answers rest on?",
        lead=f"On {len(sample.items)} images of {sample.patients} patients, drawn at random (seed {seed}), the share of the heat in the "
        f"joint region is {words(joint['heatmap'])}; of a map at random it is {words(joint['random'])}. Blurring away what is hottest "
        f"first, the answer keeps a mean probability of {words(deletion['heatmap'])}, in random order {words(deletion['random'])}; "
        f"bringing it back first, {words(insertion['heatmap'])} against {words(insertion['random'])}. "
        + (
            _NOT_RANDOMISED
            if alike is None
            else f"With all weights shuffled, the maps' rank correlation with the true ones is {words(alike[-1])}."
        ),
        alarm=alarm(deletion, insertion, alike),
        figures=drawn,
        tables=(_table(deletion, insertion, joint),),
        data={
            "n": len(sample.items),
            "n_patients": sample.patients,
            "seed": seed,
            "deletion_auc": {name: estimate(values) for name, values in deletion.items()},
            "insertion_auc": {name: estimate(values) for name, values in insertion.items()},
            "heat_in_joint": {name: estimate(values) for name, values in joint.items()},
            "randomisation": [
                {"layers": depth, "rank_correlation": estimate(alike[place]), "unsigned": estimate(unsigned[place])}
                for place, depth in enumerate(DEPTHS)
                if alike is not None and unsigned is not None
            ],
        },
    )


def alarm(deletion: Mapping[str, Floats], insertion: Mapping[str, Floats], alike: Floats | None) -> str:
    """Return what to say where the 95 % intervals (of means (1 + B,)) do not show the heatmap to be better than a random one, or show it
    to outlive what the network knows. Empty where all is well.
    """
    gains = {"blurred away": deletion["random"] - deletion["heatmap"], "brought back": insertion["heatmap"] - insertion["random"]}
    reasons = [
        f"when the image is {how} in the map's order, it is not shown to be better than a random map (gain {words(gain)})"
        for how, gain in gains.items()
        if not exceeds(gain, 0)
    ]
    if alike is not None and exceeds(alike[-1], ALIKE):
        reasons.append(f"the map hardly changes when all weights are shuffled (rank correlation {words(alike[-1])})")
    return f"These heatmaps may mislead: {'; '.join(reasons)}." if reasons else ""


def area(curves: Floats) -> Floats:
    """Return (N,): the area under ``curves`` (N, S) over :data:`SHARES`, which is the mean probability."""
    return np.asarray(np.trapezoid(curves, SHARES, axis=1), dtype=np.float64)


def inside(cam: Pixels, geometry: Geometry) -> float:
    """Return the share of the heat of a class map (h, w) that lies in :data:`JOINT`; of a map without heat, that of an even one."""
    heat = heatmap_from_cam(cam)
    heat = heat if heat.any() else np.ones_like(heat)
    placed = on_box(heat, window=geometry.window((0, 0, 1, 1)), shape=(_GRID, _GRID))
    x0, y0, x1, y1 = (round(edge * _GRID) for edge in JOINT)
    return float(placed[y0:y1, x0:x1].sum() / placed.sum())


def erase(image: Pixels, heat: Pixels) -> tuple[Pixels, Pixels]:
    """Return (S, 1, H, W) each: ``image`` (1, H, W) with :data:`SHARES` of it blurred away, hottest first, and blurred but for those.

    ``heat`` (h, w) is stretched over the image; what is blurred has lost everything finer than an eighth of the side.
    """
    size = image.shape[1]
    coarse = resample(resample(image[0], (0, 0, size, size), size=(_BLUR, _BLUR)), (0, 0, _BLUR, _BLUR), size=(size, size))
    height, width = heat.shape
    order = np.argsort(-resample(heat, (0, 0, width, height), size=(size, size)).ravel(), kind="stable")
    rank = np.empty(size * size)
    rank[order] = np.arange(size * size) / (size * size)
    gone = rank.reshape(size, size) < SHARES[:, None, None]  # (S, H, W)
    deleted, inserted = np.where(gone, coarse, image[0]), np.where(gone, image[0], coarse)
    return deleted[:, None].astype(np.float32), inserted[:, None].astype(np.float32)


def rank_correlation(a: Pixels, b: Pixels) -> float:
    """Return Spearman's correlation of two maps, equal values sharing a rank; 0 where one is even."""
    ranks = np.stack([np.unique(values, return_inverse=True)[1].ravel() for values in (a, b)]).astype(np.float64)
    ranks -= ranks.mean(axis=1, keepdims=True)
    norm = np.sqrt((ranks**2).sum(axis=1).prod())
    return float(ranks.prod(axis=0).sum() / norm) if norm else 0.0


def _look(item: Labelled, bundle: Bundle, session: Session) -> Look | None:
    knees = [knee for radiograph in item.read().radiographs for knee in find_knees(radiograph, mode="whole").knees]
    if len(knees) != 1:
        return None
    image = preprocess(knees[0], bundle.geometry)
    logits, cam = session.run(image[None])
    if cam is None:
        return None
    answer = int(bundle.calibration.apply(logits)[0].argmax())
    return Look(image, answer, cam[0, answer])


def _maps(cam: Pixels, geometry: Geometry, generator: np.random.Generator) -> dict[str, Pixels]:
    """Return the class map (h, w) and its standards, in the order of :data:`MAPS`."""
    height, width = cam.shape
    x0, y0, x1, y1 = geometry.window((0, 0, 1, 1))
    y, x = np.mgrid[0:height, 0:width] + 0.5
    across, down = x0 + (x1 - x0) * x / width - 0.5, y0 + (y1 - y0) * y / height - JOINT_LINE
    spot = np.exp(-(across**2 + down**2) / (2 * _SPREAD**2)).astype(np.float32)
    return {"heatmap": cam, "random": generator.random(cam.shape, dtype=np.float32), "spot": spot}


def _erased(look: Look, heat: Pixels, bundle: Bundle, session: Session) -> Floats:
    """Return (2, S): the probability of the answer as the image is blurred away, and as it is brought back."""
    logits, _ = session.run(np.concatenate(erase(look.image, heat)), cam=False)
    return np.asarray(bundle.calibration.apply(logits)[:, look.answer].reshape(2, -1), dtype=np.float64)


def _alike(looks: Sequence[Look], sample: Sample, bundle: Bundle, *, seed: int) -> Floats:
    """Return (N, D): how the class maps correlate with those of the same grade after randomisation to each depth.

    The weights are shuffled anew for each patient, so that the intervals hold the chance of the shuffle as well.
    """
    from kneexray.evaluation.probes.randomise import randomised

    found = np.zeros((len(looks), len(DEPTHS)))
    for patient in np.unique(sample.patient):
        rows = np.flatnonzero(sample.patient == patient).tolist()
        for place, depth in enumerate(DEPTHS):
            with tempfile.TemporaryDirectory(prefix="kneexray-") as folder:
                session = Session(randomised(bundle, Path(folder), share=depth, seed=(seed, patient))).load()
            _, cams = session.run(np.stack([looks[row].image for row in rows]))
            assert cams is not None
            for row, cam in zip(rows, cams, strict=True):
                found[row, place] = rank_correlation(looks[row].cam, cam[looks[row].answer])
    return found


def _table(deletion: Mapping[str, Floats], insertion: Mapping[str, Floats], joint: Mapping[str, Floats]) -> Table:
    rows = [(title, *(short(estimate(of[name]), digits=3) for of in (deletion, insertion, joint))) for name, title in MAPS.items()]
    for name in ("random", "spot"):
        gains = (deletion[name] - deletion["heatmap"], insertion["heatmap"] - insertion[name], joint["heatmap"] - joint[name])
        cells = (short(estimate(gain), digits=3, sign="+") for gain in gains)
        rows.append((f"Heatmap better than the {MAPS[name].lower()} by", *cells))
    columns = ("Map", "Deletion AUC", "Insertion AUC", "Heat in the joint region")
    caption = (
        "Means over the images. Deletion is better low, insertion high. The joint region is 87% of the box's width and 30% of its height."
    )
    return Table(caption, columns, tuple(rows))


_NOT_RANDOMISED = "Model randomisation was not tested: it needs the package 'onnx' (the 'train' extra)."
_ERASURE = (
    "Mean probability of the answer as the image is blurred away, or brought back, in the order that each map calls important. A heatmap "
    "that shows what matters falls faster on the left and rises faster on the right than a random one. Bands are 95 % intervals."
)
_RANDOMISATION = (
    "Rank correlation of the class map with itself as weights are shuffled, for each patient anew, from the last layer on. It should fall "
    "to about 0. Where only its sign gets lost, the map shows the same structure, bright or dark by chance."
)
