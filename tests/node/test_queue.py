"""The DICOM node's settings, its queue and its spool: what is refused, what is remembered, and when what is due."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pynetdicom", reason="the serve extra is not installed")

from kneexray.errors import ConfigError
from kneexray.node import Archive, NodeSettings
from kneexray.node.queue import FIRST_WAIT, LONGEST_WAIT, MOST_REFUSALS, Film, Queue, Result
from kneexray.node.scp import Rates
from kneexray.node.spool import Spool

DAY = 86400.0


class Clock:
    """A time that is set by hand."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Any:
    queue = Queue(tmp_path, clock=clock)
    yield queue
    queue.close()


def graded(queue: Queue, uid: str = "1.1") -> tuple[Film, list[Result]]:
    """A film in the queue, graded, with two results."""
    queue.add(uid, study="1", file=f"films/{uid}")
    film = queue.start(quiet=-1)
    assert film is not None
    queue.graded(film, [("1.88", f"{uid}.1", "a"), ("1.7", f"{uid}.2", "b")])
    return film, queue.due()


@pytest.mark.parametrize(
    ("text", "archive"),
    [
        ("PACS@10.0.0.5:104", Archive("PACS", "10.0.0.5", 104)),
        ("MY PACS@pacs.local:11112", Archive("MY PACS", "pacs.local", 11112)),
        ("A@[::1]:104", Archive("A", "::1", 104)),
        ("https://pacs.local/dicom-web/", Archive(url="https://pacs.local/dicom-web")),
    ],
)
def test_archives_are_understood(text: str, archive: Archive) -> None:
    assert Archive.parse(text) == archive


@pytest.mark.parametrize(
    "text", ["PACS", "PACS@host", "PACS@host:0", "PACS@host:x", "@host:104", "SEVENTEEN-LETTERS@h:1", "http://me:secret@pacs/dicom-web", ""]
)
def test_what_is_no_archive_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ConfigError, match="--send-to") as caught:
        Archive.parse(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{"allow": ()}, {"allow": ("A\\B",)}, {"aet": " "}, {"aet": "ä"}, {"formats": ("csv",)}, {"formats": ()}]
)
def test_senseless_settings_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        NodeSettings(**{"spool": tmp_path, "archive": Archive("A", "h", 1), "allow": ("PACS",), **changes})


def test_a_film_waits_until_its_study_is_quiet(queue: Queue, clock: Clock) -> None:
    queue.add("1.1", study="1", file="a")
    clock.now += 5
    queue.add("1.2", study="1", file="b")
    queue.add("2.1", study="2", file="c")
    clock.now += 6
    queue.add("2.2", study="2", file="d")
    assert queue.start(quiet=10) is None
    clock.now += 4
    started = [queue.start(quiet=10)]
    assert started[0] is not None
    queue.failed(started[0])
    started.append(queue.start(quiet=10))
    assert [film.file for film in started if film] == ["a", "b"]
    assert queue.counts() == {"film received": 3, "film failed": 1}


def test_a_film_is_known_until_it_fails_or_is_forgotten(queue: Queue) -> None:
    assert not queue.knows("1.1")
    film, _ = graded(queue)
    assert queue.knows("1.1")
    assert queue.knows("1.1.2"), "a result of ours"
    queue.add("1.1", study="1", file="films/1.1")
    assert queue.start(quiet=-1) is None, "nothing is graded twice"
    queue.forget(film)
    assert not queue.knows("1.1")
    assert not queue.knows("1.1.2")
    queue.add("1.2", study="1", file="b")
    other = queue.start(quiet=-1)
    assert other is not None
    queue.failed(other)
    assert not queue.knows("1.2")
    queue.add("1.2", study="1", file="b")
    again = queue.start(quiet=-1)
    assert again is not None
    assert (again.file, again.starts) == ("b", 1)


def test_starts_are_counted_over_restarts_of_the_node(tmp_path: Path) -> None:
    for number in range(1, 4):
        queue = Queue(tmp_path)
        queue.add("1.1", study="1", file="a")
        film = queue.start(quiet=-1)
        queue.close()
        assert film is not None
        assert film.starts == number


def test_waits_double_and_end(queue: Queue, clock: Clock) -> None:
    _, results = graded(queue)
    waits = [queue.put_off(results) for _ in range(40)]
    assert waits[:3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert waits[-1] == LONGEST_WAIT
    assert queue.due() == []
    clock.now += LONGEST_WAIT
    assert queue.due() == results


def test_what_is_refused_again_and_again_is_left(queue: Queue, clock: Clock) -> None:
    _, (refused, sent) = graded(queue)
    queue.sent(sent)
    for _ in range(MOST_REFUSALS - 1):
        assert queue.refused(refused) is False
        assert queue.counts()["result waiting"] == 1
    assert queue.refused(refused) is True
    clock.now += DAY
    assert queue.due() == []
    assert queue.counts() == {"film graded": 1, "result refused": 1, "result sent": 1}


def test_films_grow_old_once_everything_is_sent(queue: Queue, clock: Clock) -> None:
    film, results = graded(queue)
    clock.now += 30 * DAY
    assert queue.old(days=7) == []
    for result in results:
        queue.sent(result)
    assert queue.old(days=7) == []
    clock.now += 7 * DAY
    assert [old.id for old in queue.old(days=7)] == [film.id]
    queue.forget(film)
    assert queue.counts() == {}


def test_a_second_node_may_not_have_the_spool(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    with pytest.raises(ConfigError, match="another node works in the spool folder"):
        Queue(tmp_path)
    queue.close()
    Queue(tmp_path).close()


def test_films_are_stored_whole_for_their_owner_only_and_strays_are_swept(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    name = spool.store_film(b"film", uid="../../1.1")
    assert (spool.folder / name).read_bytes() == b"film"
    assert Path(name).parent == Path("films")
    (spool.folder / "films" / "stray.partial").write_bytes(b"fi")
    spool.sweep([name])
    assert [path.name for path in (spool.folder / "films").iterdir()] == [Path(name).name]
    if os.name == "posix":
        assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((spool.folder / name).stat().st_mode) == 0o600


def test_senders_are_counted_a_minute(clock: Clock) -> None:
    rates = Rates(2, clock=clock)
    assert [rates.admit("A") for _ in range(3)] == [True, True, False]
    assert rates.admit("B")
    clock.now += 60
    assert rates.admit("A")
