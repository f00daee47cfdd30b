"""``python -m kneexray`` is the ``kneexray`` command."""

from kneexray.cli import main

if __name__ == "__main__":
    main()
