"""A search for better values of a recipe's keys with Optuna: stopped and started again, it goes on where it was."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import lightning as L
import optuna
import tomli_w
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from kneexray.datasets.manifest import Manifest
from kneexray.errors import ConfigError, DataError
from kneexray.files import make_folder, write_whole
from kneexray.train import run_folder
from kneexray.train.processes import joined
from kneexray.train.recipe.config import LAST, Config, TuneConfig, validate
from kneexray.train.recipe.sections import Range
from kneexray.train.run import check, train

STUDY, BEST, TRIALS = "study.db", "best.toml", "trials"
OF_DATA = "data"
"""The attribute of a study that holds the hash of its data and recipe."""
FAILED = "failed"
"""The attribute of a trial that says why it failed."""


def tune(
    config: Config, manifest: Manifest, out: Path, *, trials: int, command: Sequence[str], also: Sequence[Manifest] = ()
) -> optuna.Study:
    """Try ``trials`` sets of values from the recipe's ``[tune]`` table, in all; return the study.

    ``out`` then holds the study (``study.db``), a run a trial (``trials/000`` ...) and, where one came to its end, the best recipe
    (``best.toml``). A trial that does worse than half of those before it is given up; one whose values cannot be used, or that
    diverges, has failed, and the search goes on. A stopped search goes on in the middle of the trial that it was at.

    Raises :class:`ConfigError` for a recipe that does not say what better is, for keys and values that no recipe may have, and for a
    folder with a search on another recipe or other data.
    """
    if config.select.monitor == LAST:
        raise ConfigError(f"select.monitor = '{LAST}' does not say which trial is better. Give val_qwk, val_nll, val_mae or val_accuracy.")
    with joined() as share:
        if share.world > 1:
            raise ConfigError("a search trains on one process. Start it without torchrun.")
    check(config, (manifest, *also))
    space = distributions(config)
    study = open_study(config, out, tasks=(manifest, *also))
    make_folder(out / TRIALS / run_folder.CACHE)
    for trial in _to_do(study, config, space, trials=trials):
        folder = out / TRIALS / f"{trial.number:03d}"
        try:
            tried = changed(config, trial.params, where=f"trial {trial.number}")
            watch = Report(trial, config.select.monitor)
            record = train(tried, manifest, folder, command=command, also=also, resume=True, callbacks=[watch])
            study.tell(trial, record["outputs"]["best"][config.select.monitor])
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except (ConfigError, DataError) as error:
            trial.set_user_attr(FAILED, str(error))
            study.tell(trial, state=TrialState.FAIL)
        shutil.rmtree(folder / run_folder.CHECKPOINTS, ignore_errors=True)  # the weights of the best epoch are kept
    if (best := best_trial(study)) is not None:
        write_whole(out / BEST, best_recipe(config, best, trials=len(study.trials)))
    return study


def open_study(config: Config, out: Path, *, tasks: Sequence[Manifest]) -> optuna.Study:
    """Return the study in ``out``, new or as it was left; raises :class:`ConfigError` where it is of another recipe or other data."""
    make_folder(out)
    direction = {"min": "minimize", "max": "maximize"}[run_folder.mode(config)]
    storage = f"sqlite:///{(out / STUDY).resolve().as_posix()}"
    pruner = MedianPruner(n_startup_trials=config.tune.startup, n_warmup_steps=config.tune.patience)
    study = optuna.create_study(storage=storage, study_name="tune", direction=direction, pruner=pruner, load_if_exists=True)
    identity = sha256(f"{' '.join(m.digest() for m in tasks)} {config.model_dump_json()}".encode()).hexdigest()
    if study.user_attrs.setdefault(OF_DATA, identity) != identity:
        raise ConfigError(f"{out}: holds a search on another recipe or other data. Go on with the same, or choose another --out.")
    study.set_user_attr(OF_DATA, identity)
    return study


def distributions(config: Config) -> dict[str, BaseDistribution]:
    """Return the recipe's search space as Optuna has it; raises :class:`ConfigError` for a key or value that no recipe may have."""
    space: dict[str, BaseDistribution] = {}
    for key, values in config.tune.space.items():
        ends = (values.low, values.high) if isinstance(values, Range) else values
        for value in ends:
            changed(config, {key: value}, where=f"tune.space, {key} = {value!r}")
        if not isinstance(values, Range):
            space[key] = CategoricalDistribution([json.dumps(v) if isinstance(v, tuple) else v for v in values])
        elif isinstance(values.low, int) and isinstance(values.high, int):
            space[key] = IntDistribution(values.low, values.high, log=values.log)
        else:
            space[key] = FloatDistribution(values.low, values.high, log=values.log)
    return space


def changed(config: Config, values: Mapping[str, Any], *, where: str) -> Config:
    """Return the recipe with other ``values`` (``key.subkey`` -> value), and nothing to tune."""
    data = config.model_dump() | {"tune": TuneConfig().model_dump()}
    for key, value in values.items():
        *tables, last = key.split(".")
        table = data
        for name in tables:
            table = table.setdefault(name, {})
        table[last] = json.loads(value) if isinstance(value, str) and value.startswith("[") else value  # Optuna's choices are no lists
    return validate(data, where=where)


def best_trial(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """Return the best of the trials that came to their end, None where none did."""
    return study.best_trial if study.get_trials(states=(TrialState.COMPLETE,), deepcopy=False) else None


def best_recipe(config: Config, best: optuna.trial.FrozenTrial, *, trials: int) -> str:
    """Return the best trial's recipe as TOML: what differs from the defaults, under a header that says what its figure is worth."""
    recipe = changed(config, best.params, where=f"trial {best.number}").model_dump(mode="json", exclude_defaults=True)
    text = tomli_w.dumps({"task": config.task} | recipe)
    tomllib.loads(text)
    return (
        f"# Trial {best.number} of {trials}: {config.select.monitor} {best.value:.4f}, the best of all on the split that chose it, and so\n"
        f"# better than it will be on new patients. Judge it on a split that no trial has seen.\n{text}"
    )


class Report(L.Callback):
    """Tells Optuna each epoch's figure, and stops a trial that is not worth going on with."""

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        self.trial = trial
        self.monitor = monitor

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the epoch."""
        known = self.trial.study.trials[self.trial.number].intermediate_values
        if trainer.current_epoch not in known:
            self.trial.report(float(trainer.callback_metrics[self.monitor]), trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _to_do(study: optuna.Study, config: Config, space: dict[str, BaseDistribution], *, trials: int) -> Iterator[optuna.Trial]:
    """Yield the trial that a stopped search was at, then new ones, until there are ``trials``.

    What a trial draws depends on the recipe's seed, its number and the trials before it only.
    """
    for stopped in study.get_trials(states=(TrialState.RUNNING,)):
        yield optuna.Trial(study, stopped._trial_id)
    while (number := sum(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))) < trials:
        seed = config.seed * 1_000_003 + number
        study.sampler = TPESampler(seed=seed, n_startup_trials=config.tune.startup)
        yield study.ask(space)
