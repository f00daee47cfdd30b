"""How many crops of one knee does the gate let through, and how many other images?

    python benchmarks/gate.py --knees ../shared/data/chen2018/val --others ../shared/data/not-knees/* ../shared/data/knee-implants ...

Prints, for each folder, how many images there are, how many would be graded with ``--roi auto``, and the names of those that should
not have been (or, of knees, that should have).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kneexray.read import find_sources
from kneexray.roi import INVERTED, find_knees
from kneexray.types import Rejection


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--knees", nargs="*", default=[])
    parser.add_argument("--others", nargs="*", default=[])
    options = parser.parse_args()
    for folder, wanted in [(f, True) for f in options.knees] + [(f, False) for f in options.others]:
        count = graded = inverted = 0
        wrong = []
        for source in find_sources([folder]):
            for radiograph in source.read().radiographs:
                found = find_knees(radiograph)
                count += 1
                graded += not isinstance(found, Rejection)
                inverted += not isinstance(found, Rejection) and INVERTED in found[0].warnings
                if isinstance(found, Rejection) == wanted:
                    wrong.append(Path(source.name).name)
        print(f"{folder}: {count} images, {graded} graded ({graded / max(count, 1):.1%}), {inverted} turned back from inverted")
        print(f"  wrongly {'refused' if wanted else 'graded'}: {', '.join(wrong) or 'none'}")


if __name__ == "__main__":
    main()
