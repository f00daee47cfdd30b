"""A recipe: every choice of a training run, with its default. Unknown keys are errors."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from kneexray.errors import ConfigError, choices
from kneexray.tasks import get_task
from kneexray.train.recipe.sections import AugmentConfig as AugmentConfig
from kneexray.train.recipe.sections import Changes as Changes
from kneexray.train.recipe.sections import CnnConfig as CnnConfig
from kneexray.train.recipe.sections import DistilConfig as DistilConfig
from kneexray.train.recipe.sections import ImbalanceConfig as ImbalanceConfig
from kneexray.train.recipe.sections import InputConfig as InputConfig
from kneexray.train.recipe.sections import LengthsConfig as LengthsConfig
from kneexray.train.recipe.sections import LossConfig as LossConfig
from kneexray.train.recipe.sections import ModelConfig as ModelConfig
from kneexray.train.recipe.sections import OptimConfig as OptimConfig
from kneexray.train.recipe.sections import Range as Range
from kneexray.train.recipe.sections import Sampling as Sampling
from kneexray.train.recipe.sections import Section as Section
from kneexray.train.recipe.sections import SelectConfig as SelectConfig
from kneexray.train.recipe.sections import TuneConfig as TuneConfig

LAST = "last"
"""The value of ``select.monitor`` that keeps the last epoch, whatever its figures."""
LISTS = frozenset(
    {"also", "model.weights", "model.attention", "model.hidden", "model.cnn.channels", "loss.alpha", "distil.teachers", "distil.answers"}
)
"""Keys whose value is a list; ``--set`` takes a single value too."""
_UNION = re.compile(r".*[\[(].*|constrained-.*|int|float|bool|str")
"""What pydantic adds to the place of an error for each kind of value that would have done."""


class Config(Section):
    """A whole recipe. ``also`` names further tasks that share the backbone, each with a linear layer of its own."""

    task: str = "kl"
    also: tuple[str, ...] = ()
    seed: Annotated[int, Field(ge=0)] = 0
    model: ModelConfig = ModelConfig()
    input: InputConfig = InputConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    imbalance: ImbalanceConfig = ImbalanceConfig()
    distil: DistilConfig = DistilConfig()
    lengths: LengthsConfig = LengthsConfig()
    optim: OptimConfig = OptimConfig()
    select: SelectConfig = SelectConfig()
    tune: TuneConfig = TuneConfig()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task and those that share its backbone."""
        return (self.task, *self.also)


def load(recipe: str | Path, *, overrides: Sequence[str] = ()) -> Config:
    """Return the recipe in ``recipe`` (TOML) with each ``key.subkey=value`` of ``overrides`` applied.

    Raises :class:`ConfigError` that names the file, the key and the nearest known ones.
    """
    path = Path(recipe)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Recipes are TOML files such as those in recipes/.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is no valid TOML: {error}.") from error
    for override in overrides:
        _apply(data, override)
    return validate(data, where=str(path))


def validate(data: dict[str, Any], *, where: str) -> Config:
    """Return ``data`` as a :class:`Config`; ``where`` is named in the error."""
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{where}: {_sentence(item)}" for item in error.errors())) from None
    try:
        _check_together(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return config


def _check_together(config: Config) -> None:
    """Raise :class:`ConfigError` for choices that are each possible but not together."""
    for name in config.tasks:
        get_task(name)
    if len(set(config.tasks)) < len(config.tasks):
        raise ConfigError(f"also = {', '.join(config.also)}: a task is named twice.")
    labels = get_task(config.task).labels
    for label in config.augment.per_class:
        if label not in labels:
            raise ConfigError(choices("key of [augment.per_class]", label, labels))
        try:
            config.augment.of(label)
        except ValidationError as error:
            within = ("augment", "per_class", label)
            raise ConfigError("\n".join(_sentence(item, within=within, section=Changes) for item in error.errors())) from None
    if bool(config.lengths.weight) != bool(config.lengths.table):
        raise ConfigError("lengths.table and lengths.weight belong together: give both, or neither.")
    if config.distil.teachers and config.distil.answers:
        raise ConfigError("distil.teachers and distil.answers both give soft targets. Keep one.")
    corrections = [
        f"imbalance.sampling = {config.imbalance.sampling!r}" if config.imbalance.sampling != "none" else "",
        f"imbalance.weights = {config.imbalance.weights!r}" if config.imbalance.weights != "none" else "",
        "loss.alpha" if config.loss.alpha and config.loss.name == "focal" else "",
    ]
    active = [text for text in corrections if text]
    if len(active) > 1 and not config.imbalance.both:
        raise ConfigError(f"{' and '.join(active)} correct for the same imbalance, twice. Keep one, or set imbalance.both = true.")
    if config.model.pool == "flatten" and config.input.progressive:
        raise ConfigError("model.pool = 'flatten' fixes the input's size, input.progressive changes it. Keep one.")


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: write it as key=value, for instance --set optim.epochs=3.")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:  # words without the quotes, which a shell takes away
        listed = re.fullmatch(r"\[(.*)\]", text)
        value = [word.strip() for word in listed[1].split(",")] if listed else text
    *tables, last = key.strip().split(".")
    for table in tables:
        data = data.setdefault(table, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {override}: {table!r} is a value, not a table of the recipe.")
    data[last] = [value] if key.strip() in LISTS and not isinstance(value, list) else value


def _sentence(item: Any, *, within: tuple[str, ...] = (), section: Any = Config) -> str:
    """Return an error of pydantic's in a recipe's own words; ``section`` is the table that it was found in, ``within`` that table's key."""
    where = [str(part) for part in item["loc"] if not _UNION.fullmatch(str(part))]
    key = ".".join([*within, *where])
    if item["type"] == "extra_forbidden":
        for part in where[:-1]:
            section = Range if section is TuneConfig else section.model_fields[part].annotation
            if section is Range:
                break
        table = key.rpartition(".")[0]
        return choices(f"key of [{table}]" if table else "key", where[-1], section.model_fields)
    if item["type"] == "literal_error":
        return choices(f"value of '{key}':", item["input"], re.findall(r"'([^']*)'", item["ctx"]["expected"]))
    return f"key '{key}' = {item['input']!r}: {item['msg'].lower().replace('tuple', 'list')}."
