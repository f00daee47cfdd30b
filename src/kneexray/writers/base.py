"""What every writer is, what it may say about the run, and the one form in which results are recorded."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self
from unicodedata import normalize

if TYPE_CHECKING:  # the table of writers is read where neither numpy nor Pillow is needed
    from kneexray.render.knee_pictures import Album
    from kneexray.types import Change, FilmResult, Prediction, Rejection

DISCLAIMER = "For research use. Not a medical device."
"""What every report says."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a report says about the run that made it.

    ``command`` is what was typed (``provenance.command_line``), ``models`` maps a model's id to facts worth printing (licence, data,
    score), ``versions`` a package to its version.
    """

    command: str = ""
    started: datetime | None = None
    models: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


NO_FACTS = RunFacts()


class Writer(ABC):
    """Takes results one at a time and keeps none of them.

    As a context manager it is closed whatever happens, so that what was already computed is not lost.
    """

    _closed = False

    @abstractmethod
    def __init__(self, path: Path, *, run: RunFacts = NO_FACTS) -> None: ...

    @abstractmethod
    def add(self, result: FilmResult, *, album: Album | None = None) -> None:
        """Write one film's result; raises :class:`~kneexray.errors.OutputError` where that fails.

        Writers that share an ``album`` draw the film's pictures once between them.
        """

    def close(self) -> None:
        """Finish the file, once; raises :class:`~kneexray.errors.OutputError` where that fails."""
        if not self._closed:
            self._closed = True
            self._finish()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out so far and why, one sentence each; for the person who asked for the format."""
        return ()

    @abstractmethod
    def _finish(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def prediction_record(prediction: Prediction, *, heatmap_path: str | None) -> dict[str, Any]:
    """Return a prediction as JSON has it, wherever it is written: ``predictions.json``, the API, the rows of the CSV.

    ``heatmap_path`` is where its picture is, relative to the output folder, or None. Warnings are those of the film, the knee and
    the prediction together. A ``change`` is one since an earlier film of the knee, of the expected grade or of a length; None without.
    """
    from kneexray.geometry import applied, box_under

    knee = prediction.knee
    change = None
    if prediction.change is not None and prediction.earlier is not None:
        change = _change_record(prediction.change) | {"probabilities_before": prediction.earlier.tolist()}
    return {
        "file": prediction.source,
        "sop_instance_uid": knee.radiograph.sop_instance_uid,
        "knee": {
            "side": knee.side,
            "box": list(box_under(knee.radiograph.stored, knee.box)),
            "mirrored": knee.mirrored,
            "score": float(knee.score),
            "measurements": [
                {
                    "name": length.name,
                    "value": float(length.value),
                    "unit": length.unit,
                    "line": applied(knee.radiograph.stored, length.line).ravel().tolist() if length.line else None,
                    "change": _change_record(length.change) if length.change else None,
                }
                for length in knee.measurements
            ],
            "pixel_spacing_source": knee.radiograph.pixel_spacing_source,
            "side_sources": [asdict(source) for source in knee.side_sources],
        },
        "task": prediction.task,
        "grade": int(prediction.grade),
        "label": prediction.label,
        "labels": list(prediction.labels),
        "probabilities": prediction.probabilities.tolist(),
        "prediction_set": [int(grade) for grade in prediction.prediction_set],
        "coverage": float(prediction.coverage),
        "change": change,
        "heatmap": heatmap_path,
        "warnings": all_warnings(prediction),
        "model_id": prediction.model_id,
    }


def _change_record(change: Change) -> dict[str, Any]:
    return {
        "days": change.days,
        "before": float(change.before),
        "now": float(change.now),
        "noise": change.noise,
        "exceeds_noise": change.exceeds_noise,
    }


def rejection_record(rejection: Rejection) -> dict[str, str]:
    """Return a rejection as JSON has it."""
    return {"file": rejection.source, "reason": rejection.reason, "detail": rejection.detail}


def all_warnings(prediction: Prediction) -> list[str]:
    """Return the warnings of the film, the knee and the prediction, each once."""
    return list(dict.fromkeys((*prediction.knee.radiograph.warnings, *prediction.knee.warnings, *prediction.warnings)))


def film_stem(source: str) -> str:
    """Return a name for what is written of one film: the start of its own, and a digest of ``source`` to tell films of one name apart.

    Only ASCII letters, digits, ``_`` and ``-`` are used, and under 60 of them, which any file system takes. The name is the same
    in every run over the same source.
    """
    film = re.split(r"[/\\]", source)[-1]
    digest = blake2b(source.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{_plain(film.rpartition('.')[0] or film)[:40]}-{digest}"


def heatmap_paths(result: FilmResult) -> tuple[str | None, ...]:
    """Return where the heatmap of each prediction lies, relative to the output folder; None for a prediction without one.

    The name says which film (:func:`film_stem`), side and task: ``heatmaps/9003175L-5f0c1d2e3a4b5c6d-L-kl.png``.
    """
    seen: Counter[str] = Counter()
    paths: list[str | None] = []
    for prediction in result.predictions:
        if prediction.heatmap is None:
            paths.append(None)
            continue
        name = f"{film_stem(prediction.source)}-{prediction.knee.side or 'knee'}-{_plain(prediction.task).lower()[:24]}"
        seen[name] += 1
        paths.append(f"heatmaps/{name}.png" if seen[name] == 1 else f"heatmaps/{name}-{seen[name]}.png")
    return tuple(paths)


def _plain(text: str) -> str:
    """Return the ASCII letters, digits and underscores of a text, anything else as one underscore."""
    return re.sub(r"[^A-Za-z0-9]+", "_", normalize("NFKD", text).encode("ascii", "ignore").decode()).strip("_") or "film"
