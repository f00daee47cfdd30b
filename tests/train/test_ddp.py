"""Several processes train as one: the same batches, the same augmentation, the same loss curve."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("lightning")

from support.recipes import SMALL
from support.runs import IGNORED

from kneexray.datasets import manifest as manifests
from kneexray.errors import ConfigError
from kneexray.inference.preprocess import Geometry
from kneexray.train.augment import augment, mix
from kneexray.train.curves import read_metrics
from kneexray.train.imbalance import EpochShuffle
from kneexray.train.processes import Share, Shared, dealt
from kneexray.train.recipe import config as configs
from kneexray.train.recipe.config import AugmentConfig
from kneexray.train.run import train

pytestmark = IGNORED


@given(world=st.integers(1, 5), pairs=st.integers(1, 6))
def test_shares_part_a_batch_and_keep_counterparts_together(world: int, pairs: int):
    total = 2 * world * pairs
    rows = [Share(rank, world).rows(total) for rank in range(world)]
    assert sorted(row for mine in rows for row in mine) == list(range(total))
    for mine in rows:
        assert len(mine) == 2 * pairs
        assert [total - 1 - row for row in reversed(mine)] == mine


@given(rows=st.integers(1, 40), world=st.integers(1, 5))
def test_a_split_is_dealt_evenly_and_comes_back_in_order(rows: int, world: int):
    parts = [dealt(rows, Share(rank, world)) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    assert np.stack(parts, axis=1).ravel()[:rows].tolist() == list(range(rows))


def test_batches_of_two_processes_are_those_of_one():
    sampler = EpochShuffle(np.zeros(23, dtype=np.int64), seed=1)
    sampler.set_epoch(3)
    order = list(sampler)
    halves = [list(Shared(sampler, batch_size=8, share=Share(rank, 2))) for rank in range(2)]
    assert [len(half) for half in halves] == [8, 8]
    for first in (0, 4):
        both = halves[0][first : first + 4] + halves[1][first : first + 4]
        assert sorted(both) == sorted(order[2 * first : 2 * first + 8])


def test_augmentation_and_mixing_do_not_depend_on_the_number_of_processes():
    images, targets = torch.rand(8, 1, 24, 24), torch.eye(8)
    own = {"blur": 0.02, "mixup": 0.2, "cutmix": 0.0}  # of a class that one process holds no image of
    config = AugmentConfig(shear=3, noise=0.02, erase=0.5, mixup=0.4, cutmix=1.0, per_class={"4": own})
    labels = ["4", *"012301", "4"]

    def seen(share: Share) -> tuple[torch.Tensor, torch.Tensor]:
        generator, rows = torch.Generator().manual_seed(5), share.rows(8)
        mine = [labels[row] for row in rows]
        made = augment(images[rows], config, Geometry(size=24), size=20, generator=generator, labels=mine, share=share)
        mixed, (shares,) = mix(made, [targets[rows]], config, generator=generator, labels=mine)
        return mixed, shares

    whole, shares = seen(Share())
    for rank in range(2):
        share = Share(rank, 2)
        torch.testing.assert_close(seen(share)[0], whole[share.rows(8)])
        torch.testing.assert_close(seen(share)[1], shares[share.rows(8)])


def test_a_batch_that_cannot_be_shared_names_one_that_can():
    assert Share(0, 2).batch_size(8, images=100) == 8
    assert Share(0, 2).batch_size(32, images=23) == 20
    assert Share().batch_size(32, images=23) == 23
    with pytest.raises(ConfigError, match=r"--set optim\.batch_size=8"):
        Share(0, 2).batch_size(10, images=100)


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(knees: Path, tmp_path: Path):
    """With class weights, mixing and an uneven validation split: everything that needs sums over both."""
    changes = {"imbalance": {"weights": "inverse"}, "loss": {"name": "corn"}, "augment": {"mixup": 0.2, "erase": 0.2}}
    config = configs.validate({**SMALL, **changes}, where="test")
    manifest = manifests.load(knees, task="kl")
    odd = next(e for e in manifest.examples if e.split == "val")
    manifest = manifests.Manifest(manifest.task, tuple(e for e in manifest.examples if e != odd), manifest.root)
    manifests.write(manifest, tmp_path / "data.csv")
    train(config, manifests.load(tmp_path / "data.csv", task="kl"), tmp_path / "one", command=["kneexray", "train"])
    (tmp_path / "recipe.toml").write_text(
        'imbalance = {weights = "inverse"}\nloss = {name = "corn"}\naugment = {mixup = 0.2, erase = 0.2}\ninput = {size = 32}\n'
        'model = {backbone = "cnn", weights = ["none"], drop_rate = 0.0, cnn = {channels = [4, 8]}}\nselect = {monitor = "val_nll"}\n'
        "optim = {epochs = 2, batch_size = 20, lr = 3e-3, average = 0.0}\n"
    )
    asked = ["train", str(tmp_path / "recipe.toml"), "--data", str(tmp_path / "data.csv"), "--out", str(tmp_path / "two")]
    answer = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "kneexray", *asked],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert answer.stdout.count("next: kneexray export") == 1
    one, two = (read_metrics(tmp_path / run / "metrics.jsonl") for run in ("one", "two"))
    assert len(one) == len(two) == 2
    for name in ("train_loss_epoch", "val_nll", "val_accuracy", "val_mae", "lr"):
        np.testing.assert_allclose([row[name] for row in two], [row[name] for row in one], rtol=2e-4, err_msg=name)
