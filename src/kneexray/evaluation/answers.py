"""A model's answers for the labelled images of a split: what ``evaluate`` measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneexray.datasets.manifest import Example, Manifest
from kneexray.errors import DataError
from kneexray.evaluation.inputs import EvaluationInput
from kneexray.predict import Predictor
from kneexray.read import read_file
from kneexray.render.heatmap import crop_for_display
from kneexray.render.knee_pictures import SIZE, knee_jpeg, overlay_png
from kneexray.roi.sides import with_table_side
from kneexray.tables import side_of
from kneexray.tasks import get_task
from kneexray.types import FilmResult, Prediction, Study


@dataclass(frozen=True, slots=True)
class Labelled:
    """A manifest's file, read with the side that the manifest knows."""

    path: Path
    example: Example

    @property
    def name(self) -> str:
        """The path as the manifest has it."""
        return self.example.path

    @property
    def target(self) -> int:
        """The index of its label among those of its task."""
        return get_task(self.example.task).labels.index(self.example.label)

    def read(self) -> Study:
        """Return the file's study, with the side that the manifest knows."""
        return with_table_side(read_file(self.path, source=self.example.path), side_of(self.example.side))


def labelled(manifest: Manifest, split: str) -> list[Labelled]:
    """Return the files of ``split``; raises :class:`~kneexray.errors.DataError` that lists the splits there are."""
    return [Labelled(manifest.path_of(example), example) for example in manifest.split(split)]


def answer(predictor: Predictor, manifest: Manifest, *, split: str, jobs: int = 0) -> EvaluationInput:
    """Return the answers of ``predictor`` to the manifest's task for every image of ``split``.

    An image that got no answer, or several, is left out and noted by name and reason. Raises :class:`DataError` where no image
    got one.
    """
    files = labelled(manifest, split)
    rows: list[_Answer] = []
    unanswered: list[str] = []
    for file, result in zip(files, predictor.predict_sources(files, jobs=jobs), strict=True):
        found = [p for p in result.predictions if p.task == manifest.task.name]
        if len(found) == 1:
            rows.append(_Answer.of(file.example, found[0]))
        else:
            unanswered.append(f"{file.name} ({_why(result)})")
    if not rows:
        raise DataError(f"none of the {len(files)} images of split '{split}' got an answer: {'; '.join(unanswered[:3])}")
    notes = (f"{len(unanswered)} of {len(files)} images got no answer and are left out: {'; '.join(unanswered[:5])}",) if unanswered else ()
    answered, logits = [row.example for row in rows], [row.logits for row in rows if row.logits is not None]
    return EvaluationInput(
        task=manifest.task.name,
        model_id=rows[0].model_id,
        split_quality=manifest.split_quality,
        file=[e.path for e in answered],
        target=np.asarray(manifest.labels(answered), dtype=np.int64),
        probabilities=np.stack([row.probabilities for row in rows]),
        patient_id=_texts([e.patient_id for e in answered]),
        side=_texts([e.side for e in answered]),
        split=_texts([e.split for e in answered]),
        source=_texts([e.source for e in answered]),
        logits=np.stack(logits).astype(np.float64) if len(logits) == len(rows) else None,
        facts={
            "sha256": _texts([e.sha256 for e in answered]),
            "sex": _texts([e.sex for e in answered]),
            "width": [row.size[1] for row in rows],
            "height": [row.size[0] for row in rows],
        },
        notes=notes + manifest.leaks,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """What is kept of a prediction: not its film."""

    example: Example
    probabilities: NDArray[np.float64]
    logits: NDArray[np.float32] | None
    model_id: str
    size: tuple[int, ...]

    @classmethod
    def of(cls, example: Example, given: Prediction) -> _Answer:
        return cls(example, given.probabilities, given.logits, given.model_id, given.knee.radiograph.pixels.shape)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Draws films of a manifest for a report: as they are, and with the map of what the model answered."""

    predictor: Predictor
    manifest: Manifest

    def film(self, file: str) -> bytes | None:
        """Return the knee in ``file`` as JPEG, or None where there is none."""
        prediction = self._prediction(file)
        return None if prediction is None else knee_jpeg(crop_for_display(prediction.knee, size=SIZE))

    def heatmap(self, file: str) -> bytes | None:
        """Return the knee in ``file`` under its heatmap as PNG, or None where there is none."""
        prediction = self._prediction(file)
        if prediction is None or prediction.heatmap is None:
            return None
        return overlay_png(crop_for_display(prediction.knee, size=SIZE), heatmap=prediction.heatmap)

    def _prediction(self, file: str) -> Prediction | None:
        example = next(e for e in self.manifest.examples if e.path == file)
        result = self.predictor.predict_study(Labelled(self.manifest.path_of(example), example).read())
        return next((p for p in result.predictions if p.task == self.manifest.task.name), None)


def _why(result: FilmResult) -> str:
    return result.rejections[0].detail if result.rejections else f"{len(result.predictions)} knees"


def _texts(values: Sequence[str]) -> list[str | None]:
    return [value or None for value in values]
