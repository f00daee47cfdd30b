"""Who may ask, and what browsers may do with the answers. No cookie is ever set, and no other site may read anything (no CORS)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection
from types import MappingProxyType
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kneexray.web.problems import Problem

HEADERS: MappingProxyType[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)
_OPEN = "/api/v1/health"
_STATIC = "/static/"
"""No token is asked for there: these are the same for everyone."""
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class SecurityHeaders:
    """Adds :data:`HEADERS` to every answer, and forbids keeping any that is not the same for everyone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if not scope["path"].startswith(_STATIC):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class Guard:
    """Refuses requests without the ``token``, if there is one, and those that another site makes a browser send.

    ``hosts`` are the names by which the server may be called (empty: any): a page whose own name leads to this machine gets nothing.
    The token comes as ``Authorization: Bearer``, or, from browsers, as the password of ``Authorization: Basic``.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] == "http" and (refusal := self._refusal(scope["method"], scope["path"], Headers(scope=scope))):
            await refusal.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, method: str, path: str, headers: Headers) -> Problem | None:
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            return Problem(421, "the server goes by another name", remedy="Start it with --allow-host and the name that you called it by.")
        if method in _UNSAFE and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return Problem(403, "another site sent this request", remedy="Send it from this server's own pages, or from a program.")
        if self._token is None or path == _OPEN or path.startswith(_STATIC):
            return None
        given = given_token(headers.get("authorization", ""))
        if given is not None and hmac.compare_digest(given.encode(), self._token.encode()):
            return None
        challenge = 'Basic realm="KneeXRay", charset="UTF-8"' if "text/html" in headers.get("accept", "") else 'Bearer realm="KneeXRay"'
        return Problem(
            401,
            "the token is missing" if given is None else "the token is wrong",
            remedy="Send the server's token as 'Authorization: Bearer TOKEN'; in a browser, as the password of any user name.",
            headers={"WWW-Authenticate": challenge},
        )


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def given_token(authorization: str) -> str | None:
    """Return the token in an Authorization header, or None."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, ValueError):
        return None
