"""Every recipe of the repository builds its network and takes two steps; the studies' benchmark runs end to end on real films."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("lightning")

from support.runs import IGNORED

from kneexray.tasks import TASKS
from kneexray.train.data import Batch, whole_box
from kneexray.train.module import GradingModule, augmented
from kneexray.train.recipe import config as configs

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))
SMALLEST, LEAST = 70, {"oa-inceptionv3": 75}
"""Of an input that every other network takes, and a multiple of DINOv2's patch."""

pytestmark = [pytest.mark.slow, *IGNORED]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_takes_two_steps(path: Path):
    size = LEAST.get(path.stem, SMALLEST)
    config = configs.load(path, overrides=[f"input.size={size}", "input.progressive=[]"])
    classes = [len(TASKS[task].labels) for task in config.tasks]
    module = GradingModule(config, counts=[[4] * k for k in classes], steps_per_epoch=2).train()
    box = whole_box(config.input.geometry).size
    batch = Batch(torch.rand(2, 1, box, box), torch.tensor([[0] * len(classes), [k - 1 for k in classes]]))
    optimizer = torch.optim.AdamW(module.parameter_groups(), lr=1e-4)
    for step in range(2):
        images = augmented(batch, config, size=size, generator=torch.Generator().manual_seed(step))
        outputs = module.net.outputs(images)[: len(classes)]  # lengths, where there are any, come behind the tasks
        loss = sum(c(out, labels) for c, out, labels in zip(module.criteria, outputs, batch.labels.unbind(dim=1), strict=True))
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_study_runs_both_ways_and_goes_on_where_it_was(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import studies

    name, short = "osteoporosis-cnn", ["optim.epochs=1", "input.size=32", "model.hidden=[8]"]
    monkeypatch.setitem(studies.STUDIES, name, studies.Study(studies.FILMS[:1], folds=10, run=1))
    way = studies.STUDIES[name].ways[0]
    row = studies.measured(name, way, shared_data, tmp_path, overrides=short)
    assert row.startswith("| `osteoporosis-cnn` | study | 2")
    monkeypatch.delattr(studies, "cross_validate")
    assert studies.measured(name, way, shared_data, tmp_path, overrides=short) == row


def test_each_study_has_its_recipe(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import studies

    assert set(studies.STUDIES) == {path.stem for path in RECIPES if path.parent.name == "studies"}
