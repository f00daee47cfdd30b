"""Puts the server together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from fastapi import Depends, FastAPI
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kneexray.errors import OutputError
from kneexray.predict import Predictor
from kneexray.version import __version__
from kneexray.web import api, problems, stow, telemetry, visit_api
from kneexray.web.admission import Admission, BodyLimit
from kneexray.web.batcher import Engine
from kneexray.web.cache import Cache
from kneexray.web.grading import AHEAD, Grading
from kneexray.web.history import History
from kneexray.web.security import Guard, SecurityHeaders
from kneexray.web.settings import MEBIBYTE, Settings
from kneexray.web.visits import Visit, Visits

logger = logging.getLogger(__name__)
_EXPIRE_SECONDS = 30


def create_app(settings: Settings, *, predictor: Predictor | None = None, on_visit: Callable[[Visit], None] | None = None) -> FastAPI:
    """Return the server. ``predictor`` replaces the one that ``settings`` describe; ``on_visit`` is handed each visit, on a thread.

    Raises :class:`~kneexray.errors.BundleError`, :class:`~kneexray.errors.ConfigError` and :class:`~kneexray.errors.OutputError` (history).
    """
    meter = telemetry.Telemetry()
    predictor = predictor or Predictor(
        tasks=settings.tasks, models=settings.models, coverage=settings.coverage, threads=1, provider=settings.provider
    )
    engine = Engine(
        predictor,
        queue_films=settings.max_requests * AHEAD,
        workers=settings.workers,
        window=settings.batch_window_ms / 1000,
        batch_films=settings.batch_films,
        on_batch=meter.batch,
    )
    visits = Visits(minutes=settings.visit_minutes, max_bytes=settings.visits_mb * MEBIBYTE)
    cache = Cache(minutes=settings.visit_minutes, max_bytes=settings.cache_mb * MEBIBYTE)
    history = History(settings.history, keep_days=settings.keep_days) if settings.history else None
    meter.watch(engine, visits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.drawing = anyio.CapacityLimiter(engine.workers)
        await run_in_threadpool(engine.start)
        expiring = asyncio.create_task(_expire(visits, cache, history))
        yield
        expiring.cancel()
        with suppress(asyncio.CancelledError):
            await expiring
        await run_in_threadpool(engine.stop)
        if history is not None:
            history.close()

    app = FastAPI(
        title="KneeXRay",
        summary="Grades knee radiographs. For research use; not a medical device.",
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.engine = engine
    app.state.visits = visits
    app.state.history = history
    app.state.grading = Grading(engine, settings=settings, telemetry=meter, cache=cache, visits=visits, history=history, on_visit=on_visit)
    problems.install(app)
    documented = [Depends(HTTPBearer(auto_error=False))] if settings.token else []  # in OpenAPI: it is the guard that asks
    for router in (api.router, visit_api.router, stow.router):
        app.include_router(router, dependencies=documented)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(meter.exposition(), media_type=telemetry.CONTENT_TYPE)

    from kneexray.web import pages

    app.include_router(pages.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")

    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(Admission, settings=settings, wait_seconds=lambda: engine.wait_seconds)
    app.add_middleware(Guard, token=settings.token.get_secret_value() if settings.token else None, hosts=settings.hosts)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(_Log, meter=meter)
    return app


async def _expire(visits: Visits, cache: Cache, history: History | None) -> None:
    while True:
        visits.expire()
        cache.expire()
        try:
            if history is not None:
                await run_in_threadpool(history.expire)
        except OutputError:  # a full disk, say: until there is room again, searches leave out what is too old
            logger.exception("the history could not be cleared of what is too old")
        await asyncio.sleep(_EXPIRE_SECONDS)


class _Log:
    """Logs and counts each request by its route: an address may hold the identifier of a visit, and is as good as a key."""

    def __init__(self, app: ASGIApp, *, meter: telemetry.Telemetry) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")
            self._meter.request(scope["method"], route, status, seconds)
            logger.info("%s %s %d %.0f ms", scope["method"], route, status, seconds * 1000)
