"""The search for better values: its space, its pruning, its resumption, its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
optuna = pytest.importorskip("optuna", reason="the train extra is not installed")

from support.recipes import SMALL
from support.runs import IGNORED

from kneexray.datasets import manifest as manifests
from kneexray.errors import ConfigError
from kneexray.train.recipe import config as configs
from kneexray.train.tune import search as tuning
from kneexray.train.tune.report import write_report

pytestmark = [*IGNORED, pytest.mark.filterwarnings("ignore::ResourceWarning")]
SPACE = {"optim.lr": {"low": 1e-3, "high": 1e-2, "log": True}, "model.drop_rate": [0.0, 0.5], "augment.strength": {"low": 0.5, "high": 1.5}}


def recipe(**changes: object) -> configs.Config:
    return configs.validate({**SMALL, "tune": {"space": SPACE, "startup": 1, "patience": 1}, **changes}, where="test")


def search(knees: Path, out: Path, *, trials: int, config: configs.Config | None = None) -> optuna.Study:
    return tuning.tune(config or recipe(), manifests.load(knees, task="kl"), out, trials=trials, command=["kneexray", "tune"])


def what_came(study: optuna.Study) -> list[tuple[object, ...]]:
    return [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in study.trials]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"optim.lrr": [1e-3]}, r"unknown key of \[optim\] 'lrr'. Did you mean lr"),
        ({"optim.lr": [1e-3, -1.0]}, r"tune\.space, optim\.lr = -1\.0"),
        ({"optim.lr": {"low": 1e-2, "high": 1e-3}}, "is no range"),
        ({"optim.lr": {"lo": 1e-2, "high": 1e-3}}, "Did you mean low"),
        ({"optim.lr": {"low": 0.0, "high": 1e-3, "log": True}}, "logarithmic"),
    ],
)
def test_a_space_that_no_recipe_may_have_is_refused(space: dict[str, object], said: str):
    with pytest.raises(ConfigError, match=said):
        tuning.distributions(recipe(tune={"space": space}))


def test_the_default_space_fits_the_default_recipe():
    assert set(tuning.distributions(configs.Config())) == set(configs.TuneConfig().space)


def test_a_recipe_must_say_what_better_is(knees: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="which trial is better"):
        search(knees, tmp_path / "tune", trials=1, config=recipe(select={"monitor": "last"}))
    assert not (tmp_path / "tune").exists()


@pytest.mark.slow
def test_a_search_stopped_in_a_trial_goes_on_as_if_it_had_not(knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    unbroken = search(knees, tmp_path / "unbroken", trials=3)

    class Killed(Exception):
        pass

    class KillInSecondTrial(tuning.Report):
        def on_train_epoch_end(self, trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)
            if self.trial.number == 1 and trainer.current_epoch == 1:
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "Report", KillInSecondTrial)
        with pytest.raises(Killed):
            search(knees, tmp_path / "stopped", trials=3)
    assert what_came(search(knees, tmp_path / "stopped", trials=3)) == what_came(unbroken)
    best = configs.load(tmp_path / "stopped" / "best.toml")
    assert best.optim.lr == unbroken.best_trial.params["optim.lr"]
    assert (tmp_path / "stopped" / "best.toml").read_bytes() == (tmp_path / "unbroken" / "best.toml").read_bytes()
    assert not (tmp_path / "stopped" / "trials" / "000" / "cache").exists()  # images are decoded once, for all trials
    assert len(search(knees, tmp_path / "stopped", trials=2).trials) == 3  # enough of them already
    with pytest.raises(ConfigError, match="another recipe or other data"):
        search(knees, tmp_path / "stopped", trials=3, config=recipe(seed=3))
    page = write_report(unbroken, tmp_path / "unbroken", monitor="val_nll").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 + len(SPACE)
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_a_trial_that_cannot_be_is_told_and_the_search_goes_on(knees: Path, tmp_path: Path):
    space = {"loss.name": ["focal", "focal_sigmoid"], "model.hidden": [[], [8, 4]]}
    config = recipe(tune={"space": space, "startup": 1}, loss={"alpha": [0.25], "name": "focal_sigmoid"})
    study = search(knees, tmp_path / "tune", trials=4, config=config)
    failed = [t for t in study.trials if t.state == optuna.trial.TrialState.FAIL]
    assert failed
    assert all("loss.alpha" in t.user_attrs[tuning.FAILED] for t in failed)
    assert study.best_trial.params["loss.name"] == "focal_sigmoid"
    assert {t.params["model.hidden"] for t in study.trials} <= {"[]", "[8, 4]"}
    assert list(configs.load(tmp_path / "tune" / "best.toml").model.hidden) == json.loads(study.best_trial.params["model.hidden"])
    assert "loss.alpha" in write_report(study, tmp_path / "tune", monitor="val_nll").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_trial_worse_than_those_before_is_given_up(knees: Path, tmp_path: Path):
    config = recipe(tune={"space": {"optim.lr": [3e-3, 1.0]}, "startup": 1, "patience": 1}, optim={**SMALL["optim"], "epochs": 4})
    study = tuning.open_study(config, tmp_path / "tune", tasks=[manifests.load(knees, task="kl")])
    for rate in (3e-3, 1.0):
        study.enqueue_trial({"optim.lr": rate})
    _, worse = search(knees, tmp_path / "tune", trials=2, config=config).trials
    assert worse.state == optuna.trial.TrialState.PRUNED
    assert len(worse.intermediate_values) < 4
