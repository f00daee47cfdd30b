"""Whether two images show the same film: their points are laid over each other, then their detail is compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneexray.datasets.audit.near import GROWTH, TURN, mirrored, root_sift
from kneexray.datasets.audit.scan import Points, opencv

ALIKE = 0.8
"""Least affinity of two descriptors of one detail."""
TOLERANCE = 4.0
"""Farthest that a point may lie from where the other image has it, in pixels of the view (of some 288)."""
FEWEST_POINTS = 12
LEAST_AGREEMENT = 0.6
LEAST_SCORE = 1.1
"""Copies of real films score 1.2 and more; the two knees of one person, one of them mirrored, reach 0.95 (benchmarks/audit.py)."""
LEAST_OVERLAP = 0.25
_TURN_BIN, _GROWTH_BIN = 8.0, 0.35  # degrees, doublings
_SOFTEN = 1.2  # pixels: what the alignment may be off


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """How the second image lies over the first: ``matrix`` (2, 3) takes points of the first view to the second (mirrored, if ``mirrored``).

    ``points`` counts the details that agree.
    """

    matrix: NDArray[np.float64]
    mirrored: bool
    points: int

    @property
    def scale(self) -> float:
        """How much larger the second image shows things, in views."""
        return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))

    @property
    def turn(self) -> float:
        """By how many degrees the second is turned."""
        return float(np.degrees(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two laid-over images are. ``agreement`` is the correlation of their local detail, in [-1, 1]; ``overlap`` the share of the
    smaller image that both show; ``covered`` the shares of the first and of the second image that the other shows; ``gain`` the ratio of
    their contrasts.
    """

    points: int
    agreement: float
    overlap: float
    covered: tuple[float, float]
    gain: float

    @property
    def score(self) -> float:
        """How sure it is that both show the same film: agreement, and a hundredth for each point that agrees."""
        return self.agreement + self.points / 100

    @property
    def same(self) -> bool:
        """Whether both show the same film."""
        return self.score >= LEAST_SCORE and self.agreement >= LEAST_AGREEMENT and self.overlap >= LEAST_OVERLAP


def overlay(first: Points, second: Points, *, flip: bool) -> Overlay | None:
    """Return how ``second`` (mirrored, if ``flip``) lies over ``first``, or None where too few details agree."""
    other = mirrored(second) if flip else second
    affinity = root_sift(first.descriptor) @ root_sift(other.descriptor).T  # (N, M)
    turn = (first.frame[:, None, 3] - other.frame[None, :, 3] + 180) % 360 - 180
    growth = np.log2(first.frame[:, None, 2] / other.frame[None, :, 2])
    affinity[(np.abs(turn) > TURN) | (np.abs(growth) > GROWTH)] = -1
    best = affinity.argmax(axis=1)
    rows = np.arange(len(best))
    rows = rows[(affinity.argmax(axis=0)[best] == rows) & (affinity[rows, best] > ALIKE)]
    rows = rows[_agreeing(turn[rows, best[rows]], growth[rows, best[rows]])]
    if len(rows) < FEWEST_POINTS:
        return None
    cv2 = opencv()
    source, target = first.frame[rows, :2], other.frame[best[rows], :2]
    matrix, agree = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=TOLERANCE, maxIters=500, confidence=0.99
    )
    if matrix is None:
        return None
    found = Overlay(matrix, flip, int(agree.sum()))
    plausible = found.points >= FEWEST_POINTS and abs(found.turn) <= TURN and 2**-GROWTH <= found.scale <= 2**GROWTH
    return found if plausible else None


def _agreeing(turn: NDArray[np.float32], growth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say which of the matched points (N,) turn and grow as most of them do: a copy is turned and scaled as a whole."""
    if len(turn) == 0:
        return np.zeros(0, bool)
    alike = (np.abs(turn[:, None] - turn) < _TURN_BIN) & (np.abs(growth[:, None] - growth) < _GROWTH_BIN)  # (N, N)
    return np.asarray(alike[alike.sum(axis=1).argmax()])


def likeness(
    first: tuple[NDArray[np.uint8], NDArray[np.uint8]], second: tuple[NDArray[np.uint8], NDArray[np.uint8]], over: Overlay
) -> Likeness:
    """Return how alike two images are, each given as its view and as the plain image at that size, both (h, w) uint8."""
    cv2 = opencv()
    height, width = first[0].shape
    flip = (slice(None), slice(None, None, -1)) if over.mirrored else (slice(None), slice(None))

    def laid(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        plain = np.ascontiguousarray(image[flip]).astype(np.float32)
        return np.asarray(cv2.warpAffine(plain, over.matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))

    seen = laid(np.full_like(second[0], 255)) > 254
    area = float(seen.mean())
    covered = (area, min(1.0, area * height * width * over.scale**2 / second[0].size))
    if seen.sum() < 256:
        return Likeness(over.points, 0.0, 0.0, covered, 1.0)
    a = cv2.GaussianBlur(first[0].astype(np.float32), (0, 0), _SOFTEN)[seen]
    b = cv2.GaussianBlur(laid(second[0]), (0, 0), _SOFTEN)[seen]
    spread = float(a.std() * b.std())
    agreement = float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else 0.0
    gain = float((laid(second[1])[seen].std() + 1) / (first[1].astype(np.float32)[seen].std() + 1))
    return Likeness(over.points, agreement, max(covered), covered, gain)


def describe(over: Overlay, like: Likeness) -> str:
    """Return in words what was done to one image to make the other: mirrored, turned, cropped, contrast changed; or nothing of that."""
    words = ["mirrored"] if over.mirrored else []
    if abs(over.turn) > 1:
        words.append(f"turned {abs(over.turn):.0f}°")
    if min(like.covered) < 0.93:
        words.append(f"cropped: one shows {min(like.covered):.0%} of the other")
    if not 0.87 < like.gain < 1.15:
        words.append("contrast changed")
    return ", ".join(words) or "same framing: encoded or resized again"
