"""What do published ways of splitting data do to the figures? Every study's recipe, in its own way and in the honest one.

    python benchmarks/studies.py [NAME...] [--data ../shared/data] [--out runs/studies] [--set key=value]...

A study's own way is a split by image of the data as they come, copies and all. The honest way drops conflicting copies, keeps other copies
once, and splits by patient, or by film where patients are unknown. Recipe, schedule and number of folds are the same. Each image is judged
by a network that did not learn from it, at the last epoch. Stopped and started again, it goes on where it was. Prints the rows of
docs/studies.md, and keeps each result as OUT/NAME/WAY/metrics.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from machine import describe

from kneexray.cli.app import run
from kneexray.datasets import manifest as manifests
from kneexray.datasets.manifest import Manifest
from kneexray.datasets.split import Unit, folds
from kneexray.evaluation.evaluate import evaluate
from kneexray.tasks import TASKS
from kneexray.train.crossval import cross_validate
from kneexray.train.recipe import config as configs
from kneexray.train.recipe.config import Config

RECIPES = Path(__file__).resolve().parent.parent / "recipes" / "studies"


@dataclass(frozen=True)
class Way:
    """One way to treat a study's data: ``data(shared, work)`` makes the manifest."""

    name: str
    data: Callable[[Path, Path], Manifest]
    by: Unit


@dataclass(frozen=True)
class Study:
    """``run`` of ``folds`` folds are trained and judged; ``short`` are changes of the recipe that make it bearable on a CPU."""

    ways: tuple[Way, ...]
    folds: int
    run: int
    short: tuple[str, ...] = ()


def wani(shared: Path, work: Path) -> Manifest:
    """Return all films as published."""
    return manifests.load(shared / "wani", task="osteoporosis")


def wani_cleaned(shared: Path, work: Path) -> Manifest:
    """Return the films without conflicts, copies kept once."""
    return _cleaned(shared / "wani", work / "wani", task="osteoporosis")


def wani_knees(shared: Path, work: Path) -> Manifest:
    """Return the knees of the cleaned films, cropped by the annotator's boxes or the localiser."""
    wani_cleaned(shared, work)
    out = work / "wani-knees"
    if not (out / manifests.NAME).exists():
        boxes = str(shared / "wani" / "boxes.csv")
        _kneexray("data", "crop", str(work / "wani" / "cleaned.csv"), "--boxes", boxes, "--source", "wani2021", "--out", str(out))
    return manifests.load(out / manifests.NAME, task="osteoporosis")


def gornale(shared: Path, work: Path) -> Manifest:
    """Return one expert's images as published."""
    return manifests.load(shared / "gornale" / "MedicalExpert-I", task="kl")


def gornale_cleaned(shared: Path, work: Path) -> Manifest:
    """Return them without conflicts, copies kept once."""
    return _cleaned(shared / "gornale" / "MedicalExpert-I", work / "gornale", task="kl")


def chen(shared: Path, work: Path) -> Manifest:
    """Return the published training and validation knees of Chen 2018 together."""
    return manifests.load(shared / "chen2018", task="kl")


def chen_oa(shared: Path, work: Path) -> Manifest:
    """Return grade 0 as normal and grades 2 to 4 as osteoarthritis; grade 1 is neither."""
    graded = chen(shared, work)
    examples = tuple(replace(e, task="oa", label="no" if e.label == "0" else "yes") for e in graded.examples if e.label != "1")
    return replace(graded, task=TASKS["oa"], examples=examples)


FILMS = (Way("study", wani, "image"), Way("honest", wani_cleaned, "patient"), Way("honest, cropped", wani_knees, "patient"))
KNEES = (Way("study", chen, "image"), Way("honest", chen, "patient"))
STUDIES = {
    "kl-cnn-cartilage": Study((Way("study", gornale, "image"), Way("honest", gornale_cleaned, "patient")), folds=5, run=5),
    "osteoporosis-cnn": Study(FILMS, folds=10, run=10),
    "oa-inceptionv3": Study((Way("study", chen_oa, "image"), Way("honest", chen_oa, "patient")), folds=5, run=1),
    "osteoporosis-resnet50-a": Study(FILMS, folds=5, run=5),
    "osteoporosis-resnet50-b": Study(FILMS, folds=5, run=5, short=("optim.epochs=4",)),
    "kl-densenet121-attention": Study(
        KNEES,
        folds=5,
        run=1,
        short=("model.weights=none", "input.size=112", "imbalance.sampling=under", "optim.lr=1e-3", "optim.precision=bf16"),
    ),
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    quiet()
    print(describe("torch", "timm"))
    print("| study | way | images | units | accuracy | balanced accuracy | macro AUC |\n|---|---|---|---|---|---|---|", flush=True)
    for name in options.names or STUDIES:
        for way in STUDIES[name].ways:
            print(measured(name, way, options.data, options.out, overrides=options.set), flush=True)


def measured(name: str, way: Way, shared: Path, out: Path, *, overrides: Sequence[str]) -> str:
    """Train and judge a study in one way, or read what came of it before; return its row."""
    study = STUDIES[name]

    def splits(config: Config) -> list[Manifest]:
        return folds(way.data(shared, out / "data"), k=study.folds, seed=config.seed, by=way.by)[: study.run]

    folder = out / name / way.name.replace(", ", "-")
    evaluation = judged(RECIPES / f"{name}.toml", folder, splits, overrides=[*study.short, *overrides])
    units = f"{evaluation['n_patients']} {evaluation['bootstrap']['unit']}s"
    return f"| `{name}` | {way.name} | {evaluation['n']} | {units} | {figures(evaluation, 'accuracy', 'balanced_accuracy', 'macro_auc')} |"


def judged(recipe: Path, folder: Path, splits: Callable[[Config], Sequence[Manifest]], *, overrides: Sequence[str]) -> dict[str, Any]:
    """Train ``recipe`` on its ``splits`` in ``folder``, judge each on its own, and keep what came of it; or read what came before."""
    result = folder / "metrics.json"
    if not result.exists():
        config = configs.load(recipe, overrides=overrides)
        evaluation = evaluate(cross_validate(config, splits(config), folder, command=sys.argv, resume=True))
        result.write_text(json.dumps(evaluation, indent=2))
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def figures(evaluation: dict[str, Any], *keys: str) -> str:
    """Return cells of a table: each figure with its interval."""
    return " | ".join(f"{v['value']:.3f} ({v['low']:.3f} to {v['high']:.3f})" for v in (evaluation[key] for key in keys))


def quiet() -> None:
    """Keep Lightning's advice to developers off the table."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")


def _cleaned(folder: Path, out: Path, *, task: str) -> Manifest:
    if not (out / "cleaned.csv").exists():
        _kneexray("data", "audit", str(folder), "--out", str(out), "--fix", "--task", task)
    return manifests.load(out / "cleaned.csv", task=task)


def _kneexray(*arguments: str) -> None:
    if run(arguments) != 0:
        raise SystemExit(f"kneexray {' '.join(arguments)} failed")


if __name__ == "__main__":
    main()
