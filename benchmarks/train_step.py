"""What does real data cost on top of the training step itself?

    python benchmarks/train_step.py RECIPE --data FOLDER [--steps 40] [--set key=value]

Times the same optimiser step of a recipe's network twice, turn by turn: on batches from the cache on disk, augmented, as training
does; and on one batch that is already there. Prints the median of each and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from machine import describe

from kneexray.datasets import manifest as manifests
from kneexray.train import data, labels
from kneexray.train.data import Batch
from kneexray.train.imbalance import EpochShuffle
from kneexray.train.module import GradingModule, augmented
from kneexray.train.recipe import config as configs


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    config = configs.load(options.recipe, overrides=options.set)
    manifest = manifests.load(options.data, task=config.task)
    fit = labels.collect([manifest], "train")
    module = GradingModule(config, counts=fit.counts([len(manifest.task.labels)]), steps_per_epoch=1000).train()
    optimizer = torch.optim.AdamW(module.parameter_groups(), lr=config.optim.lr, fused=True)
    print(describe("torch", "timm"))
    with tempfile.TemporaryDirectory() as folder:
        cache = data.cached(manifest, fit.examples, data.whole_box(config.input.geometry), dtype="float16", folder=Path(folder))
        loader = data.loader(
            data.Knees(cache, fit.labels), batch_size=config.optim.batch_size, sampler=EpochShuffle(fit.strata(), seed=0), drop_last=True
        )
        batches, size = iter(loader), config.input.size
        ready = torch.rand(config.optim.batch_size, 1, size, size)
        real, bare = [], []
        for step in range(options.steps + 3):
            began = time.perf_counter()
            batch = next(batches)
            images = augmented(batch, config, size=size, generator=torch.Generator().manual_seed(step))
            _step(module, optimizer, images, batch)
            middle = time.perf_counter()
            _step(module, optimizer, ready, batch)
            if step >= 3:
                real.append(middle - began)
                bare.append(time.perf_counter() - middle)
    for label, figures in (("step on real data", real), ("step on a ready batch", bare)):
        median = statistics.median(figures)
        print(f"{label:24}{1000 * median:7.0f} ms  {config.optim.batch_size / median:6.1f} images/s")
    print(f"real data cost {statistics.median(r / b for r, b in zip(real, bare, strict=True)) - 1:+.1%} (median of {options.steps} pairs)")


def _step(module: GradingModule, optimizer: torch.optim.Optimizer, images: torch.Tensor, batch: Batch) -> None:
    loss = module.criteria[0](module.net.outputs(images)[0], batch.labels[:, 0])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


if __name__ == "__main__":
    main()
