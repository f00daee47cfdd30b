"""The node's folder: files that are on the disk for good before anyone is told so."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from kneexray.files import make_folder, output_errors, sync

FILMS, RESULTS = "films", "results"


class Spool:
    """Films under a digest of their UID, and a folder of results a film. Names within it are relative to ``folder``.

    Raises :class:`~kneexray.errors.OutputError` where the disk is full or the folder may not be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path in (folder, folder / FILMS, folder / RESULTS):
            make_folder(path)
            with output_errors(path):
                path.chmod(0o700)

    def store_film(self, data: bytes, *, uid: str) -> str:
        """Write a film, whole or not at all, and return its name."""
        name = f"{FILMS}/{blake2b(uid.encode(), digest_size=16).hexdigest()}.dcm"
        path = self.folder / name
        with output_errors(path):
            handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(partial).replace(path)
            except OSError:
                Path(partial).unlink(missing_ok=True)
                raise
            sync(path.parent)
        return name

    def results_folder(self, film: int) -> Path:
        """Return the folder for the results of a film, empty."""
        folder = self.folder / RESULTS / str(film)
        with output_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        return folder

    def settle(self, folder: Path) -> list[str]:
        """Return the names of the files in a folder of results, once all are on the disk."""
        with output_errors(folder):
            paths = sorted(folder.iterdir())
            for path in (*paths, folder, folder.parent):
                sync(path)
        return [path.relative_to(self.folder).as_posix() for path in paths]

    def remove(self, film: int, name: str) -> None:
        """Remove a film called ``name`` and its results."""
        shutil.rmtree(self.folder / RESULTS / str(film), ignore_errors=True)
        with output_errors(self.folder / name):
            (self.folder / name).unlink(missing_ok=True)

    def sweep(self, names: Iterable[str]) -> None:
        """Remove every film that is none of ``names``: what was being received when the node was killed, and nobody was promised."""
        known = {self.folder / name for name in names}
        with output_errors(self.folder):
            for path in (self.folder / FILMS).iterdir():
                if path not in known:
                    path.unlink()
