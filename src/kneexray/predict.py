"""From files to predictions: read, find the knees, preprocess, run, calibrate. The one place where these meet."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kneexray import roi
from kneexray.cores import available_cores
from kneexray.errors import ConfigError, KneeXRayError
from kneexray.inference.bundle import Bundle, open_bundle, shipped
from kneexray.inference.calibration import merge
from kneexray.inference.conformal import prediction_set
from kneexray.inference.preprocess import batch
from kneexray.inference.session import Session
from kneexray.measure import joint_space
from kneexray.read.objects import sources_of
from kneexray.render.heatmap import finding_map, on_box
from kneexray.render.reading import NO_SIDE
from kneexray.tasks import Task, expand, get_task
from kneexray.types import FilmResult, Knee, Prediction, Rejection, Study

logger = logging.getLogger(__name__)

NO_MAP = "this model has no class map: there is no heatmap"

HEATMAP = (64, 64)
"""Height and width of a prediction's heatmap, over the whole of the knee's box."""


class Readable(Protocol):
    """Something with a name that can be read into a study, on any thread."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def read(self) -> Study:
        """Return its radiographs and rejections."""


class Predictor:
    """Grades films. Threads may share it, and it can be pickled to other processes.

    ``tasks`` are names of :data:`kneexray.tasks.TASKS`; a derived one (OA) is answered by the model of the task that it
    derives from. ``models`` are bundle folders that replace the shipped models of their tasks. Prediction sets hold the true
    grade with probability ``coverage``; with ``per_class`` within every true grade, not only on average. ``threads`` is how
    many cores one network call uses (0: all), ``provider`` what networks run on (a row of :data:`kneexray.inference.engines.PROVIDERS`, or
    ``auto``).

    Raises :class:`~kneexray.errors.BundleError` for a task without a model and :class:`~kneexray.errors.ConfigError`
    for an unknown task or a coverage out of range.
    """

    def __init__(
        self,
        *,
        tasks: Sequence[str] = ("kl",),
        models: Sequence[str | Path] = (),
        roi_mode: roi.Mode = "auto",
        coverage: float = 0.9,
        per_class: bool = False,
        heatmaps: bool = True,
        threads: int = 0,
        provider: str = "auto",
    ) -> None:
        self._options: dict[str, Any] = {
            "tasks": tuple(tasks),
            "models": tuple(models),
            "roi_mode": roi_mode,
            "coverage": coverage,
            "per_class": per_class,
            "heatmaps": heatmaps,
            "threads": threads,
            "provider": provider,
        }
        self.roi_mode: roi.Mode = roi_mode
        self.coverage = coverage
        self.heatmaps = heatmaps
        self.graders = [
            Grader(bundle, asked, coverage=coverage, per_class=per_class, heatmaps=heatmaps, threads=threads, provider=provider)
            for bundle, asked in _by_model([get_task(name) for name in expand(tasks)], models)
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        return _predictor, (self._options,)

    @property
    def model_ids(self) -> tuple[str, ...]:
        """The models in use."""
        return tuple(grader.bundle.card.model_id for grader in self.graders)

    @property
    def device(self) -> str:
        """What the networks run on; loads them. Raises :class:`ConfigError` where that is not to be had."""
        return self.graders[0].session.device

    def model_facts(self) -> dict[str, dict[str, str]]:
        """Return what a report says about each model, by its id."""
        facts = {}
        for grader in self.graders:
            card = grader.bundle.card
            score = card.scores["accuracy"]
            facts[card.model_id] = {
                "task": grader.bundle.task.title,
                "trained on": f"{card.data.title}: {card.data.images} images of {card.data.patients} patients",
                "accuracy": f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f}, n = {card.scores['n']}) on {card.scores_on}",
                "licence": card.licence,
                "SHA-256": card.sha256,
            }
        return facts

    def load(self) -> None:
        """Load the networks now rather than at the first image."""
        for grader in self.graders:
            grader.session.load()

    def predict_study(self, study: Study) -> FilmResult:
        """Return everything said about the radiographs of one file."""
        return self.predict_studies([study])[0]

    def predict_studies(self, studies: Sequence[Study]) -> list[FilmResult]:
        """Return the results of several files, their knees graded as one batch."""
        knees: list[Knee] = []
        owners: list[int] = []
        rejections: list[list[Rejection]] = [list(study.rejections) for study in studies]
        for number, study in enumerate(studies):
            for radiograph in study.radiographs:
                found = roi.find_knees(radiograph, mode=self.roi_mode)
                rejections[number].extend(found.rejections)
                knees.extend(found.knees)
                owners.extend([number] * len(found.knees))
        answers: list[list[Prediction]] = [[] for _ in studies]
        knees = joint_space.measure(knees)
        if knees:
            per_grader = [grader.grade(knees) for grader in self.graders]
            for i, owner in enumerate(owners):
                mine = [prediction for predictions in per_grader for prediction in predictions[i]]
                answers[owner].extend(mine)
                if not mine:
                    film = knees[i].radiograph
                    rejections[owner].append(Rejection(film.source, "not_graded", NO_SIDE, film.sop_instance_uid, film.dicom))
        return [
            FilmResult(source=study.source, predictions=tuple(mine), rejections=tuple(refused))
            for study, mine, refused in zip(studies, answers, rejections, strict=True)
        ]

    def predict(self, films: Any, *, jobs: int = 0, batch_size: int = 1) -> Iterator[FilmResult]:
        """Yield a result for each of ``films``, in order: see :meth:`predict_sources`.

        ``films`` is one of these, or an iterable of them: a path (a file, folder, glob or archive), bytes or a binary file of a film, a
        Pillow image, a numpy array (H, W) or (H, W, 3) of uint8, uint16 or floats, a pydicom data set. Raises TypeError for anything else.
        """
        return self.predict_sources(sources_of(films), jobs=jobs, batch_size=batch_size)

    def predict_sources(self, sources: Iterable[Readable], *, jobs: int = 0, batch_size: int = 1) -> Iterator[FilmResult]:
        """Yield a result for each of ``sources``, in order, holding only a few at a time.

        ``jobs`` threads (0: one a core) each read and grade ``batch_size`` files at a time. A file that fails
        unexpectedly is a rejection; the others go on.
        """
        workers = jobs or available_cores()
        chunks = _chunks(iter(sources), batch_size)
        first = next(chunks, None)
        if first is None:
            return
        self.load()
        with ThreadPoolExecutor(workers, thread_name_prefix="kneexray") as pool:
            waiting: deque[Future[list[FilmResult]]] = deque([pool.submit(self.grade_sources, first)])
            try:
                for chunk in chunks:
                    waiting.append(pool.submit(self.grade_sources, chunk))
                    while len(waiting) > 2 * workers:
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def grade_sources(self, sources: Sequence[Readable]) -> list[FilmResult]:
        """Return the result of each of ``sources``, read and graded together on this thread; one that fails unexpectedly is a rejection."""
        studies = [_read(source) for source in sources]
        try:
            return self.predict_studies(studies)
        except Exception:  # one film must not take its neighbours down: find out which one it was
            logger.exception("grading %d file(s) together failed; grading them one by one", len(studies))
            return [self._grade_or_reject(study) for study in studies]

    def _grade_or_reject(self, study: Study) -> FilmResult:
        try:
            return self.predict_study(study)
        except Exception as error:
            logger.exception("grading %s failed", study.source)
            return FilmResult(source=study.source, rejections=(_failure(study.source, error),))


class Grader:
    """One model and the tasks that it answers."""

    def __init__(
        self,
        bundle: Bundle,
        tasks: Sequence[Task],
        *,
        coverage: float,
        per_class: bool = False,
        heatmaps: bool,
        threads: int,
        provider: str = "cpu",
    ) -> None:
        self.bundle = bundle
        self.session = Session(bundle, threads=threads, provider=provider)
        self.tasks = tuple(tasks)
        self.coverage = coverage
        self.heatmaps = heatmaps
        self.calibrations = {base: bundle.calibration_of(base) for base in map(_base, self.tasks)}
        self._limits = {
            task.name: self.calibrations[_base(task)].limits(task.name, coverage=coverage, per_class=per_class) for task in self.tasks
        }
        self._no_map = (NO_MAP,) if heatmaps and not bundle.card.class_map else ()

    def grade(self, knees: Sequence[Knee]) -> list[list[Prediction]]:
        """Return, for each knee, one prediction a task: of a knee of unknown side none for a compartment, which nobody could name."""
        given = self.session.answers(batch(knees, self.bundle.geometry), cam=self.heatmaps)
        answered = {base: calibration.apply(given.logits[:, self._columns(base)]) for base, calibration in self.calibrations.items()}
        out: list[list[Prediction]] = []
        for i, knee in enumerate(knees):
            maps: dict[str, NDArray[np.float32] | None] = {}
            if knee.side is None and any(task.compartment for task in self.tasks):
                knee = replace(knee, warnings=(*knee.warnings, NO_SIDE))
            mine = []
            for task in self.tasks:
                if task.compartment and knee.side is None:
                    continue
                base = _base(task)
                probabilities = answered[base][i]
                if base not in maps:
                    maps[base] = None if given.cam is None else self._heatmap(knee, given.cam[i, self._columns(base)], probabilities)
                mine.append(self._answer(task, knee, given.logits[i, self._columns(base)], probabilities, maps[base]))
            out.append(mine)
        return out

    def _columns(self, base: str) -> slice:
        return self.bundle.card.columns(base)

    def _heatmap(self, knee: Knee, cam: NDArray[np.float32], probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the map of the finding, from class maps (K, h, w), over the knee's box as it lies on the film."""
        window = self.bundle.geometry.seen_of_box(knee)
        heatmap = on_box(finding_map(cam, probabilities), window=window, shape=HEATMAP)
        return np.ascontiguousarray(heatmap[:, ::-1]) if knee.mirrored else heatmap

    def _answer(self, task: Task, knee: Knee, logits: np.ndarray, probabilities: np.ndarray, heatmap: np.ndarray | None) -> Prediction:
        base = _base(task)
        if task.derived is not None:
            probabilities = merge(probabilities, first_positive=task.derived[1])
        return Prediction(
            task=task.name,
            labels=task.labels,
            probabilities=probabilities,
            grade=int(probabilities.argmax()),
            prediction_set=prediction_set(probabilities, self._limits[task.name], ordinal=self.calibrations[base].ordinal),
            coverage=self.coverage,
            knee=knee,
            model_id=self.bundle.card.model_id,
            heatmap=heatmap,
            warnings=(
                *knee.radiograph.warnings,
                *knee.warnings,
                *self.bundle.card.head(base).warnings,
                *((task.caution,) if task.caution else ()),
                *self._no_map,
            ),
            logits=None if task.derived is not None else logits,
        )


def _predictor(options: dict[str, Any]) -> Predictor:
    """Make a predictor anew where a pickled one arrives: it opens its bundles there."""
    return Predictor(**options)


def _by_model(tasks: Sequence[Task], models: Sequence[str | Path]) -> list[tuple[Bundle, list[Task]]]:
    """Return the models that answer ``tasks``, each with those that it answers: of ``models`` where one does, else what ships.

    Raises :class:`ConfigError` where one of ``models`` answers none of them.
    """
    given = [open_bundle(model) for model in models]
    groups: dict[Path, tuple[Bundle, list[Task]]] = {}
    for task in tasks:
        base = _base(task)
        bundle = next((one for one in given if base in one.card.tasks), None)
        place = bundle.folder if bundle else shipped(base)
        if place not in groups:
            groups[place] = (bundle or open_bundle(place), [])
        groups[place][1].append(task)
    for one in given:
        if one.folder not in groups:
            raise ConfigError(
                f"--model: {one.folder} answers {', '.join(one.card.tasks)}, none of the tasks asked "
                f"({', '.join(task.name for task in tasks)}). Add --task {one.card.task}."
            )
    return list(groups.values())


def _base(task: Task) -> str:
    """Return the task whose answer ``task`` is read from."""
    return task.derived[0] if task.derived else task.name


def _read(source: Readable) -> Study:
    try:
        return source.read()
    except Exception as error:
        logger.exception("reading %s failed", source.name)
        return Study(source=source.name, rejections=(_failure(source.name, error),))


def _failure(source: str, error: Exception) -> Rejection:
    detail = str(error) if isinstance(error, KneeXRayError) else f"{type(error).__name__}: {error}"
    return Rejection(source=source, reason="failed", detail=f"{detail}; please report this file's kind as an issue")


def _chunks(sources: Iterator[Readable], size: int) -> Iterator[list[Readable]]:
    while chunk := list(islice(sources, size)):
        yield chunk
