"""The page at /docs in a real browser: what a person reads, fills in, sends and is told, with tokens and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from corelane.core.clock import SystemClock
from corelane.serve.tokens import new_token
from tests.serve.browser import Page, browsing
from tests.serve.live import LiveServer, serving
from tests.serve.packages import mixed_package, numeric_package

pytestmark = pytest.mark.needs("chromium")

FILLED = "document.getElementById('rows').children.length"
TOLD = "document.getElementById('status').className"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("packages")
    with serving(mixed_package(folder), numeric_package(folder)) as live:
        yield live


@pytest.mark.parametrize("width", [1280, 360])
def test_an_example_is_sent_and_answered(page: Page, server: LiveServer, width: int) -> None:
    """Every model is listed, its example filled in, its answer shown; nothing is blocked, and nothing sticks out."""
    page.resize(width)
    page.open(f"{server.url}/docs")
    page.until(FILLED)
    served = sorted(model["name"] for model in server.ask("POST", "/v2/repository/index", {}).json)
    assert sorted(page.value("[...document.getElementById('model').options].map(o => o.value)")) == served
    page.click("#send")
    page.until(f"{TOLD} === 'good'")
    assert "200" in page.text("#status")
    assert "predictions" in page.text("#reply")
    assert page.complaints == []
    assert page.value("document.documentElement.scrollWidth") <= width


def test_another_model_brings_its_own_columns(page: Page, server: LiveServer) -> None:
    """By the keyboard alone."""
    page.open(f"{server.url}/docs")
    page.until(FILLED)
    before = page.text("#rows")
    page.value("document.querySelector('#model').focus()")
    page.press("ArrowDown")
    assert page.text("#rows") != before


def test_a_body_that_is_refused_is_told(page: Page, server: LiveServer) -> None:
    """In the server's words."""
    page.open(f"{server.url}/docs")
    page.until(FILLED)
    page.write("#body", '{"rows": []}')
    page.click("#send")
    page.until(TOLD)
    assert "400" in page.text("#status")
    assert "at least one row" in page.text("#reply")


def test_the_page_asks_nobody_else(page: Page, server: LiveServer) -> None:
    """Its policy blocks what it does not need, and a complaint shows it: none elsewhere means that all went well."""
    page.open(f"{server.url}/docs")
    page.until(FILLED)
    page.value("fetch('http://127.0.0.1:9/').catch(() => null)")
    assert any("Content Security Policy" in complaint for complaint in page.complaints)


def test_a_server_of_tokens_is_asked_with_one(page: Page, tmp_path: Path) -> None:
    """Without one the page says so and has a field for it; with one it goes on by itself."""
    tokens = tmp_path / "tokens.json"
    token = new_token(tokens, "page", ["read", "infer"], SystemClock())
    with serving(numeric_package(tmp_path), tokens=tokens) as server:
        page.open(f"{server.url}/docs")
        page.until(TOLD)
        assert "token" in page.text("#status")
        assert page.is_shown("#token")
        page.write("#token", token)
        page.press("Tab")
        page.until(FILLED)
        page.click("#send")
        page.until(f"{TOLD} === 'good'")
