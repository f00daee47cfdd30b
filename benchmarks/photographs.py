"""How many phone pictures of films are refused, and how many coloured pictures of the X-ray system's own are taken for one?

    python benchmarks/photographs.py ../shared/data

No true photograph of a film is at hand. These are drawn: a real film on a light box, on a monitor or held against a window, seen askew by a
camera with its white balance, vignetting, glare, pixel grid, noise and JPEG. What is measured on them says what the rule does to pictures
of this kind, not how often it is right in a clinic. Then films in colours that are no photograph's: they should pass.
"""

from __future__ import annotations

import argparse
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from shares import told

from kneexray.makers.localiser import data
from kneexray.read import find_sources, read_bytes, read_file
from kneexray.roi import find_knees

Light = NDArray[np.float32]
"""(H, W, 3) linear light in [0, 1]."""
EXIF, EXPOSURE_TIME = 0x8769, 0x829A
LONGER = 1280
"""Longer side of a photograph in pixels, as messengers send them."""


def photograph(film: NDArray[np.float32], rng: Generator, *, place: str, fills: bool) -> Light:
    """Return the light that a camera sees of a ``film`` (H, W) shown at a ``place``; ``fills``: the film fills the picture."""
    height, width = film.shape
    sizes = (LONGER, round(LONGER * 0.75)) if height > width else (round(LONGER * 0.75), LONGER)
    share = rng.uniform(1.02, 1.3) if fills else rng.uniform(0.6, 0.9)
    seen, mask = _askew(film**2.2, sizes, share, rng)
    white = _tint(rng, 0.05) * rng.uniform(0.6, 0.95)
    shown = seen[..., None] * white
    if place == "monitor":
        shown = (shown + 0.004) * _grid(sizes, rng)
    light = np.where(mask[..., None] > 0.5, shown, SURROUNDINGS[place](sizes, white, rng)).astype(np.float32)
    return _camera(light, rng)


def _askew(film: NDArray[np.float32], sizes: tuple[int, int], share: float, rng: Generator) -> tuple[Light, Light]:
    """Return a film as a camera held askew sees it, and where it lies in the picture (both ``sizes``)."""
    height, width = film.shape
    rows, columns = sizes
    scale = share * (max if share > 1 else min)(rows / height, columns / width)
    half_x, half_y = scale * width / 2, scale * height / 2
    angle = np.radians(rng.normal(0, 3))
    corners = np.array([(-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)])
    corners = corners @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = corners * (1 + rng.uniform(-0.06, 0.06, (4, 1))) + (columns / 2, rows / 2)
    there = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
    equations, wanted = [], []
    for (x, y), (u, v) in zip(corners, there, strict=True):
        equations += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        wanted += [u, v]
    matrix = tuple(np.linalg.solve(np.array(equations), np.array(wanted)))

    def seen(image: NDArray[np.float32]) -> Light:
        picture = Image.fromarray(image).transform((columns, rows), Image.Transform.PERSPECTIVE, matrix, Image.Resampling.BILINEAR)
        return np.asarray(picture, np.float32)

    return seen(film), seen(np.ones_like(film))


def _tint(rng: Generator, spread: float) -> Light:
    """Return the colour (3,) of a lamp that a camera has nearly balanced."""
    warmth, green = rng.normal(0, spread), rng.normal(0, spread / 3)
    return np.exp(np.array([warmth, green, -warmth])).astype(np.float32)


def _smooth(sizes: tuple[int, int], coarse: int, rng: Generator) -> NDArray[np.float32]:
    """Return smooth noise of ``sizes``, mean 0 and deviation 1, with about ``coarse`` bumps along a side."""
    knots = rng.standard_normal((coarse + 2, coarse + 2)).astype(np.float32)
    wide = np.asarray(Image.fromarray(knots).resize(sizes[::-1], Image.Resampling.BICUBIC))
    return np.asarray((wide - wide.mean()) / (wide.std() + 1e-6))


def _grid(sizes: tuple[int, int], rng: Generator) -> Light:
    """Return what a monitor's red, green and blue stripes become on a sensor whose pixels do not match them: coloured moire."""
    rows, columns = np.mgrid[: sizes[0], : sizes[1]].astype(np.float32)
    period, angle = rng.uniform(5, 60), rng.uniform(0, np.pi)
    phase = 2 * np.pi * (rows * np.sin(angle) + columns * np.cos(angle)) / period + rng.uniform(1, 6) * _smooth(sizes, 3, rng)
    depth = rng.uniform(0.01, 0.08)
    return np.stack([1 + depth * np.cos(phase + colour * 2 * np.pi / 3) for colour in range(3)], axis=-1).astype(np.float32)


def _light_box(sizes: tuple[int, int], white: Light, rng: Generator) -> Light:
    return (1.05 + 0.05 * _smooth(sizes, 2, rng))[..., None] * white


def _monitor(sizes: tuple[int, int], white: Light, rng: Generator) -> Light:
    return np.maximum(0, 0.03 + 0.02 * _smooth(sizes, 3, rng))[..., None] * _tint(rng, 0.15)


def _window(sizes: tuple[int, int], white: Light, rng: Generator) -> Light:
    shared = 0.7 * _smooth(sizes, 8, rng) - 1.5
    return np.exp(np.stack([shared + 0.25 * _smooth(sizes, 6, rng) for _ in range(3)], axis=-1))


SURROUNDINGS: dict[str, Callable[[tuple[int, int], Light, Generator], Light]] = {
    "light box": _light_box,
    "monitor": _monitor,
    "window": _window,
}


def _camera(light: Light, rng: Generator) -> Light:
    """Return ``light`` after uneven lamps, glare, lens, white balance, noise and the tone curve."""
    rows, columns = light.shape[:2]
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
    light = light * (1 + rng.uniform(0.02, 0.12) * _smooth((rows, columns), 2, rng)[..., None] * _tint(rng, 0.1))
    if rng.random() < 0.5:
        spot = np.exp(-((x - rng.uniform(-1, 1)) ** 2 + (y - rng.uniform(-1, 1)) ** 2) / rng.uniform(0.02, 0.3))
        light = light + rng.uniform(0.05, 0.4) * spot[..., None] * _tint(rng, 0.15)
    light = light + rng.uniform(0.0, 0.02) * _tint(rng, 0.2)  # the room's own light on the film
    light = light * (1 - rng.uniform(0.1, 0.4) * (x**2 + y**2)[..., None] / 2) * _tint(rng, 0.03)
    electrons = rng.uniform(300, 3000)
    noise = rng.standard_normal(light.shape, dtype=np.float32) * np.sqrt(np.maximum(light, 0) / electrons + 1e-5)
    light = light + (noise + np.roll(noise, 1, axis=0) + np.roll(noise, 1, axis=1)) / np.sqrt(3)  # as demosaicing leaves it
    return np.clip(light, 0, 1).astype(np.float32) ** np.float32(1 / 2.2)


def saved(picture: Light, rng: Generator, *, exif: bool) -> bytes:
    """Return a picture (H, W, 3) as a phone's or messenger's JPEG."""
    facts = Image.Exif()
    if exif:
        facts.get_ifd(EXIF)[EXPOSURE_TIME] = 0.02
    file = io.BytesIO()
    Image.fromarray((picture * 255).round().astype(np.uint8)).save(file, "JPEG", quality=int(rng.uniform(60, 93)), exif=facts)
    return file.getvalue()


def cropped(picture: Light, rng: Generator) -> Light:
    """Return the middle part of a ``picture`` as someone would cut it out."""
    rows, columns = picture.shape[:2]
    top, left = round(rng.uniform(0.01, 0.12) * rows), round(rng.uniform(0.01, 0.12) * columns)
    return picture[top : rows - round(rng.uniform(0.01, 0.12) * rows), left : columns - round(rng.uniform(0.01, 0.12) * columns)]


def _marked(film: NDArray[np.float32], rng: Generator) -> Light:
    """A film with coloured lines, arrows and a logo burnt in."""
    colour = np.repeat(film[..., None], 3, axis=2)
    for _ in range(int(rng.integers(2, 8))):
        y, x = int(rng.integers(film.shape[0])), int(rng.integers(film.shape[1]))
        down, across = rng.integers(2, max(3, film.shape[0] // 6)), rng.integers(2, max(3, film.shape[1] // 6))
        colour[y : y + down, x : x + across] = rng.choice([0.0, 0.5, 1.0], 3)
    return colour


def _toned(film: NDArray[np.float32], rng: Generator) -> Light:
    """A film with a blue base or in sepia, faintly, as a scanner sees it."""
    strength = rng.uniform(0.01, 0.035) * rng.choice([-1, 1])
    tone = film[..., None] ** np.exp(np.array([-strength, 0.0, strength]) * 1.5)
    return np.clip(tone + rng.normal(0, 0.008, tone.shape), 0, 1).astype(np.float32)


COLOURED: dict[str, Callable[[NDArray[np.float32], Generator], Light]] = {
    "grey, saved in colour": lambda film, rng: np.repeat(film[..., None], 3, axis=2),
    "with coloured marks": _marked,
    "toned faintly, as by a scanner": _toned,
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="The folder of wani, gornale, mixed-knee-films and the others.")
    parser.add_argument("--films", type=int, default=200, help="How many films of Wani & Arora at most.")
    parser.add_argument("--split", choices=["train", "held-back"], default="held-back")
    options = parser.parse_args()
    entries = [entry for entry in data.wani(options.data / "wani") if entry.held_back == (options.split == "held-back")][: options.films]
    films = [read_file(entry.path).radiographs[0].pixels for entry in entries]
    for place in SURROUNDINGS:
        for fills in (False, True):
            where = f"{place}, {'the film fills the picture' if fills else 'with surroundings'}"
            rng = np.random.default_rng([7, len(place), fills])
            pictures = [photograph(film, rng, place=place, fills=fills) for film in films]
            report(f"{where}, EXIF kept", (saved(picture, rng, exif=True) for picture in pictures))
            report(f"{where}, EXIF lost", (saved(picture, rng, exif=False) for picture in pictures))
            report(f"{where}, EXIF lost, cropped", (saved(cropped(picture, rng), rng, exif=False) for picture in pictures))
            grey = (np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2) for picture in pictures)
            report(f"{where}, EXIF lost, made grey", (saved(picture, rng, exif=False) for picture in grey))
    for what, change in COLOURED.items():
        rng = np.random.default_rng(8)
        report(f"no photograph: {what}", (saved(change(film, rng), rng, exif=False) for film in films))
    paths = [path for path in sorted(options.data.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".dcm")]
    real(paths)


def report(name: str, files: Iterable[bytes]) -> None:
    """Print what is said of the pictures ``files``."""
    said: Counter[str] = Counter()
    for content in files:
        (radiograph,) = read_bytes(content, source="picture.jpg").radiographs
        found = find_knees(radiograph)
        said["graded" if found.knees else found.rejections[0].reason] += 1
    print(f"{name}: {told(said['photograph'], said.total())} refused as photographs; {dict(said.most_common())}", flush=True)


def real(paths: Sequence[Path]) -> None:
    """Print which real films are taken for photographs."""
    taken = [source.name for source in find_sources(paths) for film in source.read().radiographs if film.photograph]
    print(f"real files: {len(taken)} of {len(paths)} taken for photographs: {', '.join(taken) or 'none'}")


if __name__ == "__main__":
    main()
