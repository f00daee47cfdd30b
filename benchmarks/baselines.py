"""How far do the baselines get on KL grades beside our own recipe, all on one short schedule?

    python benchmarks/baselines.py [NAME...] [--data ../shared/data/chen2018] [--out runs/baselines] [--set key=value]...

One epoch over the training split at 126 px in bfloat16, from the file in weights/ or, where a backbone has none there, from random weights.
Each network is judged after that epoch on the validation split, averaged over the image and its mirror image. Stopped and started again,
it goes on where it was. Prints the rows of docs/studies.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from machine import describe
from studies import figures, judged, quiet

from kneexray.datasets import manifest as manifests

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
    quiet()
    print(describe("torch", "timm"))
    print("| recipe | starts from | knees | patients | accuracy | QWK | MAE |\n|---|---|---|---|---|---|---|", flush=True)
    for name in options.names or BASELINES:
        print(measured(name, options.data, options.out, overrides=options.set), flush=True)


def measured(name: str, data: Path, out: Path, *, overrides: Sequence[str]) -> str:
    """Train and judge a baseline, or read what came of it before; return its row."""
    recipe, changes = BASELINES[name]
    evaluation = judged(
        recipe, out / name, lambda config: [manifests.load(data, task=config.task)], overrides=[*SHORT, *changes, *overrides]
    )
    start = json.loads((out / name / "fold-0" / "manifest.json").read_text())["outputs"]["starting_point"]["weights"]
    return f"| `{name}` | {start} | {evaluation['n']} | {evaluation['n_patients']} | {figures(evaluation, 'accuracy', 'qwk', 'mae')} |"


if __name__ == "__main__":
    main()
