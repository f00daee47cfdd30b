"""Chen 2018: Knee Osteoarthritis Severity Grading Dataset (crops of the Osteoarthritis Initiative), KL 0-4.

Chen P, Gao L, Shi X, Allen K, Yang L. Fully automatic knee osteoarthritis severity grading using deep neural networks
with a novel ordinal loss. Comput Med Imaging Graph 2019;75:84-92. Mendeley Data, doi:10.17632/56rmx5bjcr.1.
"""

from __future__ import annotations

import re

from kneexray.types import Side

TITLE = "Knee Osteoarthritis Severity Grading Dataset (Chen 2018)"
LICENCE = "CC BY 4.0 (the terms of the Osteoarthritis Initiative may apply)"
_NAME = re.compile(r"^(9\d{6})([LR])(?:_\d+)?$")


def patient_and_side(stem: str) -> tuple[str, Side] | None:
    """Return what the file name says (``9003175L`` is patient 9003175, left knee), or None where it is not of this set."""
    match = _NAME.match(stem)
    if match is None:
        return None
    return match[1], "L" if match[2] == "L" else "R"
