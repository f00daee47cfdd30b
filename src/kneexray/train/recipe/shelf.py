"""The recipes that ship: found by name, listed with what they are for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from kneexray.errors import ConfigError, choices


def folder() -> Path:
    """Return the folder of the recipes: inside an installed package, beside ``src`` in a checkout."""
    package = Path(str(resources.files("kneexray")))
    return next((place for place in (package / "recipes", package.parents[1] / "recipes") if place.is_dir()), package / "recipes")


def names() -> tuple[str, ...]:
    """Return the names of the recipes that ship, without their ending: ``kl``, ``studies/osteoporosis-cnn``."""
    root = folder()
    return tuple(sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.toml")))


def find(recipe: str | Path) -> Path:
    """Return the file of a ``recipe``: a path, the name of one that ships, or the last part of such a name where only one has it.

    Raises :class:`~kneexray.errors.ConfigError` that lists the nearest names.
    """
    path = Path(recipe)
    if path.is_file():
        return path
    known = names()
    name = path.as_posix().removesuffix(".toml").removeprefix("recipes/")
    fitting = [one for one in known if one == name] or [one for one in known if one.rsplit("/", 1)[-1] == name]
    if len(fitting) == 1:
        return folder() / f"{fitting[0]}.toml"
    if not fitting and path.suffix:
        return path  # a file that is not there: whoever opens it says so
    if len(fitting) > 1:
        raise ConfigError(f"recipe '{recipe}': {', '.join(fitting)} have this name. Give one of them whole.")
    raise ConfigError(f"{recipe}: there is no such file, and no recipe of this name ships: {choices('recipe', str(recipe), known)}")


def described() -> Iterator[tuple[str, str]]:
    """Yield each recipe's name and the first sentence of its header."""
    for name in names():
        lines = (folder() / f"{name}.toml").read_text(encoding="utf-8").splitlines()
        header = " ".join(
            line.lstrip("# ").rstrip() for line in lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)]
        )
        yield name, f"{header.partition('. ')[0].rstrip('.')}." if header else ""
