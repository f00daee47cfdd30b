"""Tables that name images: manifests, and the CSV files that data sets come with."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import cast

from kneexray.errors import DataError, MissingExtraError
from kneexray.types import Side

SUFFIXES = frozenset({".csv", ".tsv", ".xlsx", ".parquet"})
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
    """Return the rows of a CSV, TSV, Excel or Parquet file as texts, those without any text left out.

    Raises :class:`DataError` for anything else, or what cannot be read.
    """
    readers = {".parquet": _parquet, ".xlsx": _excel}
    rows = readers.get(path.suffix.lower(), _text)(path)
    return [row for row in rows if any(value.strip() for value in row.values())]


def side_of(text: str | None) -> Side | None:
    """Return the side that a table's cell names: L, R, left, Right knee, and the Osteoarthritis Initiative's 1 (right) and 2 (left)."""
    word = re.sub(r"[^a-z0-9]", "", (text or "").strip().lower().removesuffix(".0"))
    named = {
        "1": "R",
        "2": "L",
        "1right": "R",
        "2left": "L",
        "l": "L",
        "r": "R",
        "left": "L",
        "right": "R",
        "lt": "L",
        "rt": "R",
        "leftknee": "L",
        "rightknee": "R",
    }
    return cast("Side | None", named.get(word))


def file_below(folder: Path, name: str) -> Path:
    """Return the file that a table in ``folder`` calls ``name``, whose backslashes are folders where no file has them in its name."""
    path = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not path.exists() else path


def _text(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            delimiter = delimiter_of(header, path.suffix)
            return [{k: v or "" for k, v in row.items() if isinstance(k, str)} for row in csv.DictReader(file, delimiter=delimiter)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV file ({error}). Save it as CSV in UTF-8.") from error


def delimiter_of(header: str, suffix: str) -> str:
    """Return what separates the columns of a table of text, by its first line: of a ``.tsv`` first a tab, of others first a comma."""
    marks = "\t,;" if suffix.lower() == ".tsv" else ",;\t"
    return next((mark for mark in marks if mark in header), ",")


def _excel(path: Path) -> list[dict[str, str]]:
    try:
        import openpyxl
    except ImportError:
        raise MissingExtraError("an Excel table", "data") from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        header, *rows = (list(row) for row in book.worksheets[0].iter_rows(values_only=True))
        book.close()
    except Exception as error:  # the reader meets damaged files with errors of zip, XML and its own
        raise DataError(f"{path}: cannot be read as an Excel file ({type(error).__name__}: {error}). Save its sheet as CSV.") from error
    names = ["" if name is None else str(name) for name in header]
    return [{name: "" if value is None else str(value) for name, value in zip(names, row, strict=False) if name} for row in rows]


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
