"""A recipe: every choice of a training run, with its default. Unknown keys are errors."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kneexray.errors import ConfigError, choices

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A table of the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Section):
    """The network. ``backbone`` is any timm name; ``out_index`` cuts it after that stage (None: the whole backbone).

    ``weights`` lists starting points in order of preference, the first that is there is taken: a safetensors file in timm's
    naming, ``timm`` or ``timm:TAG`` (a hub must be reachable), or ``none``.
    """

    backbone: str = "tf_efficientnet_lite0"
    weights: tuple[str, ...] = ("timm",)
    weights_licence: str = ""
    out_index: int | None = None
    drop_rate: Share = 0.2
    drop_path_rate: Share = 0.1


class InputConfig(Section):
    """What the model sees: see :class:`kneexray.preprocess.Geometry`.

    ``progressive`` lists (first epoch, size), to train at smaller sizes first.
    """

    size: Annotated[int, Field(ge=32, le=1024)] = 224
    zoom: Annotated[float, Field(gt=0.2, le=2)] = 0.92
    shift_y: Annotated[float, Field(ge=-0.5, le=0.5)] = 0.02
    progressive: tuple[tuple[int, int], ...] = ()


class AugmentConfig(Section):
    """Random changes, drawn anew for each image, uniform within plus or minus the value given.

    ``rotate`` is in degrees, ``shift`` a share of the side, ``zoom``, ``gamma`` and ``contrast`` natural logarithms of a factor,
    ``brightness`` and ``noise`` shares of the grey range; ``flip`` and ``erase`` are probabilities.
    """

    flip: Share = 0.5
    rotate: Annotated[float, Field(ge=0, le=180)] = 10.0
    zoom: Share = 0.12
    shift: Share = 0.035
    gamma: Annotated[float, Field(ge=0)] = 0.35
    contrast: Annotated[float, Field(ge=0)] = 0.1
    brightness: Annotated[float, Field(ge=0)] = 0.03
    noise: Annotated[float, Field(ge=0)] = 0.0
    erase: Share = 0.0


class LossConfig(Section):
    """``soft_ordinal`` spreads each target over its neighbours as exp(-sharpness * distance) (after Chen et al. 2019)."""

    name: str = "cross_entropy"
    smoothing: Share = 0.0
    sharpness: Positive = 2.0


class OptimConfig(Section):
    """AdamW with linear warm-up and cosine decay; ``average`` is the decay that the average of the weights reaches (0: none)."""

    epochs: Count = 10
    batch_size: Count = 32
    lr: Positive = 5e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    clip: Annotated[float, Field(ge=0)] = 2.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    precision: Literal["auto", "32", "bf16", "16"] = "auto"


class SelectConfig(Section):
    """Which epoch is kept, by what on the validation split; ``patience`` epochs without a better one stop the run."""

    monitor: Literal["val_accuracy", "val_qwk", "val_nll", "val_mae"] = "val_qwk"
    patience: Count = 10


class Config(Section):
    """A whole recipe."""

    task: str = "kl"
    seed: Annotated[int, Field(ge=0)] = 0
    model: ModelConfig = ModelConfig()
    input: InputConfig = InputConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    select: SelectConfig = SelectConfig()


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
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{where}: {_sentence(item, data)}" for item in error.errors())) from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: write it as key=value, for instance --set optim.epochs=3.")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    for table in tables:
        data = data.setdefault(table, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {override}: {table!r} is a value, not a table of the recipe.")
    data[last] = (value,) if last == "weights" and isinstance(value, str) else value


def _sentence(item: Any, data: dict[str, Any]) -> str:
    where = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden":
        section: Any = Config
        for part in where[:-1]:
            section = section.model_fields[part].annotation
        return choices(f"key '{'.'.join(where)}':", where[-1], section.model_fields)
    return f"key '{'.'.join(where)}' = {item['input']!r}: {item['msg'].lower()}."
