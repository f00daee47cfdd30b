"""DICOMDIR: the files that the directory of a medium lists (PS3.3 F)."""

from __future__ import annotations

from pathlib import Path


def directory_files(path: Path) -> list[Path]:
    """Return the files below the folder of ``path`` that a DICOMDIR lists and that are there; none where it is no DICOMDIR.

    Names are found whatever their case, as CDs have them; one that leads out of the folder is passed over.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        records = dcmread(path, specific_tags=["DirectoryRecordSequence"]).get("DirectoryRecordSequence") or []
        names = [record.get("ReferencedFileID") for record in records]
    except (InvalidDicomError, OSError, ValueError, TypeError, KeyError, AttributeError):
        return []
    found = []
    for name in names:
        parts = [name] if isinstance(name, str) else list(name or [])
        file = _below(path.parent, [str(part) for part in parts])
        if file is not None and file not in found:
            found.append(file)
    return found


def _below(folder: Path, parts: list[str]) -> Path | None:
    for part in parts:
        if part in ("", ".", "..") or "/" in part:
            return None
        there = folder / part
        if not there.exists():
            try:
                there = next((entry for entry in folder.iterdir() if entry.name.upper() == part.upper()), there)
            except OSError:
                return None
        folder = there
    return folder if parts and folder.is_file() else None
