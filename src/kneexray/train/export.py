"""A run folder -> a model bundle: one ONNX file whose outputs are ``logits`` and ``cam``, and the card that describes it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from kneexray import __version__, provenance
from kneexray.bundle import CARD, GOLDEN, NETWORK, Bundle, Card, DataCard, InputCard, MemberCard, open_bundle, sha256_of
from kneexray.calibrate import Calibration, fit_calibration
from kneexray.datasets import manifest as manifests
from kneexray.datasets.catalogue import CATALOGUE
from kneexray.datasets.manifest import Example, Manifest
from kneexray.errors import BundleError, ConfigError
from kneexray.evaluate import EvaluationInput, evaluate
from kneexray.metrics import HEADLINE
from kneexray.model_card import PAGE, markdown
from kneexray.preprocess import Geometry, resample
from kneexray.session import Session
from kneexray.tasks import TASKS, Task
from kneexray.train import data, models
from kneexray.train.config import Config
from kneexray.train.run import DATA, IDENTITY, RECORD, WEIGHTS, load_config

logger = logging.getLogger(__name__)

PARITY = 1e-4
"""The largest difference between ONNX and torch that an export may have, in logits and class maps alike."""
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


class Exported(nn.Module):
    """What a bundle computes: the mean logits and class maps of its members, of the image and its mirror image where asked.

    The mean of class maps is the class map of the mean logits, so that the heatmap still explains the answer. A member trained
    at a smaller size sees the image at that size; its map is stretched to the first member's.
    """

    def __init__(self, members: Sequence[tuple[models.GradingNet, int]], *, mirrored: bool) -> None:
        super().__init__()
        self.nets = nn.ModuleList(net for net, _ in members)
        self.sizes = [size for _, size in members]
        self.mirrored = mirrored

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, H, W) float32 in [0, 1] -> logits (N, K), class maps (N, K, h, w)."""
        seen = torch.cat([image, image.flip(3)]) if self.mirrored else image
        nets = cast("list[models.GradingNet]", list(self.nets))
        answers = [net.with_cam(_at(seen, (size, size))) for net, size in zip(nets, self.sizes, strict=True)]
        map_size = answers[0][1].shape[2:]
        logits = torch.stack([logits for logits, _ in answers]).mean(dim=0)
        cam = torch.stack([_at(cam, (int(map_size[0]), int(map_size[1]))) for _, cam in answers]).mean(dim=0)
        if not self.mirrored:
            return logits, cam
        as_is, mirrored = cam.unflatten(0, (2, -1)).unbind(0)
        return logits.unflatten(0, (2, -1)).mean(dim=0), (as_is + mirrored.flip(3)) / 2


def _at(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[2:] == size:
        return images
    return nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def export(runs: Sequence[str | Path], out: str | Path, *, command: Sequence[str], mirrored: bool = True) -> Card:
    """Write the bundle of one or several run folders into ``out``; return its card. Several make an ensemble.

    Calibration is fitted, and the card's scores are measured, on the validation split with the exported network. Raises
    :class:`ConfigError` where a run is not there or finished, or where several do not share task, data and geometry, and
    :class:`BundleError` where ONNX and torch differ.
    """
    folders, out = [Path(run) for run in runs], Path(out)
    configs = _consistent(folders)
    config = max(configs, key=lambda c: c.input.size)
    manifest = _manifest(folders[0], config)
    net = Exported([(load_net(run, c), c.input.size) for run, c in zip(folders, configs, strict=True)], mirrored=mirrored).eval()
    out.mkdir(parents=True, exist_ok=True)
    write_onnx(net, out / NETWORK, size=config.input.size)
    judged = manifest.split("val")
    geometry = Geometry(size=config.input.size, zoom=config.input.zoom, shift_y=config.input.shift_y)
    images = data.cached(manifest, judged, geometry, dtype="float32", folder=folders[0] / "cache")
    card = _card(folders, config, manifest, net, sha256=sha256_of(out / NETWORK), command=command)
    _write_card(card, out)
    bundle = open_bundle(out)
    logits = _logits(bundle, images)
    calibration = _calibrate(manifest.task, logits, manifest.labels(judged), judged)
    update = {"calibration": calibration.to_dict(), "scores": _scores(manifest, judged, calibration.apply(logits), card.model_id)}
    card = card.model_copy(update={**update, "scores_on": SCORES_ON})
    _write_card(card, out)
    (out / PAGE).write_text(markdown(card), encoding="utf-8")
    _check_parity(bundle, net, np.ascontiguousarray(images[:GOLDEN_IMAGES]))
    _write_golden(bundle)
    return card


def _consistent(folders: Sequence[Path]) -> list[Config]:
    """Return the recipes of ``folders``; raise :class:`ConfigError` where they cannot be members of one model."""
    configs = [load_config(folder) for folder in folders]
    facts = [
        (config.task, config.input.zoom, config.input.shift_y, json.loads((folder / IDENTITY).read_text(encoding="utf-8"))["digest"])
        for folder, config in zip(folders, configs, strict=True)
    ]
    for folder, fact in zip(folders, facts, strict=True):
        if fact != facts[0]:
            raise ConfigError(
                f"{folder}: cannot join {folders[0]} in one model: task, data, input.zoom and input.shift_y must be the same."
            )
    return configs


def load_net(run: Path, config: Config) -> models.GradingNet:
    """Return the network of a run folder with the chosen epoch's averaged weights, ready to infer."""
    path = run / WEIGHTS
    if not path.is_file():
        raise ConfigError(f"{run}: holds no {WEIGHTS}; the training has not finished. Go on with 'kneexray train ... --resume'.")
    net = models.build(config.model, classes=len(TASKS[config.task].labels), size=config.input.size)
    net.load_state_dict(load_file(path))
    return net.eval()


def write_onnx(net: Exported, path: Path, *, size: int) -> None:
    """Export ``net`` with a free batch size, checked by onnx, weights inside the file."""
    example = torch.rand(3, 1, size, size)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        raw = Path(folder) / NETWORK
        torch.onnx.export(
            net,
            (example,),
            raw,
            input_names=["image"],
            output_names=["logits", "cam"],
            dynamic_shapes={"image": {0: torch.export.Dim.DYNAMIC}},
            external_data=False,
            dynamo=True,
        )
        model = onnx.load(raw)
    del model.metadata_props[:]
    for node in model.graph.node:  # the exporter notes where each node came from: paths of the machine it ran on
        del node.metadata_props[:]
        node.doc_string = ""
    model.producer_name, model.producer_version = "kneexray", __version__
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _manifest(run: Path, config: Config) -> Manifest:
    path = run / DATA
    if not path.is_file():
        raise ConfigError(f"{run}: {DATA} is missing; calibration and scores need the run's validation split.")
    return manifests.load(path, task=config.task)


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


def _scores(manifest: Manifest, examples: Sequence[Example], probabilities: NDArray[np.float64], model_id: str) -> dict[str, Any]:
    """Return the main row of ``evaluate`` on ``examples``: value and 95 % interval of each metric."""
    answers = EvaluationInput(
        task=manifest.task.name,
        model_id=model_id,
        split_quality=manifest.split_quality,
        file=[e.path for e in examples],
        target=np.asarray(manifest.labels(examples)),
        probabilities=probabilities,
        patient_id=[e.patient_id for e in examples],
        side=[e.side for e in examples],
        split=[e.split for e in examples],
        source=[e.source for e in examples],
    )
    measured = evaluate(answers)
    return {name: measured[name] for name in ("n", "n_patients", *HEADLINE, "oa")}


def _check_parity(bundle: Bundle, net: Exported, images: NDArray[np.float32]) -> None:
    """Raise :class:`BundleError` where torch and ONNX differ by more than :data:`PARITY` on real ``images``."""
    logits, cam = Session(bundle).run(images)
    assert cam is not None
    with torch.inference_mode():
        torch_logits, torch_cam = (t.numpy() for t in net(torch.from_numpy(images.copy())))
    worst = max(float(np.abs(logits - torch_logits).max()), float(np.abs(cam - torch_cam).max()))
    if worst > PARITY:
        raise BundleError(f"{bundle.folder}: ONNX and torch differ by {worst:.2g}, more than {PARITY:g}: the export cannot be trusted.")
    logger.info("ONNX and torch agree to %.2g", worst)


def _write_golden(bundle: Bundle) -> None:
    """Keep inputs and outputs in the bundle, to check any engine against. The inputs are smooth noise, no patient's image."""
    size = bundle.card.input.size
    coarse = np.random.default_rng(0).random((GOLDEN_IMAGES, 12, 12), dtype=np.float32)
    images = np.stack([resample(c, (0, 0, 12, 12), size=(size, size)) for c in coarse])[:, None]
    golden = np.round(images * 255).astype(np.uint8)
    logits, cam = Session(bundle).run(golden.astype(np.float32) / np.float32(255))
    assert cam is not None
    np.savez_compressed(bundle.folder / GOLDEN, image=golden, logits=logits, cam=cam)
