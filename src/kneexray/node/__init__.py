"""A DICOM node: an archive or a modality sends it films, it sends the answers into the same study. Needs the ``serve`` extra.

::

    receiver (C-STORE) -> spool and queue -> worker (grades, writes SR and SC) -> queue -> sender (C-STORE or STOW-RS) -> archive

Everything between the arrows lies on the disk, so that the node may be killed at any moment: started again, it goes on where it was.
"""

from __future__ import annotations

from kneexray.node.node import Node as Node
from kneexray.node.settings import Archive as Archive
from kneexray.node.settings import NodeSettings as NodeSettings
from kneexray.predict import Predictor


def start(settings: NodeSettings, predictor: Predictor) -> Node:
    """Return a node at work, on threads of its own, that grades with ``predictor``.

    Raises :class:`~kneexray.errors.ConfigError` for a port or spool folder that is in use, :class:`~kneexray.errors.OutputError` for a
    folder that cannot be written, :class:`~kneexray.errors.MissingExtraError` for a format whose extra is not installed.
    """
    return Node(settings, predictor)
