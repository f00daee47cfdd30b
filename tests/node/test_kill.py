"""The DICOM node, killed as by ``kill -9`` at every step of its work: nothing is lost, and the archive ends with each result once."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom", reason="the serve extra is not installed")
pytest.importorskip("highdicom", reason="the dicom extra is not installed")

from support.nodes import IGNORED, FakeArchive, NodeProcess, as_file, film, send, wait

from kneexray.predict import Predictor
from kneexray.read import read_bytes
from kneexray.read.dicom_header import parse
from kneexray.read.limits import DEFAULT_LIMITS
from kneexray.writers import WRITERS

pytestmark = [*IGNORED, pytest.mark.slow]

STEPS = (
    "before Spool.store_film",
    "after Spool.store_film",
    "after Queue.add",
    "after Queue.start",
    "after Spool.settle",
    "after Queue.graded",
    "before Queue.sent",
    "after Queue.sent",
)


def expected(folder: Path, number: int) -> set[str]:
    """The UIDs of the results that a film has wherever it is graded."""
    answer = Predictor().predict_study(read_bytes(as_file(film(number)), source=f"{number}.dcm"))
    for name in ("dicom-sr", "dicom-sc"):
        with WRITERS[name].load()(folder / str(number)) as writer:
            writer.add(answer)
    return {parse(path.read_bytes(), limits=DEFAULT_LIMITS).header.text("SOPInstanceUID") for path in (folder / str(number)).iterdir()}


def states(spool: Path) -> Counter[str]:
    database = sqlite3.connect(spool / "queue.sqlite")
    try:
        return Counter(state for (state,) in database.execute("SELECT state FROM film UNION ALL SELECT state FROM result"))
    finally:
        database.close()


def test_killed_at_every_step(tmp_path: Path) -> None:
    spool, accepted = tmp_path / "spool", set[int]()
    with FakeArchive() as archive:
        for number, fatal in enumerate(STEPS):
            node = NodeProcess(spool, archive.place, fatal=fatal)
            if node.port and send(node.port, film(number)) == [0]:
                accepted.add(number)
            assert node.died() == -9, fatal
        node = NodeProcess(spool, archive.place)
        # A film for which nobody was told success is sent again, as senders do; the others are not.
        left = [film(number) for number in range(len(STEPS)) if number not in accepted]
        assert send(node.port, *left) == [0] * len(left)
        wait(lambda: states(spool) == {"graded": len(STEPS), "sent": 2 * len(STEPS)})
        node.kill()
    assert 0 < len(left) < len(STEPS)
    assert {uid for uid, _ in archive.stored} == {uid for number in range(len(STEPS)) for uid in expected(tmp_path, number)}
    twice = {uid for uid, times in Counter(uid for uid, _ in archive.stored).items() if times > 1}
    assert len(archive.stored) == 2 * len(STEPS) + 1, "only what was sent when the node died before it could write that down"
    assert len({data for uid, data in archive.stored if uid in twice}) == 1, "and that was the same object, bit for bit"
