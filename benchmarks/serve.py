"""How much of the model's speed does the server keep, how long does an answer take, and does memory stay flat?

    python benchmarks/serve.py FOLDER_OF_CROPS [--requests 5000] [--concurrency 8] [--limit 900]

Starts a server on loopback, without a cache of answers and with few visits kept, sends it one crop a request from one process, and
stops by itself, after ``--limit`` seconds at the latest. Prints what the model does alone (a bare loop over ready tensors, and the
predictor from files on as many threads), then throughput, p50 and p95 latency with one request at a time and with many, the
server's resident memory along the way, and every status; last, twice as many requests at once as the server takes, which must be
answered 200 or 503.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import httpx2
from machine import describe
from predict import bare, rate

from kneexray.inference.bundle import open_bundle, shipped
from kneexray.inference.preprocess import batch
from kneexray.predict import Predictor
from kneexray.read import find_sources
from kneexray.roi import whole_knee

MOST = 32
"""Requests that the server takes at once."""


class Load:
    """Requests sent, and what came of them."""

    def __init__(self, address: str, films: Sequence[bytes], *, pid: int, end: float) -> None:
        self.statuses: Counter[int] = Counter()
        self.memory: list[int] = []
        self._address = address
        self._films = films
        self._pid = pid
        self._end = end

    async def run(self, requests: int, *, concurrency: int) -> tuple[float, list[float]]:
        """Send ``requests``, ``concurrency`` at a time, and return the answers a second and the seconds that each took."""
        films = iter(islice(cycle(self._films), requests))
        seconds: list[float] = []
        every = max(requests // 10, 1)

        async def ask(client: httpx2.AsyncClient) -> None:
            for film in films:
                if time.monotonic() > self._end:
                    return
                began = time.perf_counter()
                answer = await client.post("/api/v1/predict", files=[("files", ("crop.webp", film))])
                seconds.append(time.perf_counter() - began)
                self.statuses[answer.status_code] += 1
                if len(seconds) % every == 0:
                    self.memory.append(resident_mebibytes(self._pid))

        limits = httpx2.Limits(max_connections=concurrency)
        async with httpx2.AsyncClient(base_url=self._address, timeout=120, limits=limits) as client:
            began = time.perf_counter()
            await asyncio.gather(*(ask(client) for _ in range(concurrency)))
            return len(seconds) / (time.perf_counter() - began), seconds


def main() -> int:
    """Run the benchmark; return 1 where an answer was neither 200 nor a deliberate refusal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--count", type=int, default=200, help="how many different crops are sent")
    parser.add_argument("--limit", type=float, default=900, help="seconds after which it stops")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    paths = [source.name for source in islice(find_sources([options.folder]), options.count)]
    print(describe("onnxruntime", "fastapi", "uvicorn"))
    print(f"{len(paths)} crops")
    model_alone(paths)
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            load = Load(address, [Path(path).read_bytes() for path in paths], pid=server.pid, end=time.monotonic() + options.limit)
            wait_for(address)
            return report(load, requests=options.requests, concurrency=options.concurrency)
        finally:
            server.terminate()


def report(load: Load, *, requests: int, concurrency: int) -> int:
    """Put the load on, and print what it gave."""
    for count, at_once in ((max(requests // 50, 1), 1), (requests, concurrency)):
        load.memory.clear()
        per_second, seconds = asyncio.run(load.run(count, concurrency=at_once))
        slowest = statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
        print(
            f"{len(seconds):5} requests, {at_once:2} at a time  {per_second:7.1f} films/s, "
            f"p50 {statistics.median(seconds) * 1000:.0f} ms, p95 {slowest * 1000:.0f} ms"
        )
    print("resident MiB along the way      " + " ".join(map(str, load.memory)))
    asyncio.run(load.run(3 * MOST, concurrency=2 * MOST))
    print("statuses, overload included     " + ", ".join(f"{status}: {count}" for status, count in sorted(load.statuses.items())))
    broken = sum(count for status, count in load.statuses.items() if status not in (200, 503))
    print(f"neither 200 nor 503             {broken}")
    return 1 if broken else 0


def model_alone(paths: Sequence[str]) -> None:
    """Print what could be reached at best: the network alone, and reading and grading without a server."""
    bundle = open_bundle(shipped("kl"))
    studies = [source.read() for source in find_sources(paths)]
    images = batch([whole_knee(study.radiographs[0]) for study in studies[:64]], bundle.geometry)
    figures = max(rate(bare(images, size=size, cam=True), 3) for size in (1, 4))
    print(f"bare network                    {figures[0]:7.1f} films/s ({figures[1]:.1f} to {figures[2]:.1f})")
    predictor = Predictor(tasks=("kl", "oa"), threads=1)
    figures = rate(lambda: sum(1 for _ in predictor.predict(paths)), 3)
    print(f"predictor, from files           {figures[0]:7.1f} films/s ({figures[1]:.1f} to {figures[2]:.1f})")


def serve() -> None:
    """Be the server: print its address and serve until stopped."""
    import socket

    import uvicorn

    from kneexray.web.app import create_app
    from kneexray.web.settings import Settings

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    app = create_app(Settings(tasks=("kl", "oa"), cache_mb=0, visits_mb=16, max_requests=MOST, max_requests_per_client=4 * MOST))
    uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="error", ws="none")).run(sockets=[listening])


def wait_for(address: str) -> None:
    """Return once the server answers."""
    for _ in range(600):
        try:
            httpx2.get(f"{address}/api/v1/health")
            return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise SystemExit("the server did not start within 60 s")


def resident_mebibytes(pid: int) -> int:
    """Return how much memory a process holds."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


if __name__ == "__main__":
    sys.exit(main())
