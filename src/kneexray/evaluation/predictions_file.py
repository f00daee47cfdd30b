"""``predictions.parquet``: a model's stored answers, one knee a row, from which every figure can be made again.

Columns: ``file, label, task, patient_id, side, split, source, probabilities, grade, logits, model_id, split_quality``, and where known
``sha256, sex, width, height``; ``label`` and ``grade`` are the labels' names, ``probabilities`` and ``logits`` lists in the labels'
order. Files of other tools may hold ``p_0, p_1 ...`` in place of ``probabilities``, and need only ``file, label, task`` beside them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneexray.errors import DataError, MissingExtraError, choices
from kneexray.evaluation.inputs import FACTS, SPLIT_QUALITY, EvaluationInput, Invalid, leave_out, usable
from kneexray.files import write_whole
from kneexray.tasks import TASKS, Task, get_task

_NEEDED = ("file", "label", "task")
_OPTIONAL = ("patient_id", "side", "split", "source", "model_id", "split_quality", "probabilities", "logits", *FACTS)


def read_predictions(path: Path | str, *, task: str | None = None, invalid: Invalid = "raise") -> EvaluationInput:
    """Read ``path``; ``task`` chooses where it holds several.

    Without a ``split_quality`` column it is ``patient`` if every row names its patient, else ``image``. Raises
    :class:`~kneexray.errors.DataError` that names the file, the row's file and the value for whatever cannot be used; with
    ``invalid="drop"`` rows with an unknown label or impossible probabilities are left out and noted instead.
    """
    columns = _columns(Path(path))
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise DataError(f"{path}: no column {' or '.join(missing)}; it has {', '.join(columns)}")
    tasks = sorted({str(name) for name in columns["task"]})
    if task is None and len(tasks) != 1:
        raise DataError(f"{path}: holds {'several tasks: ' + ', '.join(tasks) if tasks else 'no task'}; name one to evaluate")
    if task is None and tasks[0] not in TASKS:
        raise DataError(f"{path}: {choices('task', tasks[0], TASKS)}")
    chosen = get_task(task or tasks[0])
    rows = [row for row, name in enumerate(columns["task"]) if name == chosen.name]
    if not rows:
        raise DataError(f"{path}: {choices('task', chosen.name, tasks)}")
    columns = {name: [values[row] for row in rows] for name, values in columns.items()}
    try:
        return usable(_inputs(columns, chosen, invalid=invalid), invalid=invalid)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def write_predictions(path: Path | str, inputs: EvaluationInput) -> None:
    """Write ``inputs`` as a Parquet file that :func:`read_predictions` reads back; ``label`` is null where it is not known.

    Raises :class:`~kneexray.errors.OutputError` where ``path`` cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    labels, n = get_task(inputs.task).labels, len(inputs.file)
    texts = {name: [text or None for text in getattr(inputs, name)] for name in ("patient_id", "side", "split", "source")}
    truth = [labels[target] if 0 <= target < len(labels) else None for target in inputs.target]
    answer = [labels[grade] for grade in np.argmax(inputs.probabilities, axis=1)]
    columns = {"file": list(inputs.file), "label": truth, "task": [inputs.task] * n, **texts, "grade": answer}
    columns |= {"model_id": [inputs.model_id] * n, "split_quality": [inputs.split_quality] * n}
    arrays = {name: pyarrow.array(values, pyarrow.string()) for name, values in columns.items()}
    kinds = {str: pyarrow.string(), int: pyarrow.int64()}
    arrays |= {name: pyarrow.array(values, kinds[FACTS[name]]) for name, values in inputs.facts.items()}
    lists = pyarrow.list_(pyarrow.float64())
    arrays["probabilities"] = pyarrow.array(np.asarray(inputs.probabilities, dtype=np.float64).tolist(), lists)
    arrays["logits"] = pyarrow.nulls(n, lists) if inputs.logits is None else pyarrow.array(inputs.logits.tolist(), lists)
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays), sink)
    write_whole(path, sink.getvalue())


def _columns(path: Path) -> dict[str, list[Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("reading a predictions file", "eval") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [name for name in names if name in (*_NEEDED, *_OPTIONAL) or name.removeprefix("p_").isdigit()]
            table = file.read(columns=wanted)
    except FileNotFoundError:
        raise DataError(f"{path}: no such predictions file") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from error
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _inputs(columns: dict[str, list[Any]], task: Task, *, invalid: Invalid) -> EvaluationInput:
    n = len(columns["file"])
    place = {label: index for index, label in enumerate(task.labels)}
    named = [None if label is None else task.label_of(str(label)) for label in columns["label"]]
    patient_id = _texts(columns, "patient_id", n)
    inputs = EvaluationInput(
        task=task.name,
        model_id=_one(columns, "model_id") or "unknown",
        split_quality=_split_quality(_one(columns, "split_quality") or ("patient" if all(patient_id) else "image")),
        file=[str(name) for name in columns["file"]],
        target=np.array([-1 if label is None else place[label] for label in named], dtype=np.int64),
        probabilities=_probabilities(columns, task),
        patient_id=patient_id,
        side=_texts(columns, "side", n),
        split=_texts(columns, "split", n),
        source=_texts(columns, "source", n),
        logits=_logits(columns, task),
        facts={name: _facts(columns, name) for name in FACTS if name in columns},
    )
    unknown = {
        row: choices("label", columns["label"][row], task.labels) if columns["label"][row] is not None else "it has no label"
        for row, label in enumerate(named)
        if label is None
    }
    return leave_out(inputs, unknown, invalid=invalid)


def _texts(columns: dict[str, list[Any]], name: str, n: int) -> list[str | None]:
    return [None if value is None else str(value) for value in columns.get(name, [None] * n)]


def _facts(columns: dict[str, list[Any]], name: str) -> list[Any]:
    try:
        return [None if value is None else FACTS[name](value) for value in columns[name]]
    except (TypeError, ValueError) as error:
        raise DataError(f"column {name} holds a value that is no {FACTS[name].__name__} ({error})") from None


def _one(columns: dict[str, list[Any]], name: str) -> str | None:
    """Return the one value of a column that must be constant, None where the column is absent or empty."""
    values = sorted({str(value) for value in columns.get(name, []) if value is not None})
    if len(values) > 1:
        raise DataError(f"holds several values of {name} ({', '.join(values[:5])}); keep one a file")
    return values[0] if values else None


def _split_quality(text: str) -> Any:
    if text not in SPLIT_QUALITY:
        raise DataError(choices("split quality", text, SPLIT_QUALITY))
    return text


def _probabilities(columns: dict[str, list[Any]], task: Task) -> NDArray[np.float64]:
    if "probabilities" in columns:
        return _matrix(columns["probabilities"], columns["file"], task, what="probabilities")
    names = [f"p_{place}" for place in range(len(task.labels))]
    if missing := [name for name in names if name not in columns]:
        raise DataError(f"no column probabilities, and no {', '.join(missing)} in its place")
    return _matrix(list(zip(*(columns[name] for name in names), strict=True)), columns["file"], task, what="probabilities")


def _logits(columns: dict[str, list[Any]], task: Task) -> NDArray[np.float64] | None:
    values = columns.get("logits", [])
    if not values or all(value is None for value in values):
        return None
    return _matrix(values, columns["file"], task, what="logits")


def _matrix(values: list[Any], files: list[Any], task: Task, *, what: str) -> NDArray[np.float64]:
    """Return (N, K), null numbers as NaN; rows of another length are an error that names the first."""
    classes = len(task.labels)
    rows = [[None] * classes if row is None else row for row in values]
    for file, row in zip(files, rows, strict=True):
        if len(row) != classes:
            raise DataError(f"{file}: {len(row)} {what} for the {classes} labels of task {task.name!r} ({', '.join(task.labels)})")
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64).reshape(-1, classes)
