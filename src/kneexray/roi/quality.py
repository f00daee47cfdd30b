"""What keeps a joint that was found from being graded: rules on its box and on the grey values in it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneexray.roi.gate import MINIMUM_PIXELS
from kneexray.roi.localiser import Joint
from kneexray.types import Box

JOINT_REGION = (0.12, 0.40, 0.88, 0.75)
"""Of a knee's box, what must be on the film: condyles, joint space and plateau. The joint line lies at 0.59 of the height."""
MOST_CUT = 0.05
"""Largest share of the joint region that may lie outside the film."""
MOST_TILT = 25.0
"""Largest tilt of a leg in degrees."""
MOST_CLIPPED = 0.3
"""Largest share of the joint region's pixels that may be all white, or all black."""
LEAST_RANGE = 0.05
"""Least range of grey values (1st to 99th percentile) in the joint region."""

NOISE_SIDE = 288
"""Side of a knee's box in pixels, about, at which its noise is measured: a network sees as much of it."""
NOISY, MOST_NOISE = 0.015, 0.04
"""Noise that is warned of, and the most that is graded, as shares of the grey range (docs/localiser.md)."""
NOISE_WARNING = "the knee is noisy: grades of noisy knees are right less often; give a film of higher dose, or one that was not sharpened"


def objection(pixels: NDArray[np.float32], joint: Joint) -> tuple[str, str] | None:
    """Return why a ``joint`` on a film (H, W) in [0, 1] must not be graded, as a reason and a sentence, or None."""
    if joint.kind == "implant":
        return "implant", "the knee bears an implant; grades of osteoarthritis are of native knees"
    if joint.kind == "lateral":
        return "not_ap", "the knee is seen from the side; give a frontal (AP) film"
    side = joint.box[2] - joint.box[0]
    if side < MINIMUM_PIXELS:
        return "too_small", f"the knee is {side:.0f} px wide; {MINIMUM_PIXELS} px are needed. Give the film at full resolution"
    if abs(joint.tilt) > MOST_TILT:
        way = "clockwise" if joint.tilt > 0 else "counter-clockwise"
        return (
            "rotated",
            f"the leg is turned {way} by some {abs(joint.tilt):.0f} degrees on the film, {MOST_TILT:.0f} is the most; turn it back",
        )
    region = joint_region(joint.box)
    height, width = pixels.shape
    cut = 1 - _inside(region, width, height)
    if cut > MOST_CUT:
        return "cut_off", f"{cut:.0%} of the joint lies beyond the film's edge"
    return _exposure(on_film(pixels, region))


def noise(pixels: NDArray[np.float32], box: Box) -> float:
    """Return the noise in the joint region of a knee's ``box`` on a film (H, W): its standard deviation, a share of the grey range.

    The mean size of what a difference of two Laplacians, blind to edges, leaves (Immerkaer, Comput Vis Image Underst 1996;64:300), of means
    over as many pixels as bring the box nearest to :data:`NOISE_SIDE`: white noise stays white in them, as it would not in interpolated
    ones. Bone's own texture counts as a little noise. 0 where too little of the region lies on the film.
    """
    joint = on_film(pixels, joint_region(box))
    if min(joint.shape) < 3:
        return 0.0
    seen = np.asarray(Image.fromarray(np.ascontiguousarray(joint)).reduce(max(1, round((box[2] - box[0]) / NOISE_SIDE))))
    down = seen[2:] - 2 * seen[1:-1] + seen[:-2]
    across = down[:, 2:] - 2 * down[:, 1:-1] + down[:, :-2]
    return float(np.abs(across).mean()) * math.sqrt(math.pi / 2) / 6 if across.size else 0.0


def noise_objection(level: float) -> tuple[str, str] | None:
    """Return why a knee with noise of ``level`` must not be graded, as a reason and a sentence, or None."""
    if level <= MOST_NOISE:
        return None
    return "noisy", f"noise of {level:.1%} of the grey range hides the joint; {MOST_NOISE:.1%} is the most. Give a film of higher dose"


def joint_region(box: Box) -> Box:
    """Return the part of a knee's ``box`` that must be on the film."""
    x0, y0, side = box[0], box[1], box[2] - box[0]
    left, top, right, bottom = JOINT_REGION
    return (x0 + left * side, y0 + top * side, x0 + right * side, y0 + bottom * side)


def _exposure(joint: NDArray[np.float32]) -> tuple[str, str] | None:
    joint = joint[:: math.ceil(joint.shape[0] / 128), :: math.ceil(joint.shape[1] / 128)]
    white, black = float((joint >= 0.995).mean()), float((joint <= 0.005).mean())
    if max(white, black) > MOST_CLIPPED:
        colour, share = ("white", white) if white > black else ("black", black)
        return "clipped", f"{share:.0%} of the joint's pixels are all {colour}: detail is lost; check the window or the exposure"
    low, high = np.percentile(joint, (1, 99))
    if high - low < LEAST_RANGE:
        return "too_dark", f"the joint's grey values span {high - low:.1%} of the range: under- or over-exposed, or a wrong window"
    return None


def _inside(region: Box, width: int, height: int) -> float:
    """Return the share of ``region`` that lies on a film."""
    x0, y0, x1, y1 = region
    across, down = min(x1, width) - max(x0, 0.0), min(y1, height) - max(y0, 0.0)
    return max(0.0, across) * max(0.0, down) / ((x1 - x0) * (y1 - y0))


def on_film(pixels: NDArray[np.float32], region: Box) -> NDArray[np.float32]:
    """Return the pixels of ``region`` that a film (H, W) has."""
    height, width = pixels.shape
    return pixels[_whole(region[1], height) : _whole(region[3], height), _whole(region[0], width) : _whole(region[2], width)]


def _whole(edge: float, length: int) -> int:
    return min(length, max(0, round(edge)))
