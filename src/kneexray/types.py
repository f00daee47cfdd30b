"""The nouns of the house: frozen records over numpy arrays, no behaviour beyond what their fields imply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["L", "R"]
Box = tuple[float, float, float, float]

OWN = "KneeXRay"
"""What pictures made by this package carry as their software, so that they are not graded themselves."""

REASONS: MappingProxyType[str, str] = MappingProxyType(
    {
        "not_found": "the file or folder does not exist",
        "no_permission": "the file or folder may not be read",
        "empty": "the file holds no bytes",
        "not_an_image": "the bytes are of no image format that KneeXRay reads",
        "truncated": "the file ends before its image does",
        "corrupt": "the image data cannot be decoded",
        "too_large": "the image or archive is larger than the safety limit",
        "unsupported": "a valid file, but of a kind that KneeXRay does not read",
        "no_pixels": "a DICOM object without an image",
        "unsafe_archive": "an archive with members that may not be opened",
        "blank": "the image holds (almost) one value only",
        "not_a_knee": "no AP knee was found on the image",
        "not_ap": "a knee, but not in AP view",
        "several_views": "a further view on a film whose AP knees are graded, or more than two knees",
        "implant": "the knee bears an implant",
        "rotated": "the knee is turned on the film by more than is tolerated",
        "cut_off": "the joint reaches beyond the film's edge",
        "clipped": "much of the joint is all white or all black",
        "too_dark": "the joint shows too few grey values",
        "noisy": "the joint is lost in noise",
        "too_small": "the knee has too few pixels to grade",
        "photograph": "a camera's photograph of a film or screen",
        "low_resolution": "the image was enlarged from one with too few pixels to grade",
        "not_graded": "a knee was seen on the film and not graded",
        "too_costly": "reading the file takes more time or memory than is allowed",
        "failed": "an unexpected failure while this file was graded",
    }
)
"""Why an image got no grade: the code that files carry, and its plain meaning. Reports list both."""


@dataclass(frozen=True, slots=True, eq=False)
class DicomContext:
    """The study, series and patient that a DICOM film belongs to, for objects that go into the same study.

    ``attributes`` maps DICOM keywords to values as the file encodes them, undecoded, so that they are copied to the bit. They name
    the patient: they are left out of what this prints as, and belong in no log and no report.
    """

    attributes: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """One film, as a person would see it on a light box.

    ``pixels`` is (H, W) float32 in [0, 1] in the sense of MONOCHROME2: bone is bright (DICOM PS3.3 C.7.6.3.1.2).
    ``pixel_spacing`` is (between rows, between columns) in mm at the plane that ``pixel_spacing_source`` names
    (``PixelSpacing``, ``ImagerPixelSpacing`` or ``NominalScannedPixelSpacing``). ``source`` is the path as given; a
    member of an archive is ``archive.zip!/member.png``. ``frame`` counts from 0 in multi-frame objects. ``dicom`` is there for
    films that come as DICOM. ``photograph`` says that a camera took the image, by its EXIF data or its colours. ``orientation`` is what
    the header says of how the film hangs: ``usual`` with the patient's right at its left, or ``mirrored``. ``laterality_source`` names the
    attribute that gave the laterality. Where the pixels were turned or stretched after they were read, ``stored`` (a, b, c, d, e, f) leads
    from their places back to those of the stored image: (a x + b y + c, d x + e y + f). ``views`` are the DICOM attributes that name a
    view, each with its kind (``frontal``, ``lateral``, ``oblique``, ``skyline``, ``tunnel``).
    """

    pixels: NDArray[np.float32]
    source: str
    pixel_spacing: tuple[float, float] | None = None
    pixel_spacing_source: str | None = None
    laterality: Literal["L", "R", "B"] | None = None
    view_position: str | None = None
    sop_instance_uid: str | None = None
    frame: int | None = None
    warnings: tuple[str, ...] = ()
    dicom: DicomContext | None = None
    photograph: bool = False
    orientation: Literal["usual", "mirrored"] | None = None
    laterality_source: str | None = None
    stored: tuple[float, float, float, float, float, float] | None = None
    views: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """An image that gets no grade, and why: ``reason`` is a key of :data:`REASONS`, ``detail`` one sentence."""

    source: str
    reason: str
    detail: str
    sop_instance_uid: str | None = None
    dicom: DicomContext | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"unknown rejection reason {self.reason!r}; known: {', '.join(REASONS)}")


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """What one file held: its readable radiographs, and a rejection for each image that could not be read."""

    source: str
    radiographs: tuple[Radiograph, ...] = ()
    rejections: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """How a number differs from that of an earlier film of the same knee, taken ``days`` before.

    ``noise`` is what 95 % of the differences between two films of a knee that did not change stay within, as far as it was measured
    (docs/joint-space.md); None where it was not.
    """

    days: int
    before: float
    now: float
    noise: float | None = None

    @property
    def difference(self) -> float:
        """What came to the number since."""
        return self.now - self.before

    @property
    def exceeds_noise(self) -> bool | None:
        """Whether the number changed by more than repeating the film alone explains; None where that is not known."""
        return None if self.noise is None else abs(self.difference) > self.noise


@dataclass(frozen=True, slots=True)
class Measurement:
    """A length on a knee: ``name`` is a key of :data:`kneexray.tasks.MEASUREMENTS`; ``unit`` 1 means a share of the condyles' width.

    ``line`` is where on the film it was taken: (x0, y0, x1, y1) in its pixels.
    """

    name: str
    value: float
    unit: Literal["mm", "1"]
    line: Box | None = None
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class SideSource:
    """What speaks for the side of a knee: a DICOM attribute, ``marker`` or ``place``; what it ``said``; whether it was ``used``."""

    source: str
    said: str
    used: bool


@dataclass(frozen=True, slots=True, eq=False)
class Knee:
    """One knee on a film.

    ``side`` is the patient's. ``box`` is (x0, y0, x1, y1) in pixels of the film, from the outer edge of the first
    pixel: the whole film is (0, 0, W, H). Its convention is that of
    :mod:`kneexray.geometry`. ``mirrored`` says that the model sees this knee left-right flipped, so that every
    knee looks like a right one. ``score`` in [0, 1] is how sure the locator or gate is that this is an AP knee. ``joint_space`` (n, 3) is
    where the joint space was found: x, and the y of the margins of femur and tibia, in pixels of the film.
    """

    radiograph: Radiograph
    box: Box
    side: Side | None = None
    mirrored: bool = False
    score: float = 1.0
    warnings: tuple[str, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    side_sources: tuple[SideSource, ...] = ()
    joint_space: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A task's answer for one knee.

    ``probabilities`` is (K,) float64, sums to 1, in the order of ``labels``; ``grade`` indexes them. ``prediction_set``
    holds the indices that together contain the true one with probability ``coverage`` (conformal; contiguous for
    ordinal tasks). ``heatmap`` is (h, w) float32 in [0, 1] over the knee's box as it lies on the film (un-mirrored), or None.
    ``logits`` (K,) are what the network said before calibration; None for a task derived from another. ``change`` is that of the
    expected grade, the mean of the grades under ``probabilities``, since an earlier film, and ``earlier`` (K,) what was said of that one.
    """

    task: str
    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]
    grade: int
    prediction_set: tuple[int, ...]
    coverage: float
    knee: Knee
    model_id: str
    heatmap: NDArray[np.float32] | None = None
    warnings: tuple[str, ...] = ()
    logits: NDArray[np.float32] | None = None
    change: Change | None = None
    earlier: NDArray[np.float64] | None = None

    @property
    def label(self) -> str:
        """The name of the grade."""
        return self.labels[self.grade]

    @property
    def source(self) -> str:
        """The file that the knee came from."""
        return self.knee.radiograph.source


@dataclass(frozen=True, slots=True, eq=False)
class FilmResult:
    """Everything said about one file: its predictions (a knee may have several, one a task) and its rejections."""

    source: str
    predictions: tuple[Prediction, ...] = ()
    rejections: tuple[Rejection, ...] = field(default=())

    def by_knee(self) -> dict[Knee, list[Prediction]]:
        """Return the predictions of each knee, in order."""
        knees: dict[Knee, list[Prediction]] = {}
        for prediction in self.predictions:
            knees.setdefault(prediction.knee, []).append(prediction)
        return knees
