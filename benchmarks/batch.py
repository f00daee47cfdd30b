"""Does a film cost the same among a hundred as among a hundred thousand, and does memory stay flat?

    python benchmarks/batch.py FOLDER_OF_CROPS [--films 100,1000,10000] [--jobs 2] [--shard-films N] [--provider cpu] [--network small-cnn]
        [--out FOLDER]

Runs ``kneexray batch`` as its users do over the folder's films, repeated by hard links until there are as many as asked. Prints films per
second of the whole command and without its start, the time until the films are listed, peak memory of all its processes together, and bytes
written a film: the figures that docs/scale.md asks for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from itertools import cycle, islice
from pathlib import Path

from machine import describe

from kneexray.read import find_sources

COLUMNS = (
    *("films", "whole command, films/s", "once begun, films/s", "start and listing, s"),
    *("peak memory, MiB", "written, bytes a film", "shards"),
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", default="100,1000,10000", help="how many films, separated by commas")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--shard-films", type=int, default=0)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument(
        "--network", help="a small one of benchmarks/student_networks.py in place of the models that ship, so that all else shows"
    )
    parser.add_argument("--out", type=Path, help="where links and shards go, on the disk that holds the films")
    options = parser.parse_args()
    print(describe("onnxruntime", "pyarrow", "numpy"))
    print(f"{options.jobs} processes, provider {options.provider}, {options.network or 'the models that ship'}\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    originals = [Path(source.name) for source in find_sources([options.folder])]
    for count in (int(text) for text in options.films.split(",")):
        with tempfile.TemporaryDirectory(dir=options.out) as folder:
            model = _student(options.network, Path(folder)) if options.network else None
            print(_row(count, originals, Path(folder), model, options), flush=True)


def _student(name: str, work: Path) -> Path:
    from student_networks import SIZES, write_bundle

    return write_bundle(name, SIZES[name], work / "bundle")


def _row(count: int, originals: list[Path], work: Path, model: Path | None, options: argparse.Namespace) -> str:
    films, out = work / "films", work / "out"
    for number, path in enumerate(islice(cycle(originals), count)):
        folder = films / f"{number // 1000:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / f"{number:09d}{path.suffix}"
        try:
            link.hardlink_to(path)
        except OSError:  # another disk
            link.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "kneexray", "batch", str(films), "--out", str(out), "--roi", "whole", "--provider", options.provider]
    command += ["--jobs", str(options.jobs), "--shard-films", str(options.shard_films)]
    command += ["--model", str(model)] if model else []
    began = time.perf_counter()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    watch = _Watch(running.pid, out)
    watch.start()
    if running.wait():
        raise SystemExit(f"{' '.join(command)} failed")
    seconds = time.perf_counter() - began
    watch.join()
    written = sum(path.stat().st_size for path in out.glob("*-*.parquet"))
    shards = json.loads((out / "manifest.json").read_text())["outputs"]["shards"]
    later = f"{watch.films_later / watch.seconds_later:.1f}" if watch.films_later else "-"
    return f"| {count} | {count / seconds:.1f} | {later} | {watch.listed:.1f} | {watch.peak:.0f} | {written / count:.0f} | {shards} |"


class _Watch(threading.Thread):
    """Looks at a batch from outside: when the plan was there, when each shard came, and what its processes hold."""

    def __init__(self, pid: int, out: Path) -> None:
        super().__init__()
        self._pid = pid
        self._out = out
        self.listed = self.peak = self.seconds_later = 0.0
        self.films_later = 0

    def run(self) -> None:
        began = time.perf_counter()
        first = last = 0.0
        seen, size = 0, 0
        while Path(f"/proc/{self._pid}/stat").exists() and not self._ended():
            now = time.perf_counter() - began
            if not self.listed and (self._out / "plan.json").exists():
                self.listed = now
                size = json.loads((self._out / "plan.json").read_text())["shard_films"]
            done = sum(1 for _ in self._out.glob("predictions-*.parquet"))
            if done > seen:
                if seen:
                    self.films_later += (done - seen) * size
                    last = now
                else:
                    first = now
                seen = done
            self.peak = max(self.peak, _memory(self._pid))
            time.sleep(0.2)
        self.seconds_later = last - first

    def _ended(self) -> bool:
        return Path(f"/proc/{self._pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"


def _memory(pid: int) -> float:
    """Return what a process and its children hold alone and their share of what they hold together, in MiB (PSS)."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        own = int(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").partition("\nPss:")[2].split()[0]) / 1024
    except (OSError, IndexError):  # it ended meanwhile
        return 0.0
    return own + sum(_memory(int(child)) for child in children)


if __name__ == "__main__":
    main()
