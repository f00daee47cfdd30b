"""``kneexray serve``."""

from __future__ import annotations

import logging
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kneexray.cli._extras import need
from kneexray.errors import ConfigError, KneeXRayError
from kneexray.inference.engines import PROVIDERS

if TYPE_CHECKING:
    from fastapi import FastAPI

    from kneexray.node import Node
    from kneexray.predict import Predictor
    from kneexray.web.settings import Settings


LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 for every one of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at; 0 for any free one.")] = 8000,
    allow_host: Annotated[list[str] | None, typer.Option(help="A name by which a proxy may call a server on 127.0.0.1.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file with the token that every request must bring.")] = None,
    task: Annotated[str, typer.Option(help="What to grade, separated by commas (default: kl, oa).")] = "",
    model: Annotated[list[Path] | None, typer.Option(help="A bundle in place of the model that ships for its task.")] = None,
    history: Annotated[Path | None, typer.Option(help="Keep what was answered in this SQLite database (default: nothing is kept).")] = None,
    keep_days: Annotated[float, typer.Option(help="How many days --history goes back.")] = 30,
    provider: Annotated[str, typer.Option(help=f"What the network runs on: auto, {', '.join(PROVIDERS)}.")] = "auto",
    workers: Annotated[int, typer.Option(help="Threads that grade (0: one a core).")] = 0,
    max_upload_mb: Annotated[int, typer.Option(help="The largest request, in MiB.")] = 256,
    max_films: Annotated[int, typer.Option(help="The most films in a request.")] = 64,
    max_requests: Annotated[int, typer.Option(help="The most requests in hand; further ones are told to come back (503).")] = 32,
    max_requests_per_client: Annotated[int, typer.Option(help="The most of them from one address (429).")] = 16,
    visit_minutes: Annotated[float, typer.Option(help="How long results stay in memory.")] = 30,
    visits_mb: Annotated[int, typer.Option(help="How much memory they take at most, in MiB.")] = 1024,
    dicom_port: Annotated[int | None, typer.Option(help="Be a DICOM node at this port as well.")] = None,
    spool: Annotated[Path | None, typer.Option(help="The node's own folder, for films and results on their way.")] = None,
    send_to: Annotated[str, typer.Option(help="Where the node sends results: AET@host:port, or a DICOMweb address.")] = "",
    send_format: Annotated[str, typer.Option(help="What it sends: dicom-sr, dicom-sc, dicom-pdf.")] = "dicom-sr,dicom-sc",
    allow: Annotated[list[str] | None, typer.Option(help="An AE title that may send films to the node.")] = None,
    aet: Annotated[str, typer.Option(help="The node's own AE title.")] = "KNEEXRAY",
) -> None:
    """Serve the web app, the API and DICOMweb until stopped. For research use; not a medical device."""
    need("serve", "fastapi", "uvicorn", "jinja2", "python_multipart", "prometheus_client")
    from kneexray.web.app import create_app

    settings = _settings(
        host=host,
        port=port,
        hosts=[*LOOPBACK, *(name.lower() for name in allow_host or ())] if host in LOOPBACK or allow_host else None,
        token=_token(token_file) if token_file else None,
        tasks=[name.strip() for name in task.split(",") if name.strip()] or None,
        models=model,
        history=history,
        keep_days=keep_days,
        provider=provider,
        workers=workers,
        max_upload_mb=max_upload_mb,
        max_films=max_films,
        max_requests=max_requests,
        max_requests_per_client=max_requests_per_client,
        visit_minutes=visit_minutes,
        visits_mb=visits_mb,
    )
    if token_file is None and host not in LOOPBACK:
        logging.getLogger(__name__).warning("anyone who reaches %s may use this server: give it a token with --token-file", host)
    app = create_app(settings)
    app.state.engine.predictor.load()  # here what is wrong with a model is a sentence, at the server's start a traceback
    with ExitStack() as stack:
        listening = stack.enter_context(_listening(settings))
        if dicom_port is not None:
            predictor = app.state.engine.predictor
            formats = tuple(name.strip() for name in send_format.split(",") if name.strip())
            given = {"allow": tuple(allow or ()), "aet": aet, "host": host, "port": dicom_port, "formats": formats}
            node = _node(predictor, spool=spool, send_to=send_to, **given)
            typer.echo(f"DICOM node {aet} at {host}:{stack.enter_context(node).port}")
        address = f"[{host}]" if ":" in host else host
        typer.echo(f"KneeXRay at http://{address}:{listening.getsockname()[1]} (stop with Ctrl-C). For research use; not a medical device.")
        _run(app, listening, settings)


def _run(app: FastAPI, listening: socket.socket, settings: Settings) -> None:
    """Serve until a signal comes, then finish what was taken; raises :class:`KneeXRayError` where it does not even start."""
    import uvicorn

    config = uvicorn.Config(
        app,
        access_log=False,  # addresses hold the identifiers of visits: the app logs routes instead
        log_config=None,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises it anew once it is done
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    if not server.started:
        raise KneeXRayError("the server could not start; what went wrong is logged above.")


def _listening(settings: Settings) -> socket.socket:
    """Return the socket to serve at; raises :class:`ConfigError` for an address or port that cannot be had."""
    listening = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        where = f"--host {settings.host} --port {settings.port}"
        raise ConfigError(f"{where}: cannot be listened at ({error.strerror or error}). Choose another.") from None
    return listening


def _node(predictor: Predictor, *, spool: Path | None, send_to: str, **given: Any) -> Node:
    """Return a DICOM node at work, its settings as ``given``; raises :class:`ConfigError` for what it lacks."""
    need("serve", "pynetdicom")
    from kneexray.node import Archive, NodeSettings, start

    if spool is None or not send_to:
        raise ConfigError("--dicom-port needs a folder of the node's own and a place for its results: give --spool and --send-to.")
    return start(NodeSettings(spool, Archive.parse(send_to), **given), predictor)


def _settings(**options: Any) -> Settings:
    """Return the settings; raises :class:`ConfigError` that names the option and what is wrong with it."""
    from pydantic import ValidationError

    from kneexray.web.settings import Settings

    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        raise ConfigError(f"--{name}: {first['msg']} (given: {first['input']})") from None


def _token(path: Path) -> str:
    """Return the token in a file; raises :class:`ConfigError` where there is none."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {path}: cannot be read ({error}). Write the token into a text file.") from None
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"--token-file {path}: a token is at least 16 ASCII characters without spaces. Make one: "
            "python -c 'import secrets; print(secrets.token_urlsafe(24))'"
        )
    return token
