"""What the server counts, for Prometheus. Routes are named by their template: addresses hold the identifiers of visits."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from kneexray.types import FilmResult
from kneexray.web.batcher import Engine
from kneexray.web.visits import Visits

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Telemetry:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter("kneexray_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry)
        self._seconds = Histogram(
            "kneexray_request_seconds", "From the first byte to the last.", ("route",), buckets=_SECONDS, registry=self._registry
        )
        self._films = Counter("kneexray_films", "Films answered: graded, or the reason why not.", ("outcome",), registry=self._registry)
        self._cache = Counter("kneexray_cache", "Films looked up by their hash.", ("outcome",), registry=self._registry)
        self._batch = Histogram("kneexray_batch_films", "Films graded together.", buckets=(1, 2, 4, 8, 16, 32), registry=self._registry)
        self._grading = Histogram("kneexray_grading_seconds", "A batch, read and graded.", buckets=_SECONDS, registry=self._registry)

    def watch(self, engine: Engine, visits: Visits) -> None:
        """Report the length of the queue and the size of the visits whenever the counters are read."""
        Gauge("kneexray_queue_films", "Films that wait.", registry=self._registry).set_function(lambda: engine.waiting)
        Gauge("kneexray_visits_bytes", "What the visits hold.", registry=self._registry).set_function(lambda: visits.size)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def film(self, result: FilmResult) -> None:
        """Count a film."""
        if result.predictions:
            self._films.labels("graded").inc()
        for reason in {rejection.reason for rejection in result.rejections}:
            self._films.labels(reason).inc()

    def cache(self, *, hit: bool) -> None:
        """Count a look into the cache."""
        self._cache.labels("hit" if hit else "miss").inc()

    def batch(self, films: int, seconds: float) -> None:
        """Count a batch."""
        self._batch.observe(films)
        self._grading.observe(seconds)

    def exposition(self) -> bytes:
        """Return the counters as Prometheus reads them."""
        return generate_latest(self._registry)
