"""How far do the baselines get on KL grades beside our own recipe, all on one short schedule?

    python benchmarks/baselines.py [NAME...] [--data ../shared/data/chen2018] [--out runs/baselines] [--set key=value]...

One epoch over the training split at 126 px in bfloat16, from the file in weights/ or, where a backbone has none there, from random weights.
Each network is judged after that epoch on the validation split, averaged over the image and its mirror image. Stopped and started again,
it goes on where it was. Prints the rows of docs/studies.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from machine import describe

from kneexray.datasets import manifest as manifests
from kneexray.evaluate import evaluate
from kneexray.train import config as configs
from kneexray.train.crossval import cross_validate

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
BASELINES = {
    "kl": (RECIPES / "kl.toml", ()),
    "resnet50": (RECIPES / "baselines" / "resnet50.toml", ()),
    "efficientnet": (RECIPES / "baselines" / "efficientnet.toml", ()),
    "dinov2": (RECIPES / "baselines" / "dinov2.toml", ()),
    "convnext": (RECIPES / "baselines" / "convnext.toml", ("model.weights=none",)),
    "vgg16": (RECIPES / "baselines" / "vgg16.toml", ("model.weights=none",)),
}
SHORT = (
    "input.size=126",
    "input.progressive=[]",
    "optim.epochs=1",
    "optim.warmup_epochs=0.1",
    "optim.average=0.98",
    "select.monitor=last",
    "optim.precision=bf16",
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BASELINES))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/chen2018"))
    parser.add_argument("--out", type=Path, default=Path("runs/baselines"))
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
    print(describe("torch", "timm"))
    print("| recipe | starts from | knees | patients | accuracy | QWK | MAE |\n|---|---|---|---|---|---|---|", flush=True)
    for name in options.names or BASELINES:
        print(measured(name, options.data, options.out, overrides=options.set), flush=True)


def measured(name: str, data: Path, out: Path, *, overrides: Sequence[str]) -> str:
    """Train and judge a baseline, or read what came of it before; return its row."""
    result = out / name / "metrics.json"
    recipe, changes = BASELINES[name]
    config = configs.load(recipe, overrides=[*SHORT, *changes, *overrides])
    if not result.exists():
        result.parent.mkdir(parents=True, exist_ok=True)
        published = manifests.load(data, task=config.task)
        judged = cross_validate(config, [published], result.parent, command=sys.argv, resume=True)
        result.write_text(json.dumps(evaluate(judged), indent=2))
    evaluation = json.loads(result.read_text())
    start = json.loads((out / name / "fold-0" / "manifest.json").read_text())["outputs"]["starting_point"]
    figures = (f"{v['value']:.3f} ({v['low']:.3f} to {v['high']:.3f})" for v in (evaluation[key] for key in ("accuracy", "qwk", "mae")))
    return f"| `{name}` | {start['weights']} | {evaluation['n']} | {evaluation['n_patients']} | {' | '.join(figures)} |"


if __name__ == "__main__":
    main()
