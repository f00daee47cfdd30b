"""The Ray engine on a real cluster of worker processes."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
pytest.importorskip("pandas", reason="Ray Data needs pandas: pip install '.[ray]'")

from support.batches import OPTIONS, union, whole, write_table
from support.fake_predictor import Cheap

from kneexray.batch.plan import open_plan
from kneexray.batch.shards import finished

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""Ray leaves sockets and log files to be closed by the end of its process."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster on this machine with room for three workers."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    agents = ("metrics_export_port", "metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    ports = dict(zip(agents, _free_ports(len(agents)), strict=True))
    machine = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "object_store_memory": 80 << 20, **ports})
    ray.init(address=machine.address, log_to_driver=False)
    yield
    ray.shutdown()
    machine.shutdown()


def _free_ports(count: int) -> list[int]:
    """Return free ports; with ports of Ray's own choice a node waits but seconds for its agents, too few on a busy machine."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.mark.usefixtures("cluster")
def test_a_worker_of_the_cluster_is_killed_and_every_film_is_answered_once(tmp_path: Path):
    from kneexray.batch.ray import grade_ray

    table = write_table(tmp_path / "films.csv", [f"film-{number}.png" for number in range(120)])
    expected = whole(tmp_path / "whole", table)
    notes = tmp_path / "notes"
    notes.mkdir()
    plan = open_plan(tmp_path / "out", source=str(table), options=OPTIONS, shard_films=7)
    killer = threading.Thread(target=_kill_one, args=(notes, plan.folder), daemon=True)
    killer.start()
    done = sum(grade_ray(plan, Cheap(notes, seconds=0.05), range(plan.shards), jobs=3))
    killer.join()
    assert done == 120
    assert len(list(notes.glob("pid-*"))) > 3, "no worker took the place of the killed one"
    assert union(plan.folder) == expected


def _kill_one(notes: Path, out: Path) -> None:
    """Kill a worker once the first shards are written."""
    while len(finished(out)) < 3:
        time.sleep(0.02)
    os.kill(int(next(iter(sorted(notes.glob("pid-*")))).name.partition("-")[2]), signal.SIGKILL)
