"""What was answered, again: documents, pictures and reports of a visit, under ``/api/v1/visits``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import anyio
from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response

from kneexray.errors import MissingExtraError
from kneexray.version import __version__
from kneexray.web import examples, film_pictures, reports
from kneexray.web.problems import Absent, Problem, answers
from kneexray.web.records import Document, document
from kneexray.web.visits import Visit, VisitFilm
from kneexray.writers import RunFacts

router = APIRouter(prefix="/api/v1/visits", tags=["visits"])
T = TypeVar("T")
Number = Annotated[int, Path(ge=0, le=1_000_000)]
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}, **answers(401, 404, 422)}


def find_visit(request: Request, id: str) -> Visit:
    """Return a visit that is in memory; raises :class:`Problem` (404) for any other."""
    try:
        visit: Visit = request.app.state.visits.get(id)
    except KeyError:
        remedy = f"Send the films again: they stay {request.app.state.settings.visit_minutes:g} minutes."
        raise Problem(404, "there is no such visit, or its time is over", remedy=remedy) from None
    return visit


@router.get(
    "/{id}",
    response_model=Document,
    responses={200: {"content": {"application/json": {"example": examples.DOCUMENT}}}, **answers(401, 404, 422)},
    summary="What was answered",
)
async def read_visit(request: Request, id: str) -> Response:
    """Answer with the document of a visit, from the history where it is no longer in memory."""
    return JSONResponse(_document(request, id))


@router.delete("/{id}", status_code=204, responses=answers(401, 403, 404, 422), summary="Forget a visit")
async def delete_visit(request: Request, id: str) -> Response:
    """Forget a visit at once, in the history too."""
    if not forget(request, id):
        find_visit(request, id)
    return Response(status_code=204)


def forget(request: Request, id: str) -> bool:
    """Forget a visit, in memory and in the history, and say whether there was one."""
    known = False
    for place in (request.app.state.visits, request.app.state.history):
        try:
            if place is not None:
                place.delete(id)
                known = True
        except KeyError:
            continue
    return known


@router.get("/{id}/films/{n}/image.png", response_class=Response, responses=_PNG, summary="A film for display")
async def film_image(request: Request, id: str, n: Number) -> Response:
    """Answer with the film in 8 bits, bone bright, at most 2000 pixels; its true size is in X-Film-Width and X-Film-Height."""
    film = _film(request, id, n)
    data, (height, width) = await _made(request, partial(film_pictures.film_png, film, limits=request.app.state.settings.limits))
    return Response(data, media_type="image/png", headers={"X-Film-Width": str(width), "X-Film-Height": str(height)})


@router.get("/{id}/films/{n}/knees/{k}/heatmap.png", response_class=Response, responses=_PNG, summary="Where the model looked")
async def knee_heatmap(request: Request, id: str, n: Number, k: Number) -> Response:
    """Answer with a transparent layer, to be stretched over the knee's box."""
    return Response(await _made(request, partial(film_pictures.heatmap_png, _film(request, id, n), k)), media_type="image/png")


@router.get("/{id}/films/{n}/knees/{k}/crop.png", response_class=Response, responses=_PNG, summary="A knee for display")
async def knee_crop(request: Request, id: str, n: Number, k: Number) -> Response:
    """Answer with the knee's box as it lies on the film."""
    limits = request.app.state.settings.limits
    return Response(await _made(request, partial(film_pictures.crop_png, _film(request, id, n), k, limits=limits)), media_type="image/png")


@router.get(
    "/{id}/report.{kind}",
    response_class=Response,
    responses={200: {"content": {media: {} for media in reports.MEDIA.values()}}, **answers(401, 404, 422)},
    summary="A report to keep: pdf, json, csv, or zip (DICOM structured reports)",
)
async def report(request: Request, id: str, kind: Literal["pdf", "json", "csv", "zip"]) -> Response:
    """Answer with a file. There is a ZIP only where films came as DICOM."""
    headers = {"Content-Disposition": f'attachment; filename="kneexray-report.{kind}"'}
    if kind == "json":
        return JSONResponse(_document(request, id), headers=headers)
    visit, state = find_visit(request, id), request.app.state
    run = RunFacts(started=visit.created, models=state.engine.predictor.model_facts(), versions={"kneexray": __version__})
    makers: dict[str, Callable[[], bytes]] = {
        "pdf": partial(reports.pdf, visit, limits=state.settings.limits, run=run),
        "csv": partial(reports.csv, visit, run=run),
        "zip": partial(reports.dicom_zip, visit, run=run),
    }
    return Response(await _made(request, makers[kind]), media_type=reports.MEDIA[kind], headers=headers)


def _document(request: Request, id: str) -> dict[str, Any]:
    history = request.app.state.history
    try:
        return document(find_visit(request, id))
    except Problem:
        if history is None:
            raise
        try:
            found: dict[str, Any] = history.get(id).document
        except KeyError:
            pass
        else:
            return found
        raise


def _film(request: Request, id: str, n: int) -> VisitFilm:
    films = find_visit(request, id).films
    if n >= len(films):
        raise Problem(404, f"the visit has {len(films)} film(s)", remedy="They are numbered from 0.")
    return films[n]


async def _made(request: Request, make: Callable[[], T]) -> T:
    """Return what ``make`` makes, on as many threads at a time as grade films."""
    try:
        return await anyio.to_thread.run_sync(make, limiter=request.app.state.drawing)
    except Absent as error:
        raise Problem(404, str(error), remedy="See the visit's document for what there is.") from None
    except MissingExtraError as error:
        raise Problem(404, "this server does not make this kind of report", remedy=str(error)) from None
