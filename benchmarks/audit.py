"""How well and how fast the audit finds copies.

    python benchmarks/audit.py ../shared/data/chen2018 --plant 200 --sizes 500,1000,2000,4000

Copies of images drawn at random (mirrored, encoded again as JPEG of quality 40, cropped to 85 % of each side, contrast stretched, turned by
5 degrees, and all of that at once) are planted into a folder of images that holds no copies of its own, and the whole is audited. Recall is
the share of planted copies that end in the cluster of their original. Every pair of images of different origin is a false pair. Then
subsets of growing size are timed.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from kneexray.datasets.audit.audit import Audit, conclude, scanned
from kneexray.datasets.audit.items import Item, items_at
from kneexray.read import read_file

KINDS = ("mirrored", "jpeg 40", "cropped 85 %", "contrast", "turned 5 deg", "all at once")


def plant(image: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    """Return an altered copy of a grey ``image``."""
    width, height = image.size
    if kind == "mirrored":
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if kind == "jpeg 40":
        return jpeg(image, 40)
    if kind == "cropped 85 %":
        w, h = round(0.85 * width), round(0.85 * height)
        x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
        return image.crop((x, y, x + w, y + h))
    if kind == "contrast":
        low, high = np.percentile(np.asarray(image), (5, 95))
        return image.point(lambda value: (value - low) * 255 / max(high - low, 1))
    if kind == "turned 5 deg":
        return image.rotate(float(rng.choice((-5, 5))), Image.Resampling.BILINEAR)
    for each in ("mirrored", "turned 5 deg", "cropped 85 %", "contrast"):
        image = plant(image, each, rng)
    return jpeg(image, 60)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Return ``image`` as it comes back from JPEG."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("L")


def planted(items: list[Item], n: int, folder: Path) -> dict[str, tuple[str, str]]:
    """Write copies of ``n`` of ``items`` into ``folder``; return, for each file, its original and kind."""
    rng = np.random.default_rng(0)
    origin = {}
    for number in rng.choice(len(items), n, replace=False):
        pixels = read_file(items[number].path).radiographs[0].pixels
        image = Image.fromarray((pixels * 255).round().astype(np.uint8))
        for kind in KINDS:
            name = f"{kind.replace(' ', '-')}-{number}.png"
            plant(image, kind, rng).save(folder / name)
            origin[str(folder / name)] = (items[number].file, kind)
    return origin


def judged(found: Audit, origin: dict[str, tuple[str, str]]) -> tuple[dict[str, float], list[tuple[str, str, float, int]]]:
    """Return the recall of each kind, and the pairs of different origin."""
    cluster = {place: group[0] for group in found.clusters_at for place in group}
    place_of = {item.file: place for place, item in enumerate(found.items)}
    hits: defaultdict[str, list[bool]] = defaultdict(list)
    for file, (original, kind) in origin.items():
        one, other = cluster.get(place_of[file], -1), cluster.get(place_of[original], -2)
        hits[kind].append(one == other)
    root = {item.file: origin.get(item.file, (item.file,))[0] for item in found.items}
    false = [
        (a, b, pair.agreement, pair.points)
        for pair in found.pairs
        if root[a := found.items[pair.first].file] != root[b := found.items[pair.second].file]
    ]
    return {kind: float(np.mean(found)) for kind, found in hits.items()}, false


def main() -> None:
    """Measure and print, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="folders without copies of their own")
    parser.add_argument("--plant", type=int, default=200, help="how many images are copied")
    parser.add_argument("--sizes", default="500,1000,2000,4000", help="subsets to time")
    parser.add_argument("--most", type=int, default=0, help="use only this many images (0: all)")
    parser.add_argument("--jobs", type=int, default=0, help="threads (0: one a core)")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON too")
    args = parser.parse_args()

    items = [replace(item, file=str(item.path)) for item in items_at(args.data) if item.path is not None]
    order = np.random.default_rng(1).permutation(len(items))
    items = [items[i] for i in order[: args.most or None]]
    with tempfile.TemporaryDirectory() as folder:
        origin = planted(items, min(args.plant, len(items)), Path(folder))
        copies = [replace(item, file=str(item.path)) for item in items_at([Path(folder)])]
        start = time.perf_counter()
        scans = scanned(items + copies, jobs=args.jobs)
        scan_each = (time.perf_counter() - start) / len(scans)
        start = time.perf_counter()
        found = conclude(items + copies, scans, jobs=args.jobs)
        seconds = time.perf_counter() - start
        recall, false = judged(found, origin)
    n = len(items) + len(copies)
    pairs = n * (n - 1) // 2
    print(f"{len(items):,} images and {len(copies):,} planted copies; {len(false)} false pairs of {pairs:,}\n")
    print("| copy | recall |\n|---|---|")
    for kind in KINDS:
        print(f"| {kind} | {recall[kind]:.3f} |")
    for a, b, agreement, points in false[:20]:
        print(f"false: {a} {b} agreement {agreement:.3f} points {points}")
    print("\n| images | comparing, s | candidates | ms an image |\n|---|---|---|---|")
    curve = []
    for size in [*[int(text) for text in args.sizes.split(",") if int(text) < len(items)], len(items)]:
        start = time.perf_counter()
        part = conclude(items[:size], scans[:size], jobs=args.jobs)
        took = time.perf_counter() - start
        curve.append((size, took, part.figures["candidates"]))
        print(f"| {size:,} | {took:.1f} | {part.figures['candidates']:,} | {took / size * 1000:.2f} |")
    slope, level = np.polyfit(np.log([c[0] for c in curve]), np.log([c[1] for c in curve]), 1)
    compare = float(np.exp(level) * 100_000**slope)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\nscan: {scan_each * 1000:.1f} ms an image; comparing {n:,} images: {seconds:.1f} s; it grows as n^{slope:.2f}; "
        f"100,000 images by extrapolation: {scan_each * 1e5 / 60:.0f} min of scanning and {compare / 60:.1f} min of comparing; peak "
        f"memory {memory:.0f} MiB"
    )
    if args.out:
        facts = {
            "recall": recall,
            "false_pairs": len(false),
            "pairs": pairs,
            "scan_s": scan_each,
            "curve": curve,
            "exponent": slope,
            "memory_mib": memory,
        }
        facts |= {"found": Counter(pair.how for pair in found.pairs).most_common(20)}
        args.out.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
