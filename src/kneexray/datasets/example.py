"""One row of a manifest."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled file. Empty strings stand for what is not known; ``sha256`` is of the file's bytes.

    ``sex`` is the patient's, in the words of the data set; evaluations compare the groups that it makes.
    """

    path: str
    label: str
    task: str
    patient_id: str = ""
    side: str = ""
    split: str = ""
    source: str = ""
    sha256: str = ""
    sex: str = ""


COLUMNS = tuple(field.name for field in fields(Example))
OPTIONAL = frozenset({"sex"})
"""Columns that a manifest is written without where no row has a value."""
