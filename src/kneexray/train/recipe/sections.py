"""The tables of a recipe, each choice with its default."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kneexray.inference.preprocess import Geometry

Share = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Sampling = Literal["none", "over", "under", "sqrt", "class_aware"]


class Section(BaseModel):
    """A table of the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CnnConfig(Section):
    """A plain network: for each of ``channels`` a convolution (with batch norm where asked), ReLU, max pooling by 2 and dropout."""

    channels: Annotated[tuple[Count, ...], Field(min_length=1)] = (32, 64, 128)
    kernel: Count = 3
    batch_norm: bool = False
    drop_rate: Share = 0.0


class ModelConfig(Section):
    """The network: backbone, attention, pooling, hidden dense layers with ReLU, dropout, one linear layer a task.

    ``backbone`` is any timm name, or ``cnn`` for the one that ``[model.cnn]`` describes; ``out_index`` cuts it after that stage (None:
    the whole backbone). ``weights`` lists starting points in order of preference, the first that is there is taken: a safetensors file
    in timm's naming, a finished run's folder (the whole network, or its backbone alone where the head is another), ``timm`` or
    ``timm:TAG`` (a hub must be reachable), or ``none``, the default of ``cnn``; one name alone needs no list. ``freeze`` is how many
    stages, from the input on, keep those weights and their batch-norm statistics, or ``backbone``. ``hidden`` layers and ``flatten``
    pooling leave no class map.
    """

    backbone: str = "tf_efficientnet_lite0"
    cnn: CnnConfig = CnnConfig()
    weights: tuple[str, ...] = ("timm",)
    weights_licence: str = ""
    out_index: int | None = None
    freeze: Annotated[int, Field(ge=0)] | Literal["backbone"] = 0
    attention: tuple[Literal["se", "cbam"], ...] = ()
    pool: Literal["average", "flatten"] = "average"
    hidden: tuple[Count, ...] = ()
    drop_rate: Share = 0.2
    drop_path_rate: Share = 0.1

    @model_validator(mode="before")
    @classmethod
    def _weights(cls, given: Any) -> Any:
        """Take a single name of weights as a list, and no weights for a network that nobody has trained."""
        if not isinstance(given, dict):
            return given
        weights = given.get("weights", ("none",) if given.get("backbone") == "cnn" else None)
        return given if weights is None else {**given, "weights": (weights,) if isinstance(weights, str) else weights}


class InputConfig(Section):
    """What the model sees: see :class:`kneexray.inference.preprocess.Geometry`.

    ``progressive`` lists (first epoch, size), to train at smaller sizes first.
    """

    region: Literal["knee", "cartilage"] = "knee"
    size: Annotated[int, Field(ge=32, le=1024)] = 224
    zoom: Annotated[float, Field(gt=0.2, le=2)] = 0.92
    shift_y: Annotated[float, Field(ge=-0.5, le=0.5)] = 0.02
    progressive: tuple[tuple[int, int], ...] = ()

    @property
    def geometry(self) -> Geometry:
        """What the model sees of a knee."""
        return Geometry(size=self.size, zoom=self.zoom, shift_y=self.shift_y, region=self.region)

    def size_at(self, epoch: int) -> int:
        """Return the input size that ``epoch`` trains at."""
        sizes = [size for first, size in sorted(self.progressive) if first <= epoch]
        return sizes[-1] if sizes else self.size


class Changes(Section):
    """Random changes, drawn anew for each image, uniform within plus or minus the value given.

    ``rotate`` and ``shear`` are in degrees, ``shift`` a share of the side, ``zoom``, ``gamma`` and ``contrast`` natural logarithms of a
    factor, ``brightness`` and ``noise`` shares of the grey range, ``blur`` the standard deviation of a Gaussian as a share of the side;
    ``flip``, ``coarse`` and ``erase`` are probabilities. ``flip`` mirrors: what the network sees is always a right knee, so a flip makes it
    see left ones too; targets of compartments are swapped with it. ``coarse`` images lose up to two thirds of their resolution. ``mixup``
    and ``cutmix`` are the alpha of the Beta distribution that the share of the second image comes from; where both are given, each batch
    gets one of them.

    ``strength`` is a factor on all of these but ``flip``, ``mixup`` and ``cutmix``.
    """

    strength: Spread = 1.0
    flip: Share = 0.5
    rotate: Annotated[float, Field(ge=0, le=45)] = 10.0
    zoom: Share = 0.12
    shift: Share = 0.035
    shear: Annotated[float, Field(ge=0, le=30)] = 0.0
    gamma: Spread = 0.35
    contrast: Spread = 0.1
    brightness: Spread = 0.03
    noise: Spread = 0.0
    blur: Annotated[float, Field(ge=0, le=0.05)] = 0.0
    coarse: Share = 0.0
    erase: Share = 0.0
    mixup: Spread = 0.0
    cutmix: Spread = 0.0

    def amount(self, key: str) -> float:
        """Return the value of ``key``, times the strength where that acts on it."""
        value: float = getattr(self, key)
        return value if key in {"flip", "mixup", "cutmix"} else value * self.strength


def _strength(given: Any) -> Any:
    return {"strength": given} if isinstance(given, int | float) else given


class AugmentConfig(Changes):
    """The changes of every image, and what differs for a class: rare ones can be given more.

    ``per_class`` maps labels to a further factor on the strength, or to a table of values of their own, in which ``strength`` is that
    factor.
    """

    per_class: dict[str, Annotated[dict[str, float], BeforeValidator(_strength)]] = {}

    def of(self, label: str) -> Changes:
        """Return the changes of a class; of the images without a label where it is empty."""
        every, own = self.model_dump(exclude={"per_class"}), self.per_class.get(label, {})
        return Changes.model_validate(every | own | {"strength": self.strength * own.get("strength", 1.0)})


class LossConfig(Section):
    """``name`` is a row of :data:`kneexray.train.networks.losses.LOSSES`, whose functions say what the other values do.

    ``smoothing`` spreads that share of each target evenly over all classes, whatever the loss. ``also`` is the weight of each further
    task's loss beside that of the first.
    """

    name: str = "cross_entropy"
    smoothing: Share = 0.0
    sharpness: Positive = 2.0
    gamma: Spread = 2.0
    alpha: tuple[Spread, ...] = ()
    power: Positive = 5.0
    also: Spread = 1.0


class ImbalanceConfig(Section):
    """How unequal classes are met: by how often their knees are drawn, or by how much they weigh in the loss. See ``imbalance.py``.

    ``beta`` belongs to ``effective`` weights. Both ways at once correct twice and are an error unless ``both`` is true.
    """

    sampling: Sampling = "none"
    weights: Literal["none", "inverse", "effective"] = "none"
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.999
    both: bool = False


class DistilConfig(Section):
    """Soft targets, which get ``weight`` of the loss; the labels get the rest.

    ``teachers`` are bundle folders; their mean answer to the first task is softened by ``temperature``. ``answers`` are tables of what
    networks said of knees that they did not learn from (the out-of-fold answers of ``train --folds``), for every task and length; several
    are averaged. See :mod:`kneexray.train.answers`.
    """

    teachers: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    weight: Share = 0.5
    temperature: Positive = 1.0


class LengthsConfig(Section):
    """Lengths that the network learns beside its tasks: ``table`` (CSV) has ``patient_id, side`` and columns of
    :data:`kneexray.tasks.LENGTHS`, shares of the condyles' width; ``weight`` is that of their loss (0: none are learnt).
    """

    table: str = ""
    weight: Spread = 0.0


class OptimConfig(Section):
    """AdamW (with ``weight_decay = 0``: Adam), linear warm-up, then cosine decay or a constant learning rate.

    ``layer_decay`` below 1 gives each layer that factor of the learning rate of the layer above it. ``average`` is the decay that the
    average of the weights reaches (0: none).
    """

    epochs: Count = 10
    batch_size: Count = 32
    lr: Positive = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight_decay: Spread = 0.05
    warmup_epochs: Spread = 1.0
    clip: Spread = 2.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    precision: Literal["auto", "32", "bf16", "16"] = "auto"


class SelectConfig(Section):
    """Which epoch is kept, by what on the validation split; ``patience`` epochs without a better one stop the run.

    ``last`` keeps the last epoch: the validation split then chooses nothing and stays an honest judge.
    """

    monitor: Literal["val_accuracy", "val_qwk", "val_nll", "val_mae", "last"] = "val_qwk"
    patience: Count = 10


class Range(Section):
    """Numbers from ``low`` to ``high``, whole ones where both are; ``log``: as likely in each octave."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"from {self.low:g} to {self.high:g} is no range{' of a logarithmic scale' if self.log else ''}")
        return self


Choice = int | float | bool | str | tuple[int | str, ...]
SPACE: dict[str, Range | tuple[Choice, ...]] = {
    "optim.lr": Range(low=3e-5, high=3e-3, log=True),
    "optim.batch_size": (16, 32, 64),
    "optim.layer_decay": Range(low=0.5, high=1.0),
    "model.freeze": (0, 1, 2),
    "model.drop_rate": Range(low=0.0, high=0.6),
    "loss.name": ("cross_entropy", "soft_ordinal", "focal"),
    "augment.strength": Range(low=0.3, high=2.0),
}


class TuneConfig(Section):
    """What ``kneexray tune`` tries: a key of the recipe to a range ``{low, high, log}`` or a list of choices.

    The first ``startup`` trials draw at random, and none is given up before so many are through, nor in its first ``patience`` epochs.
    """

    space: Annotated[dict[str, Range | tuple[Choice, ...]], Field(min_length=1)] = SPACE
    startup: Count = 8
    patience: Count = 2
