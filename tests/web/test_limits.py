"""What the server refuses, and how: too much, too large, too many, too hostile."""

from __future__ import annotations

import asyncio
import base64
import io
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.types import Message, Receive, Scope, Send
from support.serving import Grades, form, png, serving, wait_until

from kneexray.web.admission import BodyLimit
from kneexray.web.problems import Problem
from kneexray.web.security import HEADERS, given_token
from kneexray.web.settings import Settings
from kneexray.web.uploads import plain_name

TOKEN = "a-token-of-some-length"


def rejected(client, name: str, data: bytes) -> dict[str, str]:
    answer = client.post("/api/v1/predict", files=form((name, data)))
    assert answer.status_code == 200, answer.text
    (rejection,) = answer.json()["rejections"]
    return rejection


def test_every_answer_carries_the_security_headers_and_no_cookie():
    with serving(Grades()) as client:
        for path in ("/", "/api/v1/health", "/nowhere", "/metrics"):
            answer = client.get(path, headers={"Origin": "https://elsewhere.example"})
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
            assert answer.headers["cache-control"] == "no-store"
            assert "set-cookie" not in answer.headers
            assert not [name for name in answer.headers if name.startswith("access-control-")]
        policy = HEADERS["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "*" not in policy


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("Bearer", 401),
        ("Basic not-base64", 401),
        ("Bearer \u00e9".encode("latin-1"), 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        ("Basic " + base64.b64encode(f"anyone:{TOKEN}".encode()).decode(), 200),
    ],
)
def test_a_token_is_asked_for_everywhere_but_for_health_and_static_files(authorization: str | None, status: int):
    headers = {} if authorization is None else {"Authorization": authorization}
    with serving(Grades(), token=TOKEN) as client:
        for path in ("/", "/api/v1/models", "/metrics", "/api/v1/openapi.json"):
            assert client.get(path, headers=headers).status_code == status, path
        refused = client.post("/dicom-web/studies", headers=headers)
        assert (refused.status_code == 401) == (status == 401)
        if status == 401:
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert client.get("/", headers={**headers, "Accept": "text/html"}).headers["www-authenticate"].startswith("Basic")
        assert client.get("/api/v1/health", headers=headers).status_code == 200
        if status == 200:
            assert "HTTPBearer" in client.get("/api/v1/openapi.json", headers=headers).json()["components"]["securitySchemes"]


@given(st.text())
def test_no_authorization_header_breaks_the_guard(text: str):
    assert given_token(text) is None or isinstance(given_token(text), str)


def test_other_sites_and_other_names_get_nothing():
    with serving(Grades(), hosts=("127.0.0.1", "::1")) as client:
        assert client.post("/api/v1/sample", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert client.post("/api/v1/sample", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
        for host, status in (("127.0.0.1:8000", 200), ("[::1]:80", 200), ("[::1]", 200), ("evil.example", 421), ("[", 421), ("", 421)):
            assert client.get("/api/v1/health", headers={"Host": host}).status_code == status, host


def test_requests_beyond_the_bound_are_told_when_to_come_back():
    grades = Grades()
    grades.open.clear()
    with serving(grades, max_requests=2, max_requests_per_client=2) as client, ThreadPoolExecutor(2) as pool:
        first = [pool.submit(client.post, "/api/v1/predict", files=form((f"{n}.png", png(n)))) for n in range(2)]
        wait_until(lambda: sum(map(len, grades.batches)) + client.get("/api/v1/health").json()["waiting"] == 2)
        full = client.post("/api/v1/predict", files=form(("third.png", png(3))))
        assert client.get("/api/v1/health").status_code == 200
        grades.open.set()
        assert [answer.result().status_code for answer in first] == [200, 200]
        assert full.status_code == 503
        assert int(full.headers["Retry-After"]) >= 1
        assert client.post("/api/v1/predict", files=form(("third.png", png(3)))).status_code == 200


def test_one_client_does_not_take_all_places():
    grades = Grades()
    grades.open.clear()
    with serving(grades, max_requests_per_client=1) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/api/v1/predict", files=form(("1.png", png())))
        wait_until(lambda: grades.batches)
        refused = client.post("/api/v1/sample")
        grades.open.set()
        assert (refused.status_code, first.result().status_code) == (429, 200)
        assert int(refused.headers["Retry-After"]) >= 1


def test_a_film_that_takes_too_long_is_given_up():
    grades = Grades()
    grades.open.clear()
    with serving(grades, film_seconds=0.2) as client:
        answer = client.post("/api/v1/predict", files=form(("slow.png", png())))
        lines = client.post("/api/v1/predict", files=form(("slow.png", png())), headers={"Accept": "application/x-ndjson"}).text
        grades.open.set()
    assert (answer.status_code, answer.json()["detail"]) == (503, "a film was not graded within 0.2 s")
    assert '"reason": "failed"' in lines


def test_a_large_body_is_refused_by_its_length_and_while_it_comes():
    with serving(Grades(), max_upload_mb=1) as client:
        announced = client.post("/api/v1/predict", files=form(("big.png", bytes(2 << 20))))
        assert announced.status_code == 413
        sent = 0

        def body():
            nonlocal sent
            yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'
            for _ in range(64):
                sent += 1
                yield bytes(64 << 10)

        streamed = client.post("/api/v1/predict", content=body(), headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert streamed.status_code == 413
        assert "1 MiB" in streamed.json()["detail"]


def test_a_client_that_stops_sending_is_given_up():
    async def never() -> Message:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    async def ignored(message: Message) -> None:
        pass

    for settings in (Settings(idle_seconds=0.01), Settings(upload_seconds=0.01)):
        limit = BodyLimit(reads, settings=settings)
        with pytest.raises(Problem) as problem:
            asyncio.run(limit({"type": "http", "method": "POST", "headers": []}, never, ignored))
        assert problem.value.status_code == 408


def test_too_many_films_are_refused_whole_or_cut_off():
    with serving(Grades(), max_films=2) as client:
        assert client.post("/api/v1/predict", files=form(*((f"{n}.png", png(n)) for n in range(3)))).status_code == 413
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for n in range(5):
                archive.writestr(f"{n}.png", png(n))
        document = client.post("/api/v1/predict", files=form(("five.zip", packed.getvalue()))).json()
        assert len(document["predictions"]) == 2
        assert [r["reason"] for r in document["rejections"]] == ["too_large"]


def test_what_is_no_film_is_rejected_with_its_reason():
    large = io.BytesIO()
    Image.new("L", (2000, 2000)).save(large, "PNG")
    with serving(Grades(), max_megapixels=1) as client:
        assert rejected(client, "film.png", b"")["reason"] == "empty"
        assert rejected(client, "film.png", b"%PDF-1.7 ...")["reason"] == "not_an_image"
        assert rejected(client, "film.png", b"MZ\x90\x00" + bytes(100))["reason"] == "not_an_image"
        assert rejected(client, "big.png", large.getvalue())["reason"] == "too_large"
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.addfile(tarfile.TarInfo("film.png"))
        assert rejected(client, "films.tar.gz", packed.getvalue())["reason"] == "unsupported"


def test_hostile_archives_are_rejected():
    with serving(Grades()) as client:
        for name in ("../../etc/passwd.png", "/etc/cron.d/film.png", "C:\\windows\\film.png"):
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr(name, png())
            assert rejected(client, "study.zip", packed.getvalue())["reason"] == "unsafe_archive"
        bomb = io.BytesIO()
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("film.png", bytes(200 << 20))
        assert rejected(client, "bomb.zip", bomb.getvalue())["reason"] == "unsafe_archive"
        nested = io.BytesIO()
        with zipfile.ZipFile(nested, "w") as archive:
            archive.writestr("inner", bomb.getvalue())
        assert rejected(client, "nested.zip", nested.getvalue())["reason"] == "unsafe_archive"
        crowd = b"PK\x03\x04" + (b"PK\x01\x02" + bytes(42)) * 20_001 + b"PK\x05\x06" + bytes(18)
        assert rejected(client, "crowd.zip", crowd)["reason"] == "too_large"
        assert rejected(client, "empty.zip", b"PK\x05\x06" + bytes(18))["reason"] == "not_found"


def test_hostile_names_are_shown_tame_and_lead_nowhere():
    names = ["../../<script>alert(1)</script>.png", "C:\\films\\knee.png", "\u202egnp.exe", "a\x00b.png", "x" * 3000, " ", "=cmd()"]
    with serving(Grades()) as client:
        for name in names:
            answer = client.post("/api/v1/predict", files=form((name, png())))
            (prediction,) = answer.json()["predictions"]
            assert prediction["file"].isprintable()
            assert len(prediction["file"]) <= 200
            visit = answer.json()["visit"]
            for path in ("", "/films/0/image.png", "/report.pdf", "/report.csv"):
                assert client.get(f"/api/v1/visits/{visit}{path}").status_code == 200
            assert "<script>alert" not in client.get(f"/visits/{visit}").text


@given(st.text())
def test_plain_names_are_printable_short_and_no_path(name: str):
    plain = plain_name(name)
    assert plain.isprintable()
    assert 0 < len(plain) <= 200
    assert "!/" in name or not set("/\\") & set(plain)


@pytest.mark.parametrize(
    "body", [b"", b"--b--\r\n", b"nonsense", b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--b--\r\n']
)
def test_a_form_without_films_is_a_clear_error(body: bytes):
    with serving(Grades()) as client:
        answer = client.post("/api/v1/predict", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code in (400, 422)
    assert answer.json()["remedy"]
