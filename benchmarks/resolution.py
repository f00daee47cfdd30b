"""How often is a knee that was enlarged from few pixels told from one that has them?

    python benchmarks/resolution.py ../shared/data/chen2018/val

Crops as they are, then every third of them reduced (Lanczos) and enlarged again: how many are refused, and how many warned of or refused.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from kneexray.read import find_sources, read_file
from kneexray.roi.resolution import Detail, detail, is_soft, resolution_objection

SIDES = (64, 96, 128, 160)
KINDS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path)
    films = [read_file(Path(source.name)).radiographs[0].pixels for source in find_sources(parser.parse_args().crops)]
    print_row("as they are", [look(film) for film in films])
    for side in SIDES:
        for name, kind in KINDS.items():
            print_row(f"{side} px, {name}", list(enlarged(films[::3], side, kind)))


def look(pixels: np.ndarray) -> Detail | None:
    """Return the detail of a whole crop."""
    return detail(pixels, (0, 0, float(pixels.shape[1]), float(pixels.shape[0])))


def enlarged(films: list[np.ndarray], side: int, kind: Image.Resampling) -> Iterator[Detail | None]:
    """Yield the detail of crops that were reduced to ``side`` and enlarged again."""
    for film in films:
        image = Image.fromarray(film)
        yield look(np.asarray(image.resize((side, side), Image.Resampling.LANCZOS).resize(image.size, kind)).clip(0, 1))


def print_row(name: str, found: list[Detail | None]) -> None:
    """Print how many of a kind are refused, and warned of or refused."""
    refused = [resolution_objection(one) is not None for one in found]
    said = [no or is_soft(one) for no, one in zip(refused, found, strict=True)]
    print(f"| {name} | {len(found)} | {sum(refused)} | {sum(said)} |")


if __name__ == "__main__":
    main()
