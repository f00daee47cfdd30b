"""A page of HTML: the templates, the reader's language, and addresses that keep it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from kneexray.version import __version__
from kneexray.web.settings import Settings
from kneexray.web.translation import LANGUAGES, Words, catalogue, choose


def page(request: Request, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """Return the page that ``template`` makes of ``values``, in the language that the request asks for."""
    say = words_of(request)
    settings: Settings = request.app.state.settings
    here = Place(request)
    text = (
        _environment()
        .get_template(template)
        .render(
            {
                "say": say,
                "settings": settings,
                "root": here.root,
                "link": here.link,
                "static": here.static,
                "in_language": here.in_language,
                "languages": LANGUAGES,
                "asked_language": here.language,
                "here": request.url.path.removeprefix(here.root),
                "places": [
                    ("/", "nav.grade"),
                    *([("/history", "nav.history")] if request.app.state.history is not None else []),
                    ("/about", "nav.about"),
                ],
                "version": __version__,
                "kept": say(
                    f"kept.{'memory' if request.app.state.history is None else 'history'}",
                    minutes=f"{settings.visit_minutes:g}",
                    days=f"{settings.keep_days:g}",
                ),
            }
            | values
        )
    )
    return HTMLResponse(text, status, headers={"Content-Language": say.language, "Vary": "Accept-Language"})


def words_of(request: Request) -> Words:
    """Return the messages in the language of ``?lang=``, else of the browser."""
    return Words(choose(request.query_params.get("lang"), accepted=request.headers.get("accept-language", "")))


def script_words(say: Words) -> str:
    """Return the messages that the start page's script needs, as JSON; its placeholders are left for it to fill."""
    messages = catalogue(say.language)
    mine = {key.removeprefix("script."): text for key, text in messages.items() if key.startswith("script.")}
    return json.dumps(mine | {key: text for key, text in messages.items() if key.startswith("reason.")}, ensure_ascii=False)


class Place:
    """Where a request is: makes addresses that stand behind the same proxy and speak the same language."""

    def __init__(self, request: Request) -> None:
        self.root = str(request.scope.get("root_path", "")).rstrip("/")
        self._path = request.url.path.removeprefix(self.root)
        self._query = request.query_params
        asked = self._query.get("lang")
        self.language = asked if asked in LANGUAGES else None

    def link(self, path: str, **query: object) -> str:
        """Return the address of a page of this server."""
        return self._address(path, query | ({"lang": self.language} if self.language else {}))

    def in_language(self, code: str) -> str:
        """Return the address of this very page in another language."""
        return self._address(self._path, {**self._query, "lang": code})

    def static(self, path: str) -> str:
        """Return the address of a file that never changes under this version."""
        return f"{self.root}/static/{path}?v={__version__}"

    def _address(self, path: str, query: Mapping[str, object]) -> str:
        return self.root + quote(path) + (f"?{urlencode(query)}" if query else "")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kneexray.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["icon"] = environment.get_template("icons.html").module.icon  # type: ignore[attr-defined]
    return environment
