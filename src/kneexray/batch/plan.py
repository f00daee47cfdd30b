"""What a batch is, fixed before the first film is graded: which films in which shard, by which models, with which options.

``films.parquet`` lists the films in order; shard ``k`` holds films ``k * shard_films`` and on. ``plan.json`` appears last, and is what a
run that goes on must agree with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from kneexray.batch.films import Film, list_films
from kneexray.batch.shards import durably, write_durably
from kneexray.errors import ConfigError, DataError

PLAN, FILMS = "plan.json", "films.parquet"
VERSION = 1
_GROUP = 4096
"""Films in a row group of the list: what is read to know a shard."""
_SMALLEST, _LARGEST, _SHARDS = 16, 1024, 64
"""Films in a shard where nobody chose: a sixty-fourth of all, within these bounds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch whose films are listed in ``folder``. ``options`` are what changes an answer: models, tasks, thresholds, versions."""

    folder: Path
    source: str
    films: int
    shard_films: int
    options: Mapping[str, Any]

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.films // self.shard_films)

    def size(self, shard: int) -> int:
        """Return how many films ``shard`` holds."""
        return min(self.shard_films, self.films - shard * self.shard_films)

    def read(self, shard: int) -> list[Film]:
        """Return the films of ``shard``."""
        import pyarrow.parquet

        first = shard * self.shard_films
        groups = range(first // _GROUP, (first + self.size(shard) - 1) // _GROUP + 1)
        with pyarrow.parquet.ParquetFile(self.folder / FILMS) as file:
            rows = file.read_row_groups(list(groups)).slice(first - groups[0] * _GROUP, self.size(shard)).to_pylist()
        return [Film(row["file"].decode("utf-8", "surrogatepass"), row["side"]) for row in rows]


def open_plan(folder: Path, *, source: str, options: Mapping[str, Any], shard_films: int = 0, resume: bool = False) -> Plan:
    """Return the plan of a batch, made now, or read from ``folder`` where one lies there and ``resume`` allows it.

    ``shard_films`` 0 leaves the choice to the plan. Raises :class:`ConfigError` where ``folder`` holds a batch and ``resume`` is false, or
    where that batch is another one: it names what differs; :class:`DataError` for a source that cannot be listed.
    """
    path = folder / PLAN
    if not path.exists():
        return _make(folder, source, json.loads(json.dumps(options)), shard_films)
    if not resume:
        raise ConfigError(f"{folder}: holds a batch already. Go on with it by --resume, or choose another folder with --out.")
    plan = _read(path)
    asked = {"source": source, **json.loads(json.dumps(options)), "shard_films": shard_films or plan.shard_films}
    planned = {"source": plan.source, **plan.options, "shard_films": plan.shard_films}
    for name in planned | asked:
        begun, now = planned.get(name), asked.get(name)
        if begun != now:
            raise ConfigError(
                f"{path}: the batch was begun with {name} = {json.dumps(begun)}, and {json.dumps(now)} is asked now. "
                f"Go on with the former, or choose another folder with --out."
            )
    return plan


def _read(path: Path) -> Plan:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.pop("version") != VERSION:
            raise ValueError("another version's")
        return Plan(folder=path.parent, **record)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: is no plan of a batch that can be read ({error}). Begin again in another folder.") from error


def _make(folder: Path, source: str, options: Mapping[str, Any], shard_films: int) -> Plan:
    count = _write_list(folder / FILMS, list_films(source))
    size = shard_films or min(_LARGEST, max(_SMALLEST, -(-count // _SHARDS)))
    plan = Plan(folder=folder, source=source, films=count, shard_films=size, options=options)
    record = {"version": VERSION, **{name: value for name, value in asdict(plan).items() if name != "folder"}}
    write_durably(folder / PLAN, f"{json.dumps(record, indent=2)}\n".encode())
    return plan


def _write_list(path: Path, films: Iterator[Film]) -> int:
    """Write the list of films, a row group in memory at a time; return how many there are."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema({"file": pyarrow.binary(), "side": pyarrow.string()})  # a POSIX name may be no text
    count = 0
    with durably(path) as file, pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(films, _GROUP)):
            rows = [{"file": film.file.encode("utf-8", "surrogatepass"), "side": film.side} for film in group]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema), row_group_size=_GROUP)
            count += len(rows)
    return count
