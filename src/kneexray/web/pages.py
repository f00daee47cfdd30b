"""The pages for people: choose films, read the results, look back, and what the model is."""

from __future__ import annotations

import io
from datetime import timedelta
from functools import cache

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from PIL import Image
from starlette.concurrency import run_in_threadpool

from kneexray.synthetic import draw_knee
from kneexray.types import FilmResult
from kneexray.web import api
from kneexray.web.about import card_view
from kneexray.web.history import Entry
from kneexray.web.past import past_visit
from kneexray.web.problems import Problem
from kneexray.web.render import Place, page, script_words, words_of
from kneexray.web.settings import Settings
from kneexray.web.translation import Words
from kneexray.web.uploads import receive_files
from kneexray.web.views import film_view, thumbnail
from kneexray.web.visit_api import forget
from kneexray.web.visits import Visit, VisitFilm

router = APIRouter(include_in_schema=False)
PAST_A_PAGE, SUMMARISED = 50, 3


@router.get("/")
def home(request: Request) -> HTMLResponse:
    """Answer with the form that takes films."""
    return page(request, "home.html", script_words=script_words(words_of(request)))


@router.post("/predict")
async def predict(request: Request) -> Response:
    """Grade what the form of the start page sent, for browsers without scripts, and lead to the results."""
    try:
        visit = await api.grade_uploads(request, await receive_files(request))
    except Problem as problem:
        return _problem(request, problem)
    return _to_visit(request, visit)


@router.post("/sample")
async def sample(request: Request) -> Response:
    """Grade the built-in synthetic film and lead to the results."""
    try:
        visit = await api.grade_sample(request)
    except Problem as problem:
        return _problem(request, problem)
    return _to_visit(request, visit)


@router.get("/visits/{id}")
async def show(request: Request, id: str, film: int = 1) -> HTMLResponse:
    """Answer with one film of a visit (``film`` counts from 1) and what was answered about it."""
    settings: Settings = request.app.state.settings
    say = words_of(request)
    visit, kept = _found(request, id)
    if visit is None or not visit.films:
        return _message(request, "message.gone", status=404, minutes=f"{settings.visit_minutes:g}")
    number = min(max(film, 1), len(visit.films))
    shown = visit.films[number - 1]
    root = f"{Place(request).root}/api/v1/visits/{id}"
    size = await run_in_threadpool(_size, shown, settings) if kept else None
    dicom = kept and any(_came_as_dicom(film.result) for film in visit.films)
    until = visit.created + timedelta(minutes=settings.visit_minutes)
    return page(
        request,
        "visit.html",
        visit=visit,
        film=film_view(shown, number=number, size=size, address=f"{root}/films/{number - 1}", say=say),
        films=[thumbnail(one, address=f"{root}/films/{n}" if kept else None, say=say) for n, one in enumerate(visit.films)],
        downloads=_downloads(root, kept=kept, dicom=dicom),
        says_why_no_dicom=kept and not dicom,
        kept=say("view.until", time=f"{until:%H:%M}") if kept else say("view.past"),
    )


@router.post("/visits/{id}/delete")
def delete(request: Request, id: str) -> Response:
    """Forget a visit, in memory and in the history, and lead to where the person came from."""
    forget(request, id)
    back = "/history" if request.query_params.get("from") == "history" else "/"
    return RedirectResponse(Place(request).link(back), 303)


@router.get("/history")
def history(request: Request, q: str = "", start: int = 0) -> HTMLResponse:
    """Answer with the kept results whose film or answer contains ``q``, newest first."""
    if request.app.state.history is None:
        return _message(request, "message.missing", status=404)
    start = max(start, 0)
    entries = request.app.state.history.search(q, limit=PAST_A_PAGE + 1, offset=start)
    say = words_of(request)
    return page(
        request,
        "history.html",
        q=q,
        start=start,
        step=PAST_A_PAGE,
        more=len(entries) > PAST_A_PAGE,
        entries=[(entry, _summaries(entry, say)) for entry in entries[:PAST_A_PAGE]],
    )


@router.get("/about")
def about(request: Request) -> HTMLResponse:
    """Answer with what the models are, what they scored, and their limits."""
    graders = request.app.state.engine.predictor.graders
    return page(request, "about.html", cards=[card_view(grader.bundle.card, say=words_of(request)) for grader in graders])


@router.get("/drawn/{grade}.jpg")
def drawn(grade: int) -> Response:
    """Answer with the drawn knee that stands for a KL grade."""
    if grade not in range(5):
        raise Problem(404, f"there is no KL grade {grade}", remedy="Ask for one of 0 to 4.")
    return Response(_drawn(grade), media_type="image/jpeg")


@cache
def _drawn(grade: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray((draw_knee(grade, size=480) * 255).round().astype(np.uint8)).save(data, "JPEG", quality=85)
    return data.getvalue()


def _found(request: Request, id: str) -> tuple[Visit | None, bool]:
    """Return a visit and whether its films are still there; one of the history has only what was answered."""
    try:
        return request.app.state.visits.get(id), True
    except KeyError:
        pass
    try:
        return (past_visit(request.app.state.history.get(id)) if request.app.state.history is not None else None), False
    except KeyError:
        return None, False


def _summaries(entry: Entry, say: Words) -> list[str]:
    """Return what was answered of the first films of a kept visit."""
    return [thumbnail(film, address=None, say=say).summary for film in past_visit(entry).films[:SUMMARISED]]


def _size(film: VisitFilm, settings: Settings) -> tuple[int, int] | None:
    """Return (width, height) of what can be shown of a film, in pixels; None where it cannot be read."""
    graded = tuple(prediction.knee.radiograph for prediction in film.result.predictions)
    radiographs = graded or film.study(settings.limits).radiographs
    return (radiographs[0].pixels.shape[1], radiographs[0].pixels.shape[0]) if radiographs else None


def _came_as_dicom(result: FilmResult) -> bool:
    return any(p.knee.radiograph.dicom for p in result.predictions) or any(rejection.dicom for rejection in result.rejections)


def _downloads(root: str, *, kept: bool, dicom: bool) -> list[tuple[str, str, str]]:
    """Return the address, name and message key of each file that a visit can be had as; without its films only what was answered."""
    names = {"pdf": "PDF", "json": "JSON", "csv": "CSV", "zip": "DICOM SR"}
    kinds = ["pdf", "json", "csv", *(["zip"] if dicom else [])] if kept else ["json"]
    return [(f"{root}/report.{kind}", names[kind], f"view.{kind}") for kind in kinds]


def _to_visit(request: Request, visit: Visit) -> Response:
    return RedirectResponse(Place(request).link(f"/visits/{visit.id}"), 303)


def _problem(request: Request, problem: Problem) -> Response:
    say = words_of(request)
    answer = page(
        request, "message.html", status=problem.status_code, heading=say("message.refused"), text=f"{problem.detail}. {problem.remedy}"
    )
    answer.headers.update(problem.headers or {})
    return answer


def _message(request: Request, key: str, *, status: int, **values: object) -> HTMLResponse:
    say = words_of(request)
    return page(request, "message.html", status=status, heading=say(key), text=say(f"{key}_text", **values))
