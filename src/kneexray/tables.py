"""Tables that name images: manifests, and the CSV files that data sets come with."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from kneexray.errors import DataError, MissingExtraError

SUFFIXES = frozenset({".csv", ".parquet"})
SPELLINGS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "path": ("path", "file", "filename", "file_name", "image", "image_path", "filepath"),
        "label": ("label", "class", "grade", "kl", "kl_grade", "klg", "diagnosis"),
        "patient_id": ("patient_id", "patient", "patientid", "subject", "subject_id", "participant"),
        "side": ("side", "laterality"),
        "split": ("split", "fold", "subset"),
        "sex": ("sex", "gender", "patientsex", "patient_sex"),
    }
)
"""How the columns of foreign tables are spelt (lower case); the first that is there counts."""


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV or Parquet file as texts; raises :class:`DataError` for anything else, or what cannot be read."""
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [{key: value or "" for key, value in row.items() if isinstance(key, str)} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV file ({error}). Save it as CSV in UTF-8.") from error
    return rows


def renamed(rows: Sequence[Mapping[str, str]], path: Path) -> list[dict[str, str]]:
    """Return ``rows`` of a foreign table with the columns of a manifest; raises :class:`DataError` without a column of files or labels."""
    columns = {column.strip().lower(): column for column in (rows[0] if rows else {})}
    found = {name: columns[spelling] for name, spellings in SPELLINGS.items() for spelling in reversed(spellings) if spelling in columns}
    for name in ("path", "label"):
        if name not in found:
            raise DataError(
                f"{path}: no column of {'files' if name == 'path' else 'labels'}; it has {', '.join(columns) or 'none'}. "
                f"Name one of its columns {' or '.join(SPELLINGS[name])}."
            )
    return [{name: row.get(column, "").strip() for name, column in found.items()} for row in rows]


def _parquet(path: Path) -> list[dict[str, str]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("a Parquet manifest", "eval") from None
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as a Parquet file ({error}). Write it again, or give a CSV.") from error
    return [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
