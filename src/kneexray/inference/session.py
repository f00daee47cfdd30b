"""Runs a bundle's network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneexray.inference.bundle import Bundle
from kneexray.inference.engines import Engine
from kneexray.inference.engines import open_engine as open_engine


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """A network's outputs: ``logits`` (N, K) and class maps ``cam`` (N, K, h, w) of all its tasks, ``lengths`` (N, M) as shares."""

    logits: NDArray[np.float32]
    cam: NDArray[np.float32] | None
    lengths: NDArray[np.float32] | None


class Session:
    """A loaded network. Threads may share it.

    ``threads`` is how many cores one call of :meth:`run` uses (0: all). To use every core on many images, call
    :meth:`run` from as many Python threads on a session of one thread each: that scales better than one call on all.
    ``provider`` is what it runs on, as for :func:`~kneexray.inference.engines.open_engine`.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0, provider: str = "cpu") -> None:
        self.bundle = bundle
        self.threads = threads
        self.provider = provider
        self._engine: Engine | None = None

    def load(self) -> Session:
        """Load the network now rather than at the first image; raises what :func:`~kneexray.inference.engines.open_engine` raises."""
        self._loaded()
        return self

    @property
    def device(self) -> str:
        """What the network runs on, a row of :data:`kneexray.inference.engines.PROVIDERS`; loads it."""
        return self._loaded().device

    def run(
        self, images: NDArray[np.float32], *, cam: bool = True, task: str | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return logits (N, K) and class maps (N, K, h, w) for ``task`` (None: the first) of images (N, 1, H, W).

        There are no maps where ``cam`` is false or the model has none.
        """
        outputs, columns = self.answers(images, cam=cam), self.bundle.card.columns(task or self.bundle.card.task)
        return outputs.logits[:, columns], None if outputs.cam is None else outputs.cam[:, columns]

    def answers(self, images: NDArray[np.float32], *, cam: bool = True) -> Answers:
        """Return what the network says of images (N, 1, H, W) for all of its tasks, in one pass."""
        card = self.bundle.card
        asked = ["logits", *(["cam"] if cam and card.class_map else []), *(["lengths"] if card.lengths else [])]
        given = dict(zip(asked, self._loaded().run(asked, {"image": images}), strict=True))
        return Answers(given["logits"], given.get("cam"), given.get("lengths"))

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = open_engine(self.bundle.network, threads=self.threads, provider=self.provider)
        return self._engine
