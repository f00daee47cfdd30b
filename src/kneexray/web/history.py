"""What was answered, in a SQLite database, where that was turned on: documents without pictures, for a number of days."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kneexray.errors import OutputError
from kneexray.tasks import TASKS
from kneexray.web.records import document
from kneexray.web.visits import Visit

_SCHEMA = """
CREATE TABLE IF NOT EXISTS visits (
    id TEXT PRIMARY KEY,
    created TEXT NOT NULL,
    names TEXT NOT NULL,
    answers TEXT NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS visits_created ON visits (created);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A visit of the past: the names of its films, what was answered in words (``KL 2``, ``not_a_knee``), and the whole document."""

    id: str
    created: datetime
    names: tuple[str, ...]
    answers: tuple[str, ...]
    document: dict[str, Any]


class History:
    """The visits of the last ``keep_days`` days. Threads may share it. What is deleted is overwritten in the file.

    Raises :class:`~kneexray.errors.OutputError` where the file at ``path`` cannot be opened or written.
    """

    def __init__(self, path: Path, *, keep_days: float) -> None:
        self._path = path
        self._keep = timedelta(days=keep_days)
        self._lock = threading.Lock()
        with self._errors():
            path.touch(mode=0o600)
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA secure_delete = ON")
            self._database.executescript(_SCHEMA)

    def add(self, visit: Visit) -> None:
        """Keep a visit."""
        answers = dict.fromkeys(
            [TASKS[p.task].display(p.grade) for film in visit.films for p in film.result.predictions]
            + [rejection.reason for film in visit.films for rejection in film.result.rejections]
        )
        names = [film.name for film in visit.films]
        row = (
            visit.id,
            visit.created.isoformat(timespec="microseconds"),
            *(json.dumps(x, ensure_ascii=False) for x in (names, list(answers), document(visit))),
        )
        with self._errors(), self._lock:
            self._database.execute("INSERT OR REPLACE INTO visits VALUES (?, ?, ?, ?, ?)", row)

    def search(self, text: str = "", *, limit: int = 50, offset: int = 0) -> list[Entry]:
        """Return the visits in which a film's name or an answer contains ``text``, newest first."""
        pattern = "%" + "".join(f"\\{c}" if c in "\\%_" else c for c in json.dumps(text, ensure_ascii=False)[1:-1]) + "%"
        query = (
            "SELECT * FROM visits WHERE created >= ? AND (names LIKE ? ESCAPE '\\' OR answers LIKE ? ESCAPE '\\') "
            "ORDER BY created DESC, id LIMIT ? OFFSET ?"
        )
        with self._errors(), self._lock:
            rows = self._database.execute(query, (self._oldest(), pattern, pattern, limit, offset)).fetchall()
        return [_entry(row) for row in rows]

    def get(self, id: str) -> Entry:
        """Return a visit; raises KeyError for one that is unknown or expired."""
        with self._errors(), self._lock:
            row = self._database.execute("SELECT * FROM visits WHERE id = ? AND created >= ?", (id, self._oldest())).fetchone()
        if row is None:
            raise KeyError(id)
        return _entry(row)

    def delete(self, id: str) -> None:
        """Forget a visit; raises KeyError for one that is unknown."""
        with self._errors(), self._lock:
            if not self._database.execute("DELETE FROM visits WHERE id = ?", (id,)).rowcount:
                raise KeyError(id)

    def expire(self) -> None:
        """Forget the visits whose time is over."""
        with self._errors(), self._lock:
            self._database.execute("DELETE FROM visits WHERE created < ?", (self._oldest(),))

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def _oldest(self) -> str:
        return (datetime.now(UTC) - self._keep).isoformat(timespec="microseconds")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f"the history {self._path} cannot be used ({error}). Give --history another file, or none.") from error


def _entry(row: tuple[str, str, str, str, str]) -> Entry:
    id, created, names, answers, text = row
    return Entry(id, datetime.fromisoformat(created), tuple(json.loads(names)), tuple(json.loads(answers)), json.loads(text))
