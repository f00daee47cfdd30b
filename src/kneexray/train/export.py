"""A run folder -> a model bundle: one ONNX file that gives ``logits`` and, where the network has one, ``cam``; and its card."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors.torch import load_file

from kneexray import provenance
from kneexray.bundle import CARD, GOLDEN, NETWORK, Bundle, Card, DataCard, InputCard, MemberCard, open_bundle, sha256_of
from kneexray.calibrate import Calibration, fit_calibration
from kneexray.datasets import manifest as manifests
from kneexray.datasets.catalogue import CATALOGUE
from kneexray.datasets.manifest import Example, Manifest
from kneexray.errors import ConfigError, choices
from kneexray.evaluate import EvaluationInput, evaluate
from kneexray.evaluation import crossfit
from kneexray.metrics import HEADLINE
from kneexray.model_card import PAGE, markdown
from kneexray.preprocess import resample
from kneexray.session import Session
from kneexray.tasks import TASKS, Task
from kneexray.train import data, models
from kneexray.train.compact import halve
from kneexray.train.config import Config
from kneexray.train.graph import Exported as Exported
from kneexray.train.graph import check_parity, write_onnx
from kneexray.train.run import DATA, IDENTITY, RECORD, load_config
from kneexray.train.start import TRAINED

logger = logging.getLogger(__name__)

GOLDEN_IMAGES = 4
INTENDED_USE = (
    "Research on knee radiographs: frontal (AP or PA, standing) views of adults, cropped to one knee. "
    "Not a medical device; not for diagnosis or for decisions about any patient."
)


LIMITATIONS = (
    "Grades carry the reader noise of the training labels; grade 1 (doubtful) is the hardest for readers and model alike.",
    "Not tested on children, lateral or skyline views, implants, fractures or other joint disease.",
    "A film unlike the training data (other devices, exposures, populations) may be graded worse than the scores say.",
)
SCORES_ON = (
    "the run's validation split, which also chose the epoch and fitted temperature and prediction sets: "
    "accuracy on new patients may be slightly lower, and ECE, Brier and NLL are in-sample"
)


def export(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    command: Sequence[str],
    task: str | None = None,
    mirrored: bool = True,
    weights: Literal["float32", "float16"] = "float32",
) -> Card:
    """Write the bundle of one or several run folders into ``out``; return its card. Several make an ensemble.

    A bundle answers one task: of runs that learned several, ``task`` names it (None: the first). ``weights`` is how the file stores
    them: float16 halves it. Calibration is fitted, and the card's scores are measured, on the
    validation split with the network as it is stored. Raises :class:`ConfigError` where a run is not there or finished, or where
    several do not share task, data and geometry, and :class:`BundleError` where ONNX and torch differ.
    """
    folders, out = [Path(run) for run in runs], Path(out)
    configs = _consistent(folders)
    config = max(configs, key=lambda c: c.input.size)
    members = [(load_net(run, c, task=task), c.input.size) for run, c in zip(folders, configs, strict=True)]
    manifest = _manifest(folders[0], task or config.task)
    net = Exported(members, mirrored=mirrored).eval()
    out.mkdir(parents=True, exist_ok=True)
    write_onnx(net, out / NETWORK, size=config.input.size, outputs=net.outputs)
    judged = manifest.split("val")
    images = data.cached(manifest, judged, config.input.geometry, dtype="float32", folder=folders[0] / "cache")
    bundle = _describe(folders, config, manifest, net, out, command=command)
    check_parity(bundle, net, np.ascontiguousarray(images[:GOLDEN_IMAGES]))
    if weights == "float16":
        bundle.network.write_bytes(halve(onnx.load(bundle.network)).SerializeToString())
        bundle = _describe(folders, config, manifest, net, out, command=command)
    card = bundle.card
    logits = _logits(bundle, images)
    calibration = _calibrate(manifest.task, logits, manifest.labels(judged), judged)
    update = {"calibration": calibration.to_dict(), "scores": _scores(manifest, judged, logits, calibration, card.model_id)}
    card = card.model_copy(update={**update, "scores_on": SCORES_ON})
    _write_card(card, out)
    (out / PAGE).write_text(markdown(card), encoding="utf-8")
    _write_golden(bundle)
    return card


def _describe(folders: Sequence[Path], config: Config, manifest: Manifest, net: Exported, out: Path, *, command: Sequence[str]) -> Bundle:
    """Write the card of the network that lies in ``out``, calibration and scores still to come; return the bundle."""
    _write_card(_card(folders, config, manifest, net, sha256=sha256_of(out / NETWORK), command=command), out)
    return open_bundle(out)


def _consistent(folders: Sequence[Path]) -> list[Config]:
    """Return the recipes of ``folders``; raise :class:`ConfigError` where they cannot be members of one model."""
    configs = [load_config(folder) for folder in folders]
    facts = [
        (config.tasks, config.input.zoom, config.input.shift_y, json.loads((folder / IDENTITY).read_text(encoding="utf-8"))["digest"])
        for folder, config in zip(folders, configs, strict=True)
    ]
    for folder, fact in zip(folders, facts, strict=True):
        if fact != facts[0]:
            raise ConfigError(
                f"{folder}: cannot join {folders[0]} in one model: task, data, input.zoom and input.shift_y must be the same."
            )
    return configs


def load_net(run: Path, config: Config, *, task: str | None = None) -> models.GradingNet:
    """Return the network of a run folder with the chosen epoch's averaged weights, ready to infer ``task`` (None: the first).

    Raises :class:`ConfigError` for a run that is not finished, or that did not learn ``task``.
    """
    path = run / TRAINED
    if not path.is_file():
        raise ConfigError(f"{run}: holds no {TRAINED}; the training has not finished. Go on with 'kneexray train ... --resume'.")
    if task is not None and task not in config.tasks:
        raise ConfigError(f"{run}: {choices('task of this run', task, config.tasks)}")
    net = models.for_recipe(config)
    net.load_state_dict(load_file(path))
    return net.answering(config.tasks.index(task) if task else 0).eval()


def _manifest(run: Path, task: str) -> Manifest:
    path = run / DATA
    if not path.is_file():
        raise ConfigError(f"{run}: {DATA} is missing; calibration and scores need the run's validation split.")
    return manifests.load(path, task=task)


def _logits(bundle: Bundle, images: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    session = Session(bundle)
    return np.concatenate([session.run(np.ascontiguousarray(images[i : i + 16]), cam=False)[0] for i in range(0, len(images), 16)])


def _calibrate(task: Task, logits: NDArray[np.float32], target: Sequence[int], examples: Sequence[Example]) -> Calibration:
    derived = {t.name: t.derived[1] for t in TASKS.values() if t.derived is not None and t.derived[0] == task.name}
    groups = [e.patient_id or e.path for e in examples]
    return fit_calibration(logits, target, task=task.name, ordinal=task.ordinal, groups=groups, derived=derived)


def _write_card(card: Card, out: Path) -> None:
    (out / CARD).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _card(folders: Sequence[Path], config: Config, manifest: Manifest, net: Exported, *, sha256: str, command: Sequence[str]) -> Card:
    """Return the card before calibration: what is known from the runs alone."""
    fitted = manifest.split("train")
    title, licence = _source(fitted)
    members = tuple(_member(json.loads((folder / RECORD).read_text(encoding="utf-8"))) for folder in folders)
    name = members[0].recipe["model"]["backbone"].replace("_", "-") if len(members) == 1 else f"ensemble{len(members)}"
    return Card(
        model_id=f"{manifest.task.name}-{name}-{config.input.size}-{sha256[:8]}",
        task=manifest.task.name,
        labels=manifest.task.labels,
        licence="Apache-2.0",
        sha256=sha256,
        input=InputCard(size=config.input.size, zoom=config.input.zoom, shift_y=config.input.shift_y),
        mirrored_averaging=net.mirrored,
        class_map=net.has_cam,
        parameters=sum(p.numel() for p in net.parameters()),
        calibration=Calibration(ordinal=manifest.task.ordinal).to_dict(),
        command=provenance.command_line(command, home=str(Path.home())),
        data=DataCard(
            title=title,
            licence=licence,
            sha256=manifest.digest(),
            images=len(fitted),
            patients=len({e.patient_id for e in fitted if e.patient_id}),
            split_quality=manifest.split_quality,
        ),
        members=members,
        scores_on="",
        scores={},
        intended_use=INTENDED_USE,
        limitations=LIMITATIONS,
    )


def _member(record: dict[str, Any]) -> MemberCard:
    start = record["outputs"]["starting_point"]
    return MemberCard(
        command=record["command"],
        recipe=record["config"],
        starting_point=start["weights"],
        starting_point_licence=start["licence"],
        best_epoch=record["outputs"]["best"]["epoch"],
        environment=record["environment"],
    )


def _source(examples: Sequence[Example]) -> tuple[str, str]:
    """Return title and licence of the data, where all examples come from one data set of the catalogue."""
    names = {e.source for e in examples}
    if len(names) == 1 and (card := CATALOGUE.get(*names)) is not None:
        return card.title, card.licence
    return ", ".join(sorted(n for n in names if n)) or "unnamed", "unknown"


def _scores(
    manifest: Manifest, examples: Sequence[Example], logits: NDArray[np.float32], calibration: Calibration, model_id: str
) -> dict[str, Any]:
    """Return what a card holds of ``evaluate`` on ``examples``: the main row, OA, and what calibration and sets are worth."""
    answers = EvaluationInput(
        task=manifest.task.name,
        model_id=model_id,
        split_quality=manifest.split_quality,
        file=[e.path for e in examples],
        target=np.asarray(manifest.labels(examples)),
        probabilities=calibration.apply(logits),
        patient_id=[e.patient_id for e in examples],
        side=[e.side for e in examples],
        split=[e.split for e in examples],
        source=[e.source for e in examples],
        logits=logits.astype(np.float64),
    )
    measured = evaluate(answers)
    return {name: measured[name] for name in ("n", "n_patients", *HEADLINE, "oa")} | {"cross_fitted": crossfit.summary(measured)}


def _write_golden(bundle: Bundle) -> None:
    """Keep inputs and outputs in the bundle, to check any engine against. The inputs are smooth noise, no patient's image."""
    size = bundle.card.input.size
    coarse = np.random.default_rng(0).random((GOLDEN_IMAGES, 12, 12), dtype=np.float32)
    images = np.stack([resample(c, (0, 0, 12, 12), size=(size, size)) for c in coarse])[:, None]
    golden = np.round(images * 255).astype(np.uint8)
    logits, cam = Session(bundle).run(golden.astype(np.float32) / np.float32(255))
    arrays: dict[str, Any] = {"image": golden, "logits": logits} | ({} if cam is None else {"cam": cam})
    np.savez_compressed(bundle.folder / GOLDEN, **arrays)
