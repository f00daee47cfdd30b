"""The API for programs: films in, predictions out, under ``/api/v1``."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, UploadFile
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image
from starlette.concurrency import run_in_threadpool

from kneexray.read import Source
from kneexray.synthetic import draw_knee
from kneexray.web import examples, uploads
from kneexray.web.grading import Grading
from kneexray.web.problems import answers
from kneexray.web.records import Document, FilmLine, Health, Model, document, film_line, model_record
from kneexray.web.visits import Visit

router = APIRouter(prefix="/api/v1", tags=["grading"])
NDJSON = "application/x-ndjson"
SAMPLE = "synthetic-knee.png"

_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": [uploads.FIELD], "properties": {uploads.FIELD: _FILES}},
                "encoding": {uploads.FIELD: {"contentType": "application/dicom, image/png, image/jpeg, application/zip"}},
            }
        },
    }
}
_LINE = FilmLine.model_json_schema(ref_template="#/components/schemas/{model}")
del _LINE["$defs"]  # the document refers to the same records
_CONTENT = {
    "application/json": {"example": examples.DOCUMENT},
    NDJSON: {"schema": _LINE, "example": examples.FILM_LINE},
}
_HASH = {"X-Content-Hash": {"description": "SHA-256 of what was sent", "schema": {"type": "string"}}}


async def grade_uploads(request: Request, files: Sequence[UploadFile]) -> Visit:
    """Return a visit with all ``files`` graded, and close them. Raises :class:`~kneexray.web.problems.Problem`."""
    try:
        return await _grading(request).visit(uploads.films(files, settings=request.app.state.settings))
    finally:
        await uploads.close(files)


@router.post(
    "/predict",
    response_model=Document,
    responses={200: {"content": _CONTENT, "headers": _HASH}, **answers(400, 401, 403, 408, 413, 415, 422, 429, 503)},
    openapi_extra=_FORM,
    summary="Grade films: DICOM, PNG, JPEG, TIFF, WebP, BMP, or ZIP archives of them",
)
async def predict(request: Request) -> Response:
    """Answer with one document, or, asked for ``application/x-ndjson``, with a line a film as soon as it is graded.

    A film without a gradable knee is an answer, not an error: see ``rejections``.
    """
    files = await uploads.receive_files(request)
    headers = {"X-Content-Hash": await run_in_threadpool(uploads.content_hash, files)}
    if NDJSON in request.headers.get("accept", ""):
        return StreamingResponse(_lines(request, files), media_type=NDJSON, headers=headers)
    return JSONResponse(document(await grade_uploads(request, files)), headers=headers)


@router.post(
    "/sample",
    response_model=Document,
    responses={200: {"content": {"application/json": {"example": examples.DOCUMENT}}}, **answers(401, 403, 429, 503)},
    summary="Grade a synthetic knee that is built in",
)
async def sample(request: Request) -> Response:
    """Answer as if a drawn knee had been sent; no patient's image."""
    return JSONResponse(document(await grade_sample(request)))


async def grade_sample(request: Request) -> Visit:
    """Return a visit with one synthetic knee."""
    return await _grading(request).visit([Source(SAMPLE, _drawn, request.app.state.settings.limits)])


@router.get("/models", responses=answers(401), summary="The models in use")
async def models(request: Request) -> list[Model]:
    """List what answers which tasks, under which licence, and how well."""
    return [model_record(grader) for grader in request.app.state.engine.predictor.graders]


@router.get("/health", summary="Whether the server is there; needs no token")
async def health(request: Request) -> Health:
    """Answer with the version, the models and the number of films that wait."""
    engine = request.app.state.engine
    return Health(model_ids=list(engine.predictor.model_ids), waiting=engine.waiting)


async def _lines(request: Request, files: Sequence[UploadFile]) -> AsyncIterator[bytes]:
    state = request.app.state
    visit = state.visits.create()
    of = len(files) if not any(map(uploads.is_archive, files)) else None
    try:
        sources = uploads.films(files, settings=state.settings)
        async with aclosing(_grading(request).fill(visit, sources, go_on=True)) as films:
            number = 0
            async for film in films:
                yield _line(film_line(film, number=number, of=of, visit=visit.id))
                number += 1
    finally:
        await uploads.close(files)


def _line(record: dict[str, Any]) -> bytes:
    return f"{json.dumps(record, ensure_ascii=False, allow_nan=False)}\n".encode()


def _grading(request: Request) -> Grading:
    grading: Grading = request.app.state.grading
    return grading


def _drawn() -> bytes:
    data = io.BytesIO()
    Image.fromarray((draw_knee(3) * 255).round().astype(np.uint8)).save(data, "PNG")
    return data.getvalue()
