"""Everything that can be set about a server, with the defaults of one that serves a single machine."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from kneexray.inference.bundle import default_tasks
from kneexray.read import Limits

MEBIBYTE = 1 << 20


class Settings(BaseModel):
    """How a server listens, what it grades, and how much it takes.

    ``hosts`` are the names by which it may be called (empty: any): a name of somebody else's that leads to this machine is refused.

    A request beyond ``max_requests`` in hand is answered 503, one client's beyond ``max_requests_per_client`` 429, both with
    Retry-After. ``max_upload_mb`` is of a whole request, in MiB; ``max_films`` counts the films in it, archives included, and
    ``max_megapixels`` is of one of them. ``film_seconds`` is how long a film may wait and be graded, ``idle_seconds`` how long a client
    may pause while it sends, ``upload_seconds`` how long it may take altogether. ``batch_window_ms`` is how long a film waits for others
    to be graded with, at most ``batch_films`` together, by ``workers`` threads (0: one a core).

    Results, and answers to the same bytes, are kept in memory for ``visit_minutes``, in at most ``visits_mb`` and ``cache_mb``.
    ``history`` is the database of what was answered, off by default, kept for ``keep_days``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    hosts: tuple[str, ...] = ()
    token: SecretStr | None = None

    tasks: tuple[str, ...] = Field(default_factory=default_tasks, min_length=1)
    models: tuple[Path, ...] = ()
    coverage: float = 0.9
    provider: str = "auto"
    workers: int = Field(0, ge=0)
    batch_window_ms: float = Field(4, ge=0)
    batch_films: int = Field(8, ge=1)

    max_requests: int = Field(32, ge=1)
    max_requests_per_client: int = Field(16, ge=1)
    max_upload_mb: int = Field(256, ge=1)
    max_films: int = Field(64, ge=1)
    max_megapixels: int = Field(64, ge=1)
    film_seconds: float = Field(60, gt=0)
    idle_seconds: float = Field(30, gt=0)
    upload_seconds: float = Field(900, gt=0)
    shutdown_seconds: int = Field(30, ge=1)

    visit_minutes: float = Field(30, gt=0)
    visits_mb: int = Field(1024, ge=1)
    cache_mb: int = Field(64, ge=0)
    history: Path | None = None
    keep_days: float = Field(30, gt=0)

    @property
    def max_upload_bytes(self) -> int:
        """The largest request body."""
        return self.max_upload_mb * MEBIBYTE

    @property
    def limits(self) -> Limits:
        """What the readers may take of one upload: an archive may unpack to four times the largest body."""
        return Limits(
            max_pixels=self.max_megapixels * 1_000_000,
            max_frames=self.max_films,
            max_bytes=self.max_upload_bytes,
            max_total_bytes=4 * self.max_upload_bytes,
            max_depth=1,
        )
