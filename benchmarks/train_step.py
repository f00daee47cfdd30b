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
from kneexray.train import config as configs
from kneexray.train import data
from kneexray.train.module import GradingModule


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
    module = GradingModule(config, classes=len(manifest.task.labels), steps_per_epoch=1000).train()
    optimizer = module.configure_optimizers()["optimizer"]
    examples = manifest.split("train")
    print(describe("torch", "timm"))
    with tempfile.TemporaryDirectory() as folder:
        cache = data.cached(manifest, examples, data.whole_box(module.geometry), dtype="float16", folder=Path(folder))
        sampler = data.EpochShuffle(len(examples), seed=0)
        batches = iter(
            data.loader(data.Knees(cache, manifest.labels(examples)), batch_size=config.optim.batch_size, sampler=sampler, drop_last=True)
        )
        size = config.input.size
        ready = torch.rand(config.optim.batch_size, 1, size, size), torch.arange(config.optim.batch_size) % len(manifest.task.labels)
        real, bare = [], []
        for step in range(options.steps + 3):
            began = time.perf_counter()
            images, target = next(batches)
            images = data_augment(module, images, step)
            _step(module, optimizer, images, target)
            middle = time.perf_counter()
            _step(module, optimizer, *ready)
            if step >= 3:
                real.append(middle - began)
                bare.append(time.perf_counter() - middle)
    for label, figures in (("step on real data", real), ("step on a ready batch", bare)):
        median = statistics.median(figures)
        print(f"{label:24}{1000 * median:7.0f} ms  {config.optim.batch_size / median:6.1f} images/s")
    print(f"real data cost {statistics.median(r / b for r, b in zip(real, bare, strict=True)) - 1:+.1%} (median of {options.steps} pairs)")


def data_augment(module: GradingModule, images: torch.Tensor, step: int) -> torch.Tensor:
    """Augment as the training step does."""
    from kneexray.train.augment import augment

    generator = torch.Generator().manual_seed(step)
    return augment(images, module.config.augment, module.geometry, size=module.config.input.size, generator=generator)


def _step(module: GradingModule, optimizer: torch.optim.Optimizer, images: torch.Tensor, target: torch.Tensor) -> None:
    loss = module.loss(module(images), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


if __name__ == "__main__":
    main()
