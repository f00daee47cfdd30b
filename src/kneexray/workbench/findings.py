"""The findings of an audit as groups of films that a person can go through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kneexray.datasets.manifest import Example, Manifest
from kneexray.errors import DataError
from kneexray.workbench.places import AUDIT, read_json

KINDS: MappingProxyType[str, str] = MappingProxyType(
    {
        "label_conflicts": "Label conflicts",
        "split_leaks": "Split leaks",
        "near_groups": "Near-duplicates",
        "exact_groups": "Exact copies",
        "suspicious": "Suspicious",
    }
)
"""What an audit finds, by its name in ``audit.json``, in the order of how much it matters."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A group of films that an audit points at, and what is to be said of it."""

    files: tuple[str, ...]
    what: str


def read(folder: Path) -> tuple[dict[str, list[Finding]], str]:
    """Return the findings of the audit in ``folder`` by kind, the kinds that have some only, and the digest of the audited manifest.

    Raises :class:`~kneexray.errors.DataError` for a file that is no audit.
    """
    path = folder / AUDIT
    stored = read_json(path)
    try:
        how = {frozenset(pair["files"]): pair["how"] for pair in stored["near_pairs"]}
        found = {
            "label_conflicts": [Finding(tuple(g["files"]), "One film under different labels") for g in stored["label_conflicts"]],
            "split_leaks": [Finding(tuple(g["files"]), f"In more than one split ({g['kind']})") for g in stored["split_leaks"]],
            "near_groups": [Finding(tuple(files), _how(files, how)) for files in stored["near_groups"]],
            "exact_groups": [Finding(tuple(files), f"{len(files)} identical films") for files in stored["exact_groups"]],
            "suspicious": [Finding((entry["file"],), entry["reason"]) for entry in stored["suspicious"]],
        }
        return {kind: groups for kind, groups in found.items() if groups}, str(stored["digest"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: is no audit that can be read ({error}). Run 'kneexray data audit' again.") from error


def audited(folder: Path) -> Path | None:
    """Return the path that the audit in ``folder`` was made of, where its record names one and that is still there."""
    paths = read_json(folder / "manifest.json").get("config", {}).get("paths", [])
    return Path(paths[0]) if len(paths) == 1 and Path(paths[0]).exists() else None


def examples_of(manifest: Manifest) -> dict[str, Example]:
    """Return the films of a manifest by the name that an audit of it uses."""
    return {example.path: example for example in manifest.examples}


def _how(files: list[str], how: dict[frozenset[str], str]) -> str:
    """Say what was done to one film to make another."""
    told = {how[pair] for i, a in enumerate(files) for b in files[i + 1 :] if (pair := frozenset((a, b))) in how}
    return "; ".join(sorted(told)[:3]) or "the same film"
