"""Errors as ``application/problem+json`` (RFC 9457), with the remedy in a member of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)


class ProblemDocument(BaseModel):
    """What every error answers."""

    model_config = ConfigDict(extra="forbid")

    title: str
    status: int
    detail: str
    remedy: str


class Absent(Exception):
    """What was asked for does not exist; the message says why."""


class Problem(HTTPException):
    """A request that cannot be answered: what is wrong, and what to do."""

    def __init__(self, status: int, detail: str, *, remedy: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers=dict(headers or {}))
        self.remedy = remedy

    def response(self) -> Response:
        """Return the answer to the client."""
        title = HTTPStatus(self.status_code).phrase
        body = ProblemDocument(title=title, status=self.status_code, detail=str(self.detail), remedy=self.remedy)
        return JSONResponse(body.model_dump(), self.status_code, self.headers, media_type="application/problem+json")


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the entries of OpenAPI for the errors of a route."""
    content = {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def busy(seconds: int, detail: str, *, status: int = 503) -> Problem:
    """Return the refusal of a request that comes at a bad time."""
    return Problem(status, detail, remedy=f"Send it again in {seconds} s.", headers={"Retry-After": str(seconds)})


class Failures:
    """Answers what nobody expected with a problem document too, and logs it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = False

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception:
            if started or scope["type"] != "http":
                raise
            logger.exception("a request failed")
            problem = Problem(500, "the server met an error that it did not expect", remedy="See the server's log, and report it.")
            await problem.response()(scope, receive, send)


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem document."""
    app.add_middleware(Failures)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _gone)


_REMEDIES = {404: "Check the address.", 405: "Use one of the methods in the header Allow."}


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, Problem):
        return error.response()
    remedy = _REMEDIES.get(error.status_code, "See /api/v1/openapi.json for what is accepted.")
    headers = {"Allow": ", ".join(_allowed(request))} if error.status_code == 405 else error.headers
    return Problem(error.status_code, str(error.detail), remedy=remedy, headers=headers).response()


def _allowed(request: Request) -> list[str]:
    """Return the methods of all routes at an address; the router names those of the first only."""
    there = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in there for method in getattr(route, "methods", None) or ()})


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    return Problem(422, said, remedy="See /api/v1/openapi.json for what is accepted.").response()


async def _gone(request: Request, error: Exception) -> Response:
    return Problem(400, "the client left before it had sent everything", remedy="Send it again.").response()
