"""One knee, one model, one grade, one method: the answer, and the map of what speaks for that grade."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneexray.errors import ConfigError
from kneexray.inference.bundle import Bundle
from kneexray.inference.calibration import softmax
from kneexray.inference.preprocess import Geometry, preprocess
from kneexray.predict import Grader
from kneexray.render.heatmap import heatmap_from_cam, on_box
from kneexray.tasks import Task, get_task
from kneexray.types import Box, Knee, Prediction

CLASS_MAP = "cam"
"""The method that a bundle has inside: the class map."""


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The answer of a model for a knee, and why it would say ``grade``.

    ``cam`` (h, w) is the map as the method gave it, positive where it speaks for the grade, over ``window`` (film pixels): the part of the
    knee that the model sees. The prediction's heatmap is the same in [0, 1] over the knee's box, a value a film pixel. Both lie as
    the knee lies on the film.
    """

    prediction: Prediction
    grade: int
    method: str
    cam: NDArray[np.float32]
    window: Box


@dataclass(frozen=True, slots=True)
class Explainer:
    """A model that can be asked why. ``answer`` gives the prediction for a knee, ``attribute`` the map (h, w) of a grade as the model
    sees the knee: left ones mirrored.
    """

    task: Task
    method: str
    geometry: Geometry
    answer: Callable[[Knee], Prediction]
    attribute: Callable[[Knee, int], NDArray[np.float32]]

    def explain(self, knee: Knee, *, grade: int | None = None) -> Explanation:
        """Return why the model would say ``grade``, by default what it does say."""
        prediction = self.answer(knee)
        asked = prediction.grade if grade is None else grade
        cam = self.attribute(knee, asked)
        cam = np.ascontiguousarray(cam[:, ::-1]) if knee.mirrored else cam
        x0, y0, x1, y1 = knee.box
        shape = (max(1, round(y1 - y0)), max(1, round(x1 - x0)))
        heatmap = on_box(heatmap_from_cam(cam), window=self.geometry.seen_of_box(knee), shape=shape)
        return Explanation(replace(prediction, heatmap=heatmap), asked, self.method, cam, self.geometry.seen(knee))


def of_bundle(bundle: Bundle) -> Explainer:
    """Return the explainer of a bundle: its class map. Raises :class:`~kneexray.errors.ConfigError` where it has none."""
    grader = Grader(bundle, [bundle.task], coverage=0.9, heatmaps=False, threads=0)

    def attribute(knee: Knee, grade: int) -> NDArray[np.float32]:
        _, cam = grader.session.run(preprocess(knee, bundle.geometry)[None])
        if cam is None:
            raise ConfigError(f"{bundle.folder}: this model has no class map. Explain the run it came from, with --checkpoint RUN.")
        return np.asarray(cam[0, grade])

    return Explainer(bundle.task, CLASS_MAP, bundle.geometry, lambda knee: grader.grade([knee])[0][0], attribute)


def of_checkpoint(path: Path, *, method: str) -> Explainer:
    """Return the explainer of a run folder or checkpoint by ``method``, a key of :data:`kneexray.attribution.methods.METHODS`.

    It answers in one pass over the image, without the calibration that a bundle has.
    """
    import torch

    from kneexray.attribution import methods

    methods.check(method)
    net, config = methods.load(path)
    task = get_task(config.task)
    geometry = config.input.geometry

    def answer(knee: Knee) -> Prediction:
        with torch.inference_mode():
            logits = net(torch.from_numpy(preprocess(knee, geometry))[None])[0].numpy()
        probabilities = softmax(logits)
        return Prediction(
            task=task.name,
            labels=task.labels,
            probabilities=probabilities,
            grade=int(probabilities.argmax()),
            prediction_set=tuple(range(len(task.labels))),
            coverage=1.0,
            knee=knee,
            model_id=f"{path.name} ({config.model.backbone}, not calibrated)",
            warnings=(*knee.radiograph.warnings, *knee.warnings),
        )

    def attribute(knee: Knee, grade: int) -> NDArray[np.float32]:
        return methods.attribute(net, preprocess(knee, geometry), method=method, grade=grade)

    return Explainer(task, method, geometry, answer, attribute)
