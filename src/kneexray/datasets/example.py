"""One row of a manifest."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled file. Empty strings stand for what is not known; ``sha256`` is of the file's bytes."""

    path: str
    label: str
    task: str
    patient_id: str = ""
    side: str = ""
    split: str = ""
    source: str = ""
    sha256: str = ""


COLUMNS = tuple(field.name for field in fields(Example))
