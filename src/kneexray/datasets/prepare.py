"""Import of a data set as it was published: its images and one manifest. What is left out is told with the reason."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from kneexray.datasets.example import Example
from kneexray.datasets.gather import Found, gather, on_disk
from kneexray.errors import DataError, OutputError, ReadError
from kneexray.files import make_folder, output_errors
from kneexray.read import read_bytes
from kneexray.read.sniff import SNIFF_BYTES, sniff
from kneexray.tasks import Task

IMAGES = "images"
_BATCH = 64
_EXTENSIONS = {"DICOM": ".dcm", "PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WebP": ".webp", "BMP": ".bmp"}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that did not come into the manifest, and why. ``repeats``: it is no fault, the data set holds it twice."""

    name: str
    reason: str
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import: labelled examples, their paths relative to the output folder or absolute, and what was left out."""

    examples: tuple[Example, ...]
    left_out: tuple[LeftOut, ...]


def prepare(path: Path, out: Path, *, task: Task, progress: Callable[[int], None] = lambda done: None) -> Imported:
    """Read every image of ``path`` and return the examples; images of archives are copied to ``out/images``, others stay where they are.

    Every image is decoded once, so that what cannot be read is told now. ``out/images`` appears when the whole import succeeded; until then
    it is ``images.partial``, which is removed when anything fails. ``progress`` is told how many files were seen. Raises :class:`DataError`
    where nothing maps to a class of ``task`` and :class:`OutputError` where ``out`` already holds images or cannot be written.
    """
    staging, place = out / f"{IMAGES}.partial", out / IMAGES
    make_folder(out)
    shutil.rmtree(staging, ignore_errors=True)
    try:
        examples, left_out = _import(gather(path, task=task), staging, task, progress)
        if not examples:
            raise DataError(
                f"{path}: holds no image that maps to a class of task '{task.name}' ({', '.join(task.labels)}).{_why(left_out)}"
            )
        if staging.exists():
            with output_errors(place):
                staging.rename(place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Imported(tuple(examples), tuple(left_out))


def _import(found: Iterable[Found], folder: Path, task: Task, progress: Callable[[int], None]) -> tuple[list[Example], list[LeftOut]]:
    examples: list[Example] = []
    left_out: list[LeftOut] = []
    seen, taken = 0, set[str]()
    with ThreadPoolExecutor() as pool:
        for batch in _batches(found):
            for item, image in zip(batch, pool.map(_image, batch), strict=True):
                if isinstance(image, LeftOut):
                    left_out.append(image)
                else:
                    examples.append(_example(item, image, folder, task, taken))
            seen += len(batch)
            progress(seen)
    return examples, left_out


@dataclass(frozen=True, slots=True)
class _Image:
    data: bytes
    patient_id: str
    side: str


def _image(found: Found) -> _Image | LeftOut:
    """Return the bytes of an image that can be read, with what its DICOM header adds."""
    if found.problem:
        return LeftOut(found.name, found.problem, found.repeats)
    try:
        data = found.source.load()
    except ReadError as error:
        return LeftOut(found.name, error.detail)
    study = read_bytes(data, source=found.name, limits=found.source.limits)
    if len(study.radiographs) != 1:
        reason = study.rejections[0].detail if study.rejections else f"holds {len(study.radiographs)} images, one is needed"
        return LeftOut(found.name, reason)
    side = study.radiographs[0].laterality or ""
    patient_id = _dicom_patient(data) if not found.patient_id and sniff(data[:SNIFF_BYTES]) == "DICOM" else ""
    return _Image(data, found.patient_id or patient_id, found.side or (side if side in ("L", "R") else ""))


def _example(found: Found, image: _Image, folder: Path, task: Task, taken: set[str]) -> Example:
    file = on_disk(found.source)
    if file is not None:
        path = str(file.resolve())
    else:
        if (old := folder.with_name(IMAGES)).exists():
            raise OutputError(f"{old} is there already. Choose another output folder, or remove it.")
        inside = _free_name(found, image.data, taken)
        target = folder / inside
        with output_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(image.data)
        path = f"{IMAGES}/{inside}"
    sha256 = hashlib.sha256(image.data).hexdigest()
    return Example(path, found.label, task.name, image.patient_id, image.side, found.split, found.data_set, sha256, found.sex)


def _free_name(found: Found, data: bytes, taken: set[str]) -> str:
    """Return a name below the images' folder that no archive can choose: split and label, then the file's own name, plain characters
    only.
    """
    name = PurePosixPath(found.name)
    stem = re.sub(r"[^\w .()+-]", "_", name.stem).strip(" .")[:100] or "image"
    suffix = _EXTENSIONS[sniff(data[:SNIFF_BYTES]) or "PNG"]
    folders = [part for part in (found.split, found.label) if part]
    number = 1
    while (inside := "/".join([*folders, f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"])).lower() in taken:
        number += 1
    taken.add(inside.lower())
    return inside


def _dicom_patient(data: bytes) -> str:
    """Return a pseudonym of the Patient ID (PS3.3 C.7.1.1), the same for all films of a patient; empty where there is none."""
    from pydicom import dcmread

    identifier = str(
        dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=["PatientID"], force=True).get("PatientID", "") or ""
    ).strip()
    return f"p{hashlib.sha256(identifier.encode()).hexdigest()[:12]}" if identifier else ""


def _batches(found: Iterable[Found]) -> Iterator[list[Found]]:
    items = iter(found)
    while batch := list(islice(items, _BATCH)):
        yield batch


def _why(left_out: list[LeftOut]) -> str:
    return f" Left out: {'; '.join(f'{item.name} ({item.reason})' for item in left_out[:5])}." if left_out else ""
