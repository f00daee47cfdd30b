"""KneeXRay grades knee radiographs, and makes, audits and evaluates the models that do it. For research use.

>>> from kneexray import Predictor
>>> for film in Predictor(tasks=["kl", "oa"]).predict(["knee.png", "folder/", "study.zip"]):  # doctest: +SKIP
...     for prediction in film.predictions:
...         print(film.source, prediction.task, prediction.label, prediction.probabilities)
...     for rejection in film.rejections:
...         print(film.source, rejection.reason, rejection.detail)

Only the names below are public.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kneexray.errors import BundleError as BundleError
from kneexray.errors import ConfigError as ConfigError
from kneexray.errors import DataError as DataError
from kneexray.errors import KneeXRayError as KneeXRayError
from kneexray.errors import MissingExtraError as MissingExtraError
from kneexray.errors import OutputError as OutputError
from kneexray.errors import ReadError as ReadError
from kneexray.tasks import TASKS as TASKS
from kneexray.version import __version__ as __version__

if TYPE_CHECKING:
    from kneexray.inference.bundle import open_bundle as open_bundle
    from kneexray.predict import Predictor as Predictor
    from kneexray.read import read_file as read_file
    from kneexray.types import FilmResult as FilmResult
    from kneexray.types import Knee as Knee
    from kneexray.types import Prediction as Prediction
    from kneexray.types import Radiograph as Radiograph
    from kneexray.types import Rejection as Rejection
    from kneexray.types import Study as Study

_LATER: MappingProxyType[str, str] = MappingProxyType(
    {
        "Predictor": "kneexray.predict",
        "open_bundle": "kneexray.inference.bundle",
        "read_file": "kneexray.read",
        **dict.fromkeys(("FilmResult", "Knee", "Prediction", "Radiograph", "Rejection", "Study"), "kneexray.types"),
    }
)
"""Public names that need numpy or more: imported when they are first asked for, so that ``import kneexray`` costs nothing."""


_PUBLIC = ("__version__", "TASKS", *_LATER, *(name for name in globals() if name.endswith("Error")))


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'kneexray' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
