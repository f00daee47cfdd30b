"""How long does a recipe train until the validation split is graded well enough?

    python benchmarks/train_to.py RECIPE --data FOLDER [--accuracy 0.65] [--set key=value]...

Trains in a temporary folder and stops after the first epoch whose validation accuracy reaches the mark. Prints the accuracy after each
epoch with the seconds since the start, the decoding of the data and the validations included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import lightning as L
from machine import describe
from studies import quiet

from kneexray.datasets import manifest as manifests
from kneexray.train.recipe import config as configs
from kneexray.train.run import train


class StopAt(L.Callback):
    """Prints the time and the validation accuracy after every epoch; stops at ``accuracy``."""

    def __init__(self, accuracy: float) -> None:
        self.accuracy = accuracy
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Runs after the epoch's validation."""
        reached = float(trainer.callback_metrics["val_accuracy"])
        print(f"| {trainer.current_epoch + 1} | {time.perf_counter() - self.began:.0f} | {reached:.3f} |", flush=True)
        trainer.should_stop = reached >= self.accuracy


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--accuracy", type=float, default=0.65)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    quiet()
    config = configs.load(options.recipe, overrides=options.set)
    print(f"{describe('torch', 'timm')}\n\n| epoch | seconds | validation accuracy |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        manifest = manifests.load(options.data, task=config.task)
        train(config, manifest, Path(folder) / "run", command=sys.argv, callbacks=[StopAt(options.accuracy)])


if __name__ == "__main__":
    main()
