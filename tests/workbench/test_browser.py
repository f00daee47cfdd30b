"""The workbench in a real browser: what Streamlit's own test harness cannot do, clicking into a chart and pressing keys."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the workbench extra is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

from kneexray.datasets import manifest as manifests
from kneexray.evaluation.inputs import EvaluationInput
from kneexray.evaluation.predictions_file import write_predictions

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
QUIET = ("--disable-component-update", "--disable-sync")
SECONDS = 60_000


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def workbench(knees: Path, out: Path) -> Iterator[str]:
    """The address of a workbench on an evaluation that takes every KL 1 for KL 2."""
    examples = manifests.load(knees, task="kl").split("val")
    target = np.array([int(example.label) for example in examples])
    probabilities = 0.1 + 0.5 * np.eye(5)[np.where(target == 1, 2, target)]
    texts = {name: [getattr(e, name) for e in examples] for name in ("patient_id", "side", "split", "source")}
    (out / "eval").mkdir()
    inputs = EvaluationInput("kl", "a-model", "patient", [e.path for e in examples], target, probabilities, **texts)
    write_predictions(out / "eval" / "predictions.parquet", inputs)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "kneexray", "workbench", str(out / "eval"), str(knees), "--out", str(out), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
                    break
                except OSError:
                    assert process.poll() is None, "the workbench ended"
                    time.sleep(0.2)
            yield address
        finally:
            process.terminate()


@pytest.fixture
def page(workbench: str) -> Iterator[Page]:
    """A page of the workbench; no test may ask anything of another machine."""
    chromium = shutil.which("chromium") or pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, *QUIET])
        page = browser.new_context(base_url=workbench, viewport={"width": 1280, "height": 1000}).new_page()
        page.set_default_timeout(SECONDS)
        expect.set_options(timeout=SECONDS)
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url) if request.url.startswith("http") else None)
        yield page
        browser.close()
        assert all(url.startswith(workbench) for url in asked)


def test_a_click_into_the_confusion_matrix_shows_the_films_behind_it(page: Page):
    page.goto("/evaluations")
    page.get_by_text("Confusion matrix").click()
    expect(page.locator(".kx-grid img")).to_have_count(4)  # the fullest cell off the diagonal: true KL 1, answered KL 2
    expect(page.locator(".kx-grid b").first).to_have_text("KL 2, 60%")
    chart = page.get_by_test_id("stVegaLiteChart")
    chart.locator("canvas, svg").first.wait_for()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + 0.8 * box["height"])  # the last cell: true KL 4, answered KL 4
    expect(page.locator(".kx-grid b").first).to_have_text("KL 4, 60%")


def test_a_reader_grades_with_one_key(page: Page, out: Path):
    page.goto("/reading")
    expect(page.get_by_text("0 of 20 films read")).to_be_visible()
    page.keyboard.press("3")
    expect(page.get_by_text("1 of 20 films read")).to_be_visible()
    lines = (out / "decisions.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["3"]
