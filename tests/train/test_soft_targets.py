"""Targets that are no labels, and what becomes of targets on the mirror image."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from kneexray.datasets.manifest import Example
from kneexray.errors import ConfigError
from kneexray.tasks import FEATURES, LENGTHS, TASKS, mirror_columns, mirror_image, opposite
from kneexray.train import answers, soft_targets
from kneexray.train.data import Batch
from kneexray.train.export.graph import Exported
from kneexray.train.networks import models
from kneexray.train.recipe import config as configs

READING = ("kl", *FEATURES, "knee_replacement")


def test_the_mirror_image_of_the_mirror_image_is_the_same():
    for name in TASKS:
        assert mirror_image(mirror_image(name)) == name
    assert mirror_image("osteophyte_fm") == "osteophyte_fl"
    assert mirror_image("jsn_lateral") == "jsn_medial"
    assert mirror_image("kl") == "kl"
    columns = np.array(mirror_columns(READING))
    assert (columns[columns] == np.arange(len(columns))).all()
    assert (opposite("jsw_medial_150"), opposite("jsw_lateral_875"), opposite("jsw_medial")) == ("jsw_lateral_850", None, None)


def test_mirrored_knees_swap_medial_and_lateral_in_every_target():
    labels = torch.arange(len(READING))[None].repeat(2, 1)
    width = sum(len(TASKS[task].labels) for task in READING)
    taught = torch.arange(width).float()[None].repeat(2, 1)
    lengths = torch.arange(len(LENGTHS)).float()[None].repeat(2, 1)
    batch = Batch(torch.rand(2, 1, 4, 6), labels, taught, lengths)
    turned = soft_targets.mirrored(batch, READING, torch.tensor([False, True]))
    assert torch.equal(turned.images[0], batch.images[0])
    assert torch.equal(turned.images[1], batch.images[1].flip(2))
    assert torch.equal(turned.labels[0], labels[0])
    assert int(turned.labels[1, READING.index("osteophyte_fm")]) == READING.index("osteophyte_fl")
    assert turned.taught is not None
    assert torch.equal(turned.taught[1], taught[1][mirror_columns(READING)])
    assert turned.lengths is not None
    assert float(turned.lengths[1, LENGTHS.index("jsw_medial_150")]) == LENGTHS.index("jsw_lateral_850")
    assert math.isnan(float(turned.lengths[1, LENGTHS.index("jsw_medial")]))


def test_an_exported_network_answers_the_mirror_image_with_compartments_swapped():
    recipe = {
        "also": [*FEATURES],
        "model": {"backbone": "cnn", "cnn": {"channels": [4, 8]}, "weights": ["none"]},
        "input": {"size": 32},
        "lengths": {"table": "lengths.csv", "weight": 0.5},
    }
    config = configs.validate(recipe, where="test")
    torch.manual_seed(0)
    graph = Exported([(models.for_recipe(config).eval(), 32)], mirrored=True, tasks=config.tasks).eval()
    images = torch.rand(3, 1, 32, 32)
    with torch.inference_mode():
        logits, cam, lengths = graph(images)
        other, other_cam, other_lengths = graph(images.flip(3))
    columns = mirror_columns(config.tasks)
    torch.testing.assert_close(other[:, columns], logits)
    torch.testing.assert_close(other_cam[:, columns].flip(3), cam)
    places = [i for i, name in enumerate(LENGTHS) if opposite(name)]
    there = [LENGTHS.index(opposite(LENGTHS[i]) or "") for i in places]
    torch.testing.assert_close(other_lengths[:, there], lengths[:, places])


def test_answers_are_averaged_over_tables_and_found_by_patient_and_side(tmp_path: Path):
    tasks = ("kl", "knee_replacement")
    width = 7 + len(LENGTHS)
    values = np.full((2, width), np.nan)
    values[:, :7] = [[0.6, 0.4, 0, 0, 0, 0.9, 0.1], [0, 0, 0, 0, 1, 0.5, 0.5]]
    values[0, 7] = 0.05
    for number, name in enumerate(("a.csv", "b.csv.gz")):
        values[0, :2] = [0.6 + 0.2 * number, 0.4 - 0.2 * number]
        answers.write(tmp_path / name, [("9000001", "R"), ("9000002", "L")], values, tasks=tasks)
    rows = answers.read([str(tmp_path / "a.csv"), str(tmp_path / "b.csv.gz")], tasks=tasks)
    assert rows["9000001", "R"][:2] == pytest.approx([0.7, 0.3])
    assert rows["9000001", "R"][7] == pytest.approx(0.05)
    example = Example("x.png", "0", "kl", "9000003", "R", "train", "", "")
    assert np.isnan(answers.of([example], rows, width)).all()
    with pytest.raises(ConfigError, match="say nothing of jsn_medial"):
        answers.read([str(tmp_path / "a.csv")], tasks=("jsn_medial",))


def test_unknown_answers_and_lengths_take_no_part_in_the_loss():
    logits = torch.zeros(2, 5, requires_grad=True)
    taught = torch.tensor([[0.2] * 5, [math.nan] * 5])
    assert float(soft_targets.imitation([logits], taught, [1.0]).detach()) == pytest.approx(0, abs=1e-6)
    found = torch.tensor([[0.05, 0.1]])
    assert float(soft_targets.length_loss(found, torch.tensor([[math.nan, 0.1]]))) == 0
    own, taught_lengths = torch.tensor([[0.04, math.nan]]), torch.tensor([[0.06, 0.08]])
    assert soft_targets.blended(own, taught_lengths, weight=0.5).tolist() == [pytest.approx([0.05, 0.08])]
