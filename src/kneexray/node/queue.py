"""What is to be done and what is done, in SQLite: it survives the node's being killed, and the machine's losing power.

A film is ``received``, then ``graded`` or ``failed``. A result is ``waiting``, then ``sent`` or ``refused``. Each step is one
transaction, written to the disk before anything follows from it. Nothing here names a patient but the UIDs.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kneexray.errors import ConfigError

MOST_STARTS = 5
"""A film that the node started to grade so often without an end takes the process down, and is not started again."""
FIRST_WAIT, LONGEST_WAIT = 2.0, 300.0
"""Seconds before a result is sent again after the first failure, and at most; between them each wait is twice the one before."""
MOST_REFUSALS = 10
"""How often an archive that answers may refuse a result before it is left at that."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS film (
  id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE, study TEXT NOT NULL, file TEXT NOT NULL,
  received REAL NOT NULL, starts INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'received', finished REAL
);
CREATE TABLE IF NOT EXISTS result (
  id INTEGER PRIMARY KEY AUTOINCREMENT, film INTEGER NOT NULL REFERENCES film ON DELETE CASCADE, uid TEXT NOT NULL UNIQUE,
  sop_class TEXT NOT NULL, file TEXT NOT NULL, failures INTEGER NOT NULL DEFAULT 0, refusals INTEGER NOT NULL DEFAULT 0,
  due REAL NOT NULL, state TEXT NOT NULL DEFAULT 'waiting'
);
"""


@dataclass(frozen=True, slots=True)
class Film:
    """A film: its number here, the name of its file in the spool, and how often it was started."""

    id: int
    file: str
    starts: int


@dataclass(frozen=True, slots=True)
class Result:
    """An object for the archive: its number here, its film's, and the name of its file in the spool."""

    id: int
    film: int
    uid: str
    sop_class: str
    file: str


class Queue:
    """The queue in ``folder``. Threads may share it; a second node may not, and gets a :class:`~kneexray.errors.ConfigError`.

    ``clock`` gives the time in seconds.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._lock = _connect(folder / "lock.sqlite", wait=0)  # held to the end of the process, however that comes
        try:
            self._lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            self._lock.close()
            raise ConfigError(f"another node works in the spool folder {folder}; stop it, or name another folder with --spool") from None
        self._db = _connect(folder / "queue.sqlite")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the folder."""
        with self._mutex:
            self._db.close()
            self._lock.close()

    def knows(self, uid: str) -> bool:
        """Say whether an object need not be stored: a film that is here and has not failed, or a result that was made here."""
        with self._transaction() as db:
            found = db.execute("SELECT 1 FROM film WHERE uid = ?1 AND state != 'failed' UNION SELECT 1 FROM result WHERE uid = ?1", (uid,))
            return found.fetchone() is not None

    def add(self, uid: str, *, study: str, file: str) -> None:
        """Record a film that lies in the spool; one that failed gets another chance, one that is known stays as it is."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO film (uid, study, file, received) VALUES (?, ?, ?, ?) ON CONFLICT (uid) DO UPDATE"
                " SET state = 'received', starts = 0, finished = NULL, received = excluded.received WHERE state = 'failed'",
                (uid, study, file, self._clock()),
            )

    def start(self, *, quiet: float) -> Film | None:
        """Return the next film of a study for which nothing came in ``quiet`` seconds, and count the start; None where there is none."""
        with self._transaction() as db:
            ready = "state = 'received' AND study NOT IN (SELECT study FROM film WHERE received > ?)"
            next_one = f"SELECT id FROM film WHERE {ready} ORDER BY received, id LIMIT 1"
            update = f"UPDATE film SET starts = starts + 1 WHERE id = ({next_one}) RETURNING id, file, starts"
            row = db.execute(update, (self._clock() - quiet,)).fetchone()
        return Film(*row) if row else None

    def postpone(self, film: Film) -> None:
        """Take back a start that came to nothing for no fault of the film."""
        with self._transaction() as db:
            db.execute("UPDATE film SET starts = starts - 1 WHERE id = ?", (film.id,))

    def graded(self, film: Film, results: Sequence[tuple[str, str, str]]) -> None:
        """Record that a film is graded, and the SOP class, UID and file of each result: all of it, or nothing."""
        now = self._clock()
        with self._transaction() as db:
            db.execute("UPDATE film SET state = 'graded', finished = ? WHERE id = ?", (now, film.id))
            insert = "INSERT INTO result (film, sop_class, uid, file, due) VALUES (?, ?, ?, ?, ?)"
            db.executemany(insert, [(film.id, *result, now) for result in results])

    def failed(self, film: Film) -> None:
        """Record that a film cannot be graded."""
        with self._transaction() as db:
            db.execute("UPDATE film SET state = 'failed', finished = ? WHERE id = ?", (self._clock(), film.id))

    def due(self) -> list[Result]:
        """Return the results to be sent now, the oldest first."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT id, film, uid, sop_class, file FROM result WHERE state = 'waiting' AND due <= ? ORDER BY id", (self._clock(),)
            )
            return [Result(*row) for row in rows]

    def sent(self, result: Result) -> None:
        """Record that the archive has a result."""
        self._settle(result, "sent")

    def put_off(self, results: Sequence[Result]) -> float:
        """Record that the archive could not be reached for ``results``; return the seconds until the first of them is due again."""
        waits = [LONGEST_WAIT]
        with self._transaction() as db:
            for result in results:
                (failures,) = db.execute("SELECT failures FROM result WHERE id = ?", (result.id,)).fetchone()
                waits.append(min(FIRST_WAIT * 2.0 ** min(failures, 30), LONGEST_WAIT))
                db.execute("UPDATE result SET failures = failures + 1, due = ? WHERE id = ?", (self._clock() + waits[-1], result.id))
        return min(waits)

    def refused(self, result: Result) -> bool:
        """Record that the archive will not have a result; True where that was its last chance."""
        with self._transaction() as db:
            update = "UPDATE result SET refusals = refusals + 1 WHERE id = ? RETURNING refusals"
            (refusals,) = db.execute(update, (result.id,)).fetchone()
        if refusals < MOST_REFUSALS:
            self.put_off([result])
            return False
        self._settle(result, "refused")
        return True

    def old(self, *, days: float) -> list[Film]:
        """Return the films with which nothing has been left to do for ``days``."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT id, file, starts FROM film WHERE finished <= ? AND id NOT IN (SELECT film FROM result WHERE state = 'waiting')",
                (self._clock() - days * 86400,),
            )
            return [Film(*row) for row in rows]

    def forget(self, film: Film) -> None:
        """Remove every record of a film."""
        with self._transaction() as db:
            db.execute("DELETE FROM film WHERE id = ?", (film.id,))

    def files(self) -> list[str]:
        """Return the names of the films' files."""
        with self._transaction() as db:
            return [file for (file,) in db.execute("SELECT file FROM film")]

    def counts(self) -> dict[str, int]:
        """Return how many films and results are in each state: ``film received``, ``result waiting`` and so on."""
        with self._transaction() as db:
            states = "SELECT '{0} ' || state, count(*) FROM {0} GROUP BY state"
            return dict(db.execute(f"{states.format('film')} UNION {states.format('result')}").fetchall())

    def _settle(self, result: Result, state: str) -> None:
        """Record the end of a result, which is that of its film until another of its results ends."""
        with self._transaction() as db:
            db.execute("UPDATE result SET state = ? WHERE id = ?", (state, result.id))
            db.execute("UPDATE film SET finished = ? WHERE id = ?", (self._clock(), result.film))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def _connect(path: Path, *, wait: float = 5) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
