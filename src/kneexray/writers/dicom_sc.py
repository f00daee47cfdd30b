"""``dicom/*-sc.dcm``: each film as a Secondary Capture (PS3.3 A.8.1) that any viewer shows: boxes, heat, and what was answered."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from kneexray.render import wording
from kneexray.render.film import BOX, draw_boxes, draw_joint, film_picture, font_file, heated, scaled
from kneexray.types import DicomContext, FilmResult, Knee, Prediction
from kneexray.writers.base import DISCLAIMER, all_warnings
from kneexray.writers.dicom_object import DicomWriter, copy_lossiness, source_reference

if TYPE_CHECKING:
    from kneexray.render.knee_pictures import Album

SIZE = 1280
"""The longer side of the film, in pixels."""

_MARGIN = 20


class FileWriter(DicomWriter):
    """Writes one picture a film, or one a frame that has knees."""

    kind = "sc"
    sop_class = SecondaryCaptureImageStorage
    modality = "OT"
    series_number = 9002

    def _objects(self, result: FilmResult, context: DicomContext, album: Album | None) -> Iterator[tuple[str, Dataset]]:
        frames: dict[int | None, dict[Knee, list[Prediction]]] = {}
        for knee, predictions in result.by_knee().items():
            frames.setdefault(knee.radiograph.frame, {})[knee] = predictions
        for frame, knees in frames.items():
            part = "" if frame is None else f"{frame + 1}"
            dataset = self._new(result, context, description="grades and heatmaps", part=part)
            reference = source_reference(context, frame=frame)
            reference.PurposeOfReferenceCodeSequence = [_purpose()]
            dataset.SourceImageSequence = [reference]
            dataset.ConversionType = "WSD"
            dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
            dataset.BurnedInAnnotation = "YES"
            dataset.DerivationDescription = f"Film with knee boxes, heatmap and grades. {DISCLAIMER}"
            dataset.PatientOrientation = ""
            _set_laterality(dataset, knees)
            copy_lossiness(dataset, context)
            _set_pixels(dataset, annotated(knees))
            yield f"sc-{part}" if part else "sc", dataset


def annotated(knees: dict[Knee, list[Prediction]]) -> NDArray[np.uint8]:
    """Return a film with the box, heat and grade of its knees, and all answers beneath: (H, W, 3) RGB."""
    radiograph = next(iter(knees)).radiograph
    film = film_picture(radiograph, size=SIZE)
    scale = SIZE / max(radiograph.pixels.shape)
    image = Image.fromarray(heated(film, [predictions[0] for predictions in knees.values()], scale=scale))
    draw_boxes(image, list(knees), scale=scale, stroke=3)
    for knee, predictions in knees.items():
        x0, y0, x1, _ = scaled(knee, scale=scale)
        draw_joint(image, knee, at=(x0, y0), size=round(x1 - x0), stroke=2)
        _tag(image, knee, predictions[0], scale=scale)
    lines = [line for knee, predictions in knees.items() for line in _said(knee, predictions)]
    models = dict.fromkeys(prediction.model_id for predictions in knees.values() for prediction in predictions)
    return np.asarray(_captioned(image, [*lines, f"{', '.join(models)}. {DISCLAIMER}"]))


def _tag(image: Image.Image, knee: Knee, prediction: Prediction, *, scale: float) -> None:
    """Write side and grade into the upper left corner of a knee's box."""
    x0, y0, _, _ = scaled(knee, scale=scale)
    text = " ".join((*(knee.side or ""), wording.display(prediction, prediction.grade)))
    typeface = _font(36, bold=True)
    corner = (max(x0, 0), max(y0, 0))
    _, _, width, height = typeface.getbbox(text, anchor="lt")
    pen = ImageDraw.Draw(image)
    pen.rectangle((*corner, corner[0] + width + 20, corner[1] + height + 20), fill=BOX)
    pen.text((corner[0] + 10, corner[1] + 10), text, font=typeface, fill="black", anchor="lt")


def _said(knee: Knee, predictions: Sequence[Prediction]) -> Iterator[str]:
    side = wording.SIDES[knee.side]
    for prediction in predictions:
        probability = wording.percent(float(prediction.probabilities[prediction.grade]))
        yield (
            f"{side}. {wording.title(prediction.task)}: {wording.display(prediction, prediction.grade)} ({probability}), "
            f"{prediction.coverage * 100:g} % prediction set {wording.set_in_words(prediction)}"
        )
    for rows in (*map(wording.grade_changed, predictions), wording.lengths(knee)):
        if rows:
            yield f"{side}. {'; '.join(f'{name}: {value}' for name, value in rows)}"
    yield from dict.fromkeys(f"{side}. Warning: {warning}" for prediction in predictions for warning in all_warnings(prediction))


def _captioned(image: Image.Image, lines: Sequence[str]) -> Image.Image:
    """Return a picture with ``lines`` under it, broken where they are wider."""
    typeface = _font(26)
    broken: list[str] = []
    for line in lines:
        broken.append("")
        for word in line.split(" "):
            longer = f"{broken[-1]} {word}".strip()
            if broken[-1] and typeface.getlength(longer) > image.width - 2 * _MARGIN:
                broken.append(word)
            else:
                broken[-1] = longer
    step = 36
    page = Image.new("RGB", (image.width, image.height + step * len(broken) + 2 * _MARGIN))
    page.paste(image)
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(broken):
        pen.text((_MARGIN, image.height + _MARGIN + step * number), line, font=typeface, fill="white")
    return page


def _set_laterality(dataset: Dataset, knees: Iterable[Knee]) -> None:
    """Say which knees a picture shows (PS3.3 C.7.3.1, C.7.6.1): an empty Laterality says that it is not known."""
    sides = {knee.side for knee in knees}
    if sides == {"L", "R"}:
        dataset.ImageLaterality = "B"
    elif len(sides) == 1 and None not in sides:
        (dataset.ImageLaterality,) = sides
    else:
        dataset.Laterality = ""


def _set_pixels(dataset: Dataset, pixels: NDArray[np.uint8]) -> None:
    """Make (H, W, 3) RGB the pixel data of an object (PS3.3 C.7.6.3)."""
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = pixels.shape
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    data = pixels.tobytes()
    dataset.PixelData = data + bytes(len(data) % 2)
    dataset["PixelData"].VR = "OB"


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(io.BytesIO(font_file(bold=bold).read_bytes()), size)


def _purpose() -> Dataset:
    """Return the code of CID 7202 that says what the film is to the picture."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "121322", "DCM", "Source image for image processing operation"
    return item
