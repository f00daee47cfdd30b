"""Readings of the Osteoarthritis Initiative: its own tables, joined with images that are named by patient and side.

Tables are those that the project hands to registered researchers: ``kxr_sq_bu00.txt`` (grades and OARSI features by two readers) and
``kxr_qjsw_duryea00.txt`` (joint space widths by a program with a reader; Duryea et al., Med Phys 2000;27:580), separated by ``|``, with
columns ``ID``, ``SIDE`` (1 right, 2 left) and names that begin with the visit (``V00``). A CSV of the same names without the visit is read
too. Nothing of these tables may be passed on.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kneexray.datasets.catalogue.chen2018 import CARD
from kneexray.datasets.example import Example
from kneexray.errors import DataError
from kneexray.files import write_whole
from kneexray.inference.bundle import sha256_of
from kneexray.tasks import LENGTHS

GRADES: MappingProxyType[str, str] = MappingProxyType(
    {
        "kl": "kl",
        **{f"osteophyte_{bone}{side}": f"xros{bone}{side}" for bone in "ft" for side in "ml"},
        "jsn_medial": "xrjsm",
        "jsn_lateral": "xrjsl",
        **{f"sclerosis_{bone}{side}": f"xrsc{bone}{side}" for bone in "ft" for side in "ml"},
    }
)
"""Task -> variable of the readings."""
WIDTHS: MappingProxyType[str, str] = MappingProxyType(
    {"jsw_medial": "mcmjsw", **{name: f"{'jsw' if '_medial_' in name else 'ljsw'}{name[-3:]}" for name in LENGTHS if name[-3:].isdigit()}}
)
"""Length -> variable of the quantitative readings."""
CONDYLES = "cfwdth"
LENGTHS_FILE = "lengths.csv"
"""What a table of lengths is called beside its manifest."""
_SYNONYMS = MappingProxyType({"xrkl": "kl", "id": "patient_id"})
_SIDES = MappingProxyType({"1": "R", "2": "L", "R": "R", "L": "L"})
_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".dcm", ".bmp"})

Reading = dict[str, str]


@dataclass(frozen=True, slots=True)
class Read:
    """What was joined: ``examples`` a row a knee and task, ``lengths`` a row a knee, and the images that no reading is of."""

    examples: tuple[Example, ...]
    lengths: tuple[dict[str, str], ...]
    without: tuple[str, ...]


def is_table(path: Path) -> bool:
    """Say whether ``path`` is a table of readings: text with the columns of one."""
    if path.suffix.lower() not in {".txt", ".csv"} or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        names = {_plain(name) for name in re.split(r"[|,]", file.readline().strip())}
    return {"patient_id", "side"} <= names and bool(names & ({*GRADES.values(), *WIDTHS.values()} - {"kl"}))


def readings(tables: Iterable[Path]) -> dict[tuple[str, str], Reading]:
    """Return the readings of each knee, by patient and side, of ``tables`` together; the first that has a value gives it.

    Raises :class:`DataError` for a table without patients and sides, or with a side that is none.
    """
    found: dict[tuple[str, str], Reading] = {}
    for table in tables:
        for number, row in enumerate(_rows(table), start=2):
            side = _SIDES.get(row.get("side", "").upper())
            if not row.get("patient_id") or side is None:
                raise DataError(
                    f"{table}, row {number}: needs a patient (ID) and a side, 1 for right or 2 for left; it has '{row.get('side', '')}'."
                )
            mine = found.setdefault((row["patient_id"], side), {})
            for name, value in row.items():
                if value and not mine.get(name):
                    mine[name] = value
    return found


def join(known: Mapping[tuple[str, str], Reading], images: Path, *, unread_is_none: bool) -> Read:
    """Return the images below ``images`` with what was read of their knees.

    Images are named by patient and side (``9003175L.png``); a folder ``train``, ``val`` or ``test`` above one is its split.
    ``unread_is_none`` takes osteophytes as 0 where a knee of KL 0 was not read for them: its readers saw none worth a look.
    """
    examples: list[Example] = []
    lengths: list[dict[str, str]] = []
    without: list[str] = []
    for path in sorted(p for p in images.rglob("*") if p.suffix.lower() in _IMAGES):
        who, name = CARD.identify(path.stem), path.relative_to(images).as_posix()
        reading = known.get((who.patient_id, who.side or "")) if who else None
        if who is None or reading is None:
            without.append(name)
            continue
        split = next((part for part in Path(name).parts if part in {"train", "val", "test"}), "")
        digest = sha256_of(path)
        for task, label in _labels(reading, unread_is_none=unread_is_none):
            examples.append(Example(str(path.resolve()), label, task, who.patient_id, who.side or "", split, CARD.name, digest))
        if shares := _shares(reading):
            lengths.append({"patient_id": who.patient_id, "side": who.side or "", **shares})
    return Read(tuple(examples), tuple(lengths), tuple(without))


def import_readings(tables: Sequence[Path], folders: Sequence[Path], *, unread_is_none: bool) -> Read:
    """Return what ``tables`` say of the images below ``folders``; raises :class:`DataError` where that is nothing."""
    if not folders:
        raise DataError("--images: give the folder of the images that the readings are of, named by patient and side (9003175L.png).")
    known = readings(tables)
    parts = [join(known, folder, unread_is_none=unread_is_none) for folder in folders]
    examples, lengths, without = (
        tuple(one for part in parts for one in getattr(part, name)) for name in ("examples", "lengths", "without")
    )
    if not examples:
        raise DataError(
            f"{', '.join(map(str, folders))}: no image is of a knee in {', '.join(map(str, tables))}. Images are named 9003175L.png."
        )
    return Read(examples, lengths, without)


def write_lengths(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Write a table of lengths, shares of the condyles' width, that a recipe names as ``lengths.table``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ("patient_id", "side", *LENGTHS), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


def _labels(reading: Reading, *, unread_is_none: bool) -> Iterator[tuple[str, str]]:
    for task, variable in GRADES.items():
        value = _number(reading.get(variable, ""))
        if value is not None and 0 <= value <= (4 if task == "kl" else 3):
            yield task, str(int(value))
        elif unread_is_none and value is None and task.startswith("osteophyte") and _number(reading.get("kl", "")) == 0:
            yield task, "0"
    if "tkr_days" in reading or _number(reading.get("kl", "")) is not None:
        yield "knee_replacement", "yes" if reading.get("tkr_days") else "no"


def _shares(reading: Reading) -> dict[str, str]:
    """Return the lengths that were read, as shares of the condyles' width."""
    condyles = _number(reading.get(CONDYLES, ""))
    if not condyles:
        return {}
    values = {name: _number(reading.get(variable, "")) for name, variable in WIDTHS.items()}
    return {name: f"{value / condyles:.5f}" for name, value in values.items() if value is not None}


def _rows(table: Path) -> Iterator[Reading]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: cannot be read ({error}). Give the table as the Osteoarthritis Initiative hands it out.") from error
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter="|" if "|" in header else ",")
    for row in reader:
        yield {_plain(name): (value or "").strip().partition(":")[0] for name, value in row.items() if name}


def _plain(name: str) -> str:
    """Return a variable's name without the visit: ``V00XROSFM`` is ``xrosfm``."""
    plain = re.sub(r"^v\d\d", "", name.strip().lower())
    return _SYNONYMS.get(plain, plain)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
