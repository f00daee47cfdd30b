"""The pages in a real browser, against a real server.

The accessibility check needs axe-core (MPL-2.0), which is not part of this repository: put ``axe.min.js`` of the npm package into
``.cache/`` (``npm pack axe-core`` and unpack it), or name the file in the environment variable AXE_CORE.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from kneexray.synthetic import draw_knee, write_films

sync_api = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
QUIET = ("--disable-component-update", "--disable-sync")
SECONDS = 60_000
REFUSED = "status of 503"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of ``kneexray serve`` on a free port, with a history."""
    history = tmp_path_factory.mktemp("history") / "history.sqlite"
    command = [sys.executable, "-m", "kneexray", "serve", "--port", "0", "--history", str(history), "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            address = re.search(r"http://\S+", said)
            assert address is not None, said
            yield address[0]
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, *QUIET])
        yield browser
        browser.close()


@pytest.fixture
def page(server: str, browser: Browser) -> Iterator[Page]:
    """The start page; no test may leave an error in the console, one against the security policy included."""
    yield from opened(browser, server)


@pytest.fixture
def phone(server: str, browser: Browser) -> Iterator[Page]:
    """The start page on a phone."""
    yield from opened(browser, server, **PHONE)


def opened(browser: Browser, server: str, **options: object) -> Iterator[Page]:
    context = browser.new_context(base_url=server, **options)
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    expect.set_options(timeout=SECONDS)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" and REFUSED not in message.text else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto("/")
    yield page
    assert context.cookies() == []
    context.close()
    assert problems == []


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_films(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def axe(root: Path) -> str:
    path = Path(os.environ.get("AXE_CORE", root / ".cache" / "axe.min.js"))
    if not path.is_file():
        pytest.skip(f"axe-core is not there ({path}): see this file's head")
    return path.read_text(encoding="utf-8")


def grade(page: Page, *films: Path) -> None:
    """Send films and wait for their results."""
    page.set_input_files("input[type=file]", [str(film) for film in films])
    page.wait_for_url("**/visits/**")
    page.wait_for_load_state("networkidle")


def opacity(page: Page) -> float:
    return float(page.locator("#heat").evaluate("layer => getComputedStyle(layer).opacity"))


def transform(page: Page) -> str | None:
    return page.locator("#world").get_attribute("transform")


def wide(page: Page) -> int:
    """How many pixels of the page lie beyond the right edge of the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_a_film_is_graded_shown_and_downloaded(page: Page, shared_data: Path):
    grade(page, sorted((shared_data / "wani" / "normal").iterdir())[0])
    first = page.locator(".knee").first
    expect(first.locator(".tile").first).to_have_text(re.compile(r"KL\s*[0-4]"))
    expect(first.locator("h3").first).to_have_text(re.compile("normal|doubtful|mild|moderate|severe"))
    assert first.locator(".bars tr").count() == 5
    heat = page.locator("#heat image").first
    assert page.request.get(heat.get_attribute("href")).headers["content-type"] == "image/png"
    assert opacity(page) == 1
    page.get_by_label("Heatmap").fill("30")
    assert opacity(page) == pytest.approx(0.3)
    with page.expect_download() as download:
        page.get_by_role("link", name="PDF").click()
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF")
    for name, start in (("JSON", b"{"), ("CSV", b'"file",')):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert Path(download.value.path()).read_bytes().startswith(start)


def test_a_chest_film_is_refused_with_its_reason(page: Page, shared_data: Path):
    grade(page, sorted((shared_data / "not-knees" / "chest-nih").iterdir())[0])
    expect(page.get_by_role("heading", name="This film was not graded")).to_be_visible()
    expect(page.locator(".refused li")).to_have_attribute("data-reason", "not_a_knee")
    expect(page.locator(".refused")).to_contain_text("no AP knee was found on the image")
    expect(page.locator("#film")).to_be_visible()
    assert page.locator(".knee").count() == 0


def test_dicom_films_can_be_had_as_structured_reports(page: Page, shared_data: Path):
    pytest.importorskip("highdicom")
    grade(page, shared_data / "dicom" / "knee-5.dcm")
    with page.expect_download() as download:
        page.get_by_role("link", name="DICOM SR").click()
    assert Path(download.value.path()).read_bytes().startswith(b"PK")


def test_the_viewer_zooms_pans_and_sets_the_window(page: Page, drawn: list[Path]):
    grade(page, drawn[3])
    stage, zoom = page.locator("#stage"), page.locator("#zoom")
    expect(zoom).to_have_text("100 %")
    stage.hover()
    page.mouse.wheel(0, -400)
    expect(zoom).not_to_have_text("100 %")
    before = transform(page)
    place = stage.bounding_box()
    assert place is not None
    page.mouse.move(place["x"] + 200, place["y"] + 200)
    page.mouse.down()
    page.mouse.move(place["x"] + 260, place["y"] + 230, steps=3)
    page.mouse.up()
    assert transform(page) != before
    page.get_by_label("Level").fill("70")
    expect(page.locator("#bone")).to_have_attribute("filter", "url(#window)")
    assert float(page.locator("#window feFuncR").get_attribute("intercept") or 0) == pytest.approx(-0.2)
    page.get_by_label("Window").fill("50")
    assert float(page.locator("#window feFuncR").get_attribute("slope") or 0) == pytest.approx(2)
    page.get_by_role("button", name="Boxes").click()
    expect(page.locator("#boxes")).to_be_hidden()
    page.get_by_role("button", name="Reset").click()
    expect(zoom).to_have_text("100 %")
    expect(page.locator("#boxes rect")).to_be_visible()
    assert page.locator("#bone").get_attribute("filter") is None
    page.get_by_role("button", name="Invert").click()
    assert float(page.locator("#window feFuncR").get_attribute("slope") or 0) == -1


def test_two_fingers_zoom(phone: Page, drawn: list[Path]):
    grade(phone, drawn[2])
    place = phone.locator("#stage").bounding_box()
    assert place is not None
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    fingers = phone.context.new_cdp_session(phone)
    for kind, spread in (("touchStart", 20), ("touchMove", 50), ("touchMove", 80), ("touchEnd", None)):
        points = [] if spread is None else [{"x": x - spread, "y": y, "id": 0}, {"x": x + spread, "y": y, "id": 1}]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    shown = int((phone.locator("#zoom").text_content() or "0").removesuffix(" %"))
    assert shown == pytest.approx(400, abs=20)


def test_many_films_lie_in_a_strip(page: Page, drawn: list[Path], tmp_path: Path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(drawn[0].read_bytes()[:3000])
    grade(page, drawn[0], broken, drawn[4])
    strip = page.get_by_role("navigation", name="Films of this visit")
    assert strip.get_by_role("link").count() == 3
    page.locator("#stage").focus()
    page.keyboard.press("PageDown")
    expect(page.get_by_role("heading", level=1)).to_have_text("broken.png")
    expect(page.locator(".refused b")).to_be_visible()
    strip.get_by_role("link", name=re.compile("synthetic-kl-4")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("synthetic-kl-4.png")
    expect(strip.locator("[aria-current]")).to_contain_text("synthetic-kl-4")


def test_films_can_be_dropped(page: Page, drawn: list[Path]):
    script = """async (bytes) => {
      const films = new DataTransfer();
      films.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
      for (const kind of ["dragenter", "dragover", "drop"])
        document.querySelector(".lightbox h2").dispatchEvent(
          new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: films}));
    }"""
    page.evaluate(script, list(drawn[1].read_bytes()))
    page.wait_for_url("**/visits/**")
    expect(page.get_by_role("heading", level=1)).to_have_text("dropped.png")


def test_a_film_that_the_server_does_not_take_is_said_so(page: Page, drawn: list[Path]):
    page.route("**/api/v1/predict", lambda route: route.fulfill(status=503, body='{"detail": "busy", "remedy": "Later."}'))
    page.set_input_files("input[type=file]", str(drawn[0]))
    expect(page.locator("#problem")).to_have_text("busy Later.")
    expect(page.locator("#files .outcome")).to_have_text("not graded")


def test_everything_can_be_done_with_the_keyboard(page: Page):
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").strip() == "Try a synthetic film":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/visits/**")
    page.wait_for_load_state("networkidle")
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("(({id, dataset, textContent}) => id || dataset.do || textContent.trim())(document.activeElement)")
        reached.append(name)
        if name == "heat-opacity":
            page.keyboard.press("Home")
            assert opacity(page) == 0
            page.keyboard.press("End")
        if name == "stage":
            page.keyboard.press("+")
            expect(page.locator("#zoom")).to_have_text("125 %")
            expect(page.locator("#said")).to_have_text("Zoom 125 %")
            before = transform(page)
            page.keyboard.press("ArrowRight")
            assert transform(page) != before
            page.keyboard.press("h")
            assert opacity(page) == 0
            page.keyboard.press("r")
        if name.startswith("Delete these films now"):
            break
    assert {"out", "in", "fit", "heat-opacity", "level", "width", "invert", "boxes", "reset", "stage"} <= set(reached)
    assert any(name.startswith("PDF") for name in reached)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Drop films here")).to_be_visible()


def test_a_phone_needs_no_sideways_scrolling(phone: Page, drawn: list[Path], tmp_path: Path):
    long_name = tmp_path / f"{'a-film-with-a-very-long-name-' * 4}.png"
    Image.open(drawn[2]).save(long_name)
    for address in ("/", "/about", "/history", "/?lang=hi", "/about?lang=es", "/?lang=es"):
        phone.goto(address)
        assert wide(phone) == 0, address
    grade(phone, long_name, drawn[0])
    assert wide(phone) == 0
    expect(phone.locator(".knee h3").first).to_be_visible()
    phone.goto(phone.url.replace("lang=es", "lang=hi"))
    assert wide(phone) == 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_nothing_serious(server: str, browser: Browser, drawn: list[Path], axe: str, scheme: str, width: int, tmp_path: Path):
    refused = tmp_path / "noise.png"
    Image.effect_noise((400, 300), 60).save(refused)
    context = browser.new_context(base_url=server, color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    page.goto("/")
    grade(page, drawn[1], refused)
    result = page.url
    for address in ("/", "/?lang=hi", "/about", "/history", "/visits/unknown", result, f"{result}?film=2"):
        page.goto(address)
        page.evaluate(axe)
        findings = page.evaluate("axe.run().then(found => found.violations)")
        assert [(one["id"], one["impact"], [node["html"] for node in one["nodes"]]) for one in findings] == [], address
    context.close()


def test_without_scripts_films_are_graded_all_the_same(browser: Browser, server: str, drawn: list[Path]):
    context = browser.new_context(base_url=server, java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    page.goto("/?lang=es")
    page.set_input_files("input[type=file]", str(drawn[3]))
    page.get_by_role("button", name="Graduar").click()
    page.wait_for_url("**/visits/**lang=es")
    expect(page.locator(".tile").first).to_have_text(re.compile(r"KL\s*[0-4]"))
    expect(page.locator("#film")).to_be_visible()
    expect(page.locator("#tools")).to_be_hidden()
    context.close()


def test_what_was_graded_is_in_the_history_until_it_is_deleted(page: Page, tmp_path: Path):
    film = tmp_path / "to-be-forgotten.png"
    Image.fromarray((draw_knee(0, seed=7) * 255).astype("uint8")).save(film)
    grade(page, film)
    page.get_by_role("link", name="History").click()
    page.get_by_role("searchbox").fill("to-be-forg")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".past li")).to_have_count(1)
    page.get_by_role("button", name=re.compile("Delete")).click()
    page.goto("/history?q=to-be-forg")
    expect(page.locator(".past li")).to_have_count(0)
