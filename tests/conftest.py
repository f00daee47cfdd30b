"""What every test may ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from kneexray.synthetic import draw_knee

settings.register_profile("house", deadline=None)  # a busy machine is no failure
settings.load_profile("house")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real radiographs beside the checkout; tests that need them are skipped where they are not."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real radiographs (../shared/data) are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder train/ val/ of drawn knees, two a patient, named as the public crops are."""
    root = tmp_path_factory.mktemp("knees")
    for split, patients, first in (("train", 6, 0), ("val", 2, 50)):
        for grade in range(5):
            folder = root / split / str(grade)
            folder.mkdir(parents=True)
            for patient in range(patients):
                for side in "LR":
                    pixels = draw_knee(grade, seed=first + patient, size=80)
                    Image.fromarray((pixels * 255).astype(np.uint8)).save(folder / f"9{grade}{first + patient:05d}{side}.png")
    return root
