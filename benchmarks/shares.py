"""How benchmarks state a share."""

from __future__ import annotations


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of ``hits`` among ``n`` (Wilson, J Am Stat Assoc 1927;22:209)."""
    p, z = hits / n, 1.96
    middle, half = p + z * z / (2 * n), z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def told(hits: int, n: int) -> str:
    """Return ``hits`` of ``n`` in words, with the interval."""
    low, high = wilson(hits, n)
    return f"{hits} of {n} ({max(0.0, low):.1%} to {min(1.0, high):.1%})"
