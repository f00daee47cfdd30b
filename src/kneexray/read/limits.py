"""How much of a file the readers are ready to take: the guard against decompression bombs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Safety limits; what goes beyond them is a ``too_large`` or ``unsafe_archive`` rejection.

    ``max_pixels`` counts the pixels of all frames of one file together, and is checked on the header before anything is
    decoded; 80 million is a 35 x 43 cm film at 0.043 mm (320 MB as float32). ``max_frames`` counts frames or pages.
    ``max_bytes`` bounds a file or archive member that is held in memory. ``max_nested_bytes`` bounds an archive inside
    an archive, which is unpacked to memory or, beyond 64 MiB, to an unnamed temporary file. ``max_total_bytes`` and
    ``max_ratio`` bound what one archive unpacks to, the ratio only beyond 1 GiB; ``max_depth`` counts archives in
    archives.
    """

    max_pixels: int = 80_000_000
    max_frames: int = 100
    max_bytes: int = 1 << 30
    max_nested_bytes: int = 4 << 30
    max_total_bytes: int = 256 << 30
    max_ratio: float = 200.0
    max_depth: int = 3


DEFAULT_LIMITS = Limits()
