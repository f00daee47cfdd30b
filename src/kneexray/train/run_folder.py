"""What a run's folder holds: recipe, data, checkpoints, metrics, weights, record; and whether a run may go on in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from kneexray.datasets import manifest as manifests
from kneexray.datasets.manifest import Manifest
from kneexray.errors import ConfigError
from kneexray.train.recipe.config import Config, validate

CONFIG, DATA, IDENTITY = "config.json", "data.csv", "data.json"
METRICS, RECORD, CHECKPOINTS, CACHE = "metrics.jsonl", "manifest.json", "checkpoints", "cache"


def load_config(run: str | Path) -> Config:
    """Return the resolved recipe of a run folder."""
    path = Path(run) / CONFIG
    if not path.is_file():
        raise ConfigError(f"{run}: is no run folder ({CONFIG} is missing). Give the --out of a 'kneexray train'.")
    return validate(json.loads(path.read_text(encoding="utf-8")), where=str(path))


def mode(config: Config) -> str:
    """Return whether the recipe's monitor is to be small or large: ``min`` or ``max``."""
    return "min" if config.select.monitor in {"val_nll", "val_mae"} else "max"


def begin(folder: Path, config: Config, manifest: Manifest, identity: dict[str, Any], *, resume: bool) -> None:
    """Write what a run knows at its start; where ``resume`` and a run began here, check that it is the same one.

    Raises :class:`ConfigError` where it is not, and where a run is here that is not to be resumed.
    """
    began = checkpoint(folder)
    if resume and began:
        before = load_config(folder)
        if before != config:
            old, new = before.model_dump(), config.model_dump()
            changed = [f"{k}.{s}" for k in old if isinstance(old[k], dict) for s in old[k] if old[k][s] != new[k][s]]
            changed += [k for k in old if not isinstance(old[k], dict) and old[k] != new[k]]
            raise ConfigError(
                f"{folder}: cannot resume, the recipe differs in {', '.join(changed)}. "
                f"Resume with the same recipe, or train into another folder."
            )
        known = {"teachers": {}} | json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
        for what, key in (("data", "digest"), ("teachers", "teachers")):
            if known[key] != identity[key]:
                raise ConfigError(
                    f"{folder}: cannot resume, the {what} differ from those that the run began with. Train into another folder."
                )
        return
    if began:
        raise ConfigError(f"{folder}: already holds a run. Go on with --resume, or choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(config.model_dump_json(indent=2), encoding="utf-8")
    (folder / IDENTITY).write_text(json.dumps(identity), encoding="utf-8")
    manifests.write(manifest, folder / DATA)
    (folder / METRICS).unlink(missing_ok=True)


def cache(folder: Path) -> Path:
    """Return where a run keeps decoded images: with the other runs of a search or cross-validation, where it is one of several."""
    shared = folder.parent / CACHE
    return shared if shared.is_dir() else folder / CACHE


def checkpoint(folder: Path) -> Path | None:
    """Return where a run stopped, None where it has not come so far."""
    path = folder / CHECKPOINTS / "last.ckpt"
    return path if path.exists() else None


def read_record(folder: Path) -> dict[str, Any]:
    """Return the manifest of a finished run."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


def write_weights(checkpoint: Path, path: Path) -> None:
    """Keep the network's weights of a checkpoint as safetensors."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    partial = path.with_suffix(f".{os.getpid()}")
    save_file({k.removeprefix("net."): v.contiguous() for k, v in state.items() if k.startswith("net.")}, partial)
    partial.replace(path)
