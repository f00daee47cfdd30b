"""How much may come at once, how large, and how slowly: decided before a body is read, and while it is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kneexray.web.problems import Problem, busy
from kneexray.web.settings import Settings


class Admission:
    """Lets through so many uploads (every POST is one) at a time: further ones are answered 503, or 429 where one client has them all."""

    def __init__(self, app: ASGIApp, *, settings: Settings, wait_seconds: Callable[[], int]) -> None:
        self._app = app
        self._settings = settings
        self._wait_seconds = wait_seconds
        self._in_hand: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        client = (scope.get("client") or ("",))[0]
        if refusal := self._refusal(client):
            await refusal.response()(scope, receive, send)
            return
        self._in_hand[client] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_hand[client] -= 1
            if not self._in_hand[client]:
                del self._in_hand[client]

    def _refusal(self, client: str) -> Problem | None:
        if self._in_hand.total() >= self._settings.max_requests:
            return busy(self._wait_seconds(), "the server has as many requests in hand as it takes")
        if self._in_hand[client] >= self._settings.max_requests_per_client:
            return busy(self._wait_seconds(), "you have as many requests in hand as one client may", status=429)
        return None


class BodyLimit:
    """Refuses bodies over ``settings.max_upload_bytes`` as soon as that is known, and those that come too slowly."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length) > self._settings.max_upload_bytes:
            await self._too_large().response()(scope, receive, send)
            return
        seen, complete = 0, False
        end = time.monotonic() + self._settings.upload_seconds

        async def receive_limited() -> Message:
            nonlocal seen, complete
            if complete:  # what follows is the news that the client left, which may take as long as it likes
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), min(self._settings.idle_seconds, end - time.monotonic()))
            except TimeoutError:
                detail, remedy = "the request came too slowly, or not to its end", "Send it again, or fewer films at a time."
                raise Problem(408, detail, remedy=remedy, headers={"Connection": "close"}) from None
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > self._settings.max_upload_bytes:
                raise self._too_large()
            return message

        await self._app(scope, receive_limited, send)

    def _too_large(self) -> Problem:
        return Problem(
            413,
            f"the request is larger than {self._settings.max_upload_mb} MiB",
            remedy="Send fewer films a request, or compress them without loss.",
            headers={"Connection": "close"},
        )
