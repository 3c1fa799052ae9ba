"""The site and `qkan.view` in a browser: nothing is fetched, broken, cut off or said in red.

Every case leaves a screenshot in build/screenshots, for a person to look at.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT

import qkan

playwright = pytest.importorskip("playwright.sync_api", reason="make test-site installs playwright")
SHOTS = ROOT / "build" / "screenshots"
SIZES = {"wide": (1440, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
PAGES = {
    "home": "", "start": "start/", "guides": "guides/", "guide": "guides/1_daruan_by_hand/",
    "api": "api/understanding/", "results": "results/", "view": "view/",
    "concept": "concepts/bloch/", "network": "assets/network.html",
}  # fmt: skip
WORDS = ("overfitting", "cite", "migrate", "categorical", "diverge", "troubleshooting")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and writes no log."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium: CHROMIUM names it, else the one of the system, else playwright's own."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with playwright.sync_playwright() as running:
        # root, as in a container, has no sandbox
        started = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A page that remembers what went wrong in it."""

    def __init__(self, browser: Any, size: str, scheme: str = "light") -> None:
        width, height = SIZES[size]
        viewport = {"width": width, "height": height}
        self.context = browser.new_context(
            viewport=viewport, color_scheme=scheme, has_touch=size == "phone"
        )
        # a machine that is busy with something else is slow, and no less right
        self.context.set_default_timeout(180_000)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", lambda request: self.wrong.append(f"failed: {request.url}"))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def check(self, host: str) -> None:
        """Nothing failed, nothing came from elsewhere, nothing is wider than the screen."""
        assert self.wrong == []
        assert [url for url in self.asked if not url.startswith((host, "data:", "blob:"))] == []
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert self.page.evaluate(wide) <= 0, "the page scrolls sideways"
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
        assert self.page.evaluate(broken) == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(name: str, size: str, scheme: str, browser: Any, address: str) -> None:
    with Watched(browser, size, scheme) as seen:
        seen.page.goto(address + PAGES[name], wait_until="networkidle")
        # pictures further down load when they come into sight
        seen.page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
        seen.page.wait_for_load_state("networkidle")
        SHOTS.mkdir(parents=True, exist_ok=True)
        seen.page.screenshot(path=SHOTS / f"{name}-{size}-{scheme}.png")
        seen.page.screenshot(path=SHOTS / f"{name}-{size}-{scheme}-whole.png", full_page=True)
        seen.check(address)


@pytest.mark.parametrize("word", WORDS)
def test_the_search_finds(word: str, browser: Any, address: str) -> None:
    with Watched(browser, "wide") as seen:
        seen.page.goto(f"{address}?q={word}", wait_until="networkidle")
        found = seen.page.locator(".md-search-result__link")
        found.first.wait_for(state="attached")
        places = [found.nth(n).get_attribute("href") for n in range(found.count())]
        assert [place for place in places if "changelog" not in place], f"nothing for {word}"


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_opens_and_closes(size: str, browser: Any, address: str) -> None:
    with Watched(browser, size) as seen:
        page = seen.page
        page.goto(address, wait_until="networkidle")
        page.locator("a.zoom").first.click()
        picture = page.locator("dialog.zoomed img")
        assert picture.get_attribute("alt") and page.url == address
        before = picture.bounding_box()["width"]
        picture.click()
        assert picture.bounding_box()["width"] >= before
        page.screenshot(path=SHOTS / f"zoom-{size}.png")
        page.keyboard.press("Escape")
        page.locator("dialog.zoomed").wait_for(state="detached")
        seen.check(address)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of `qkan.view`: a small network, a large one, an activation, names that are markup."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("views")
    x = torch.rand(60, 3, dtype=torch.float64)
    names = ["<script>document.title = 'run'</script>", "<img src=x onerror=alert(1)>", "speed"]
    small = qkan.view(qkan.QKAN([3, 4, 1], reps=2), x, names=names)
    pages = {
        "small": small.html,
        "large": qkan.view(qkan.QKAN([50, 60, 8], reps=1), torch.rand(60, 50)).html,
        "activation": qkan.view(qkan.DARUAN(8, group=4)).html,
        "arccos": qkan.view(qkan.QKAN([3, 1], ansatz="px"), x).html,
        "notebook": f"<!doctype html><title>n</title>{small._repr_html_()}{small._repr_html_()}",
    }
    found = {name: folder / f"{name}.html" for name in pages}
    for name, path in found.items():
        path.write_text(pages[name])
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["small", "large", "activation", "arccos", "notebook"])
def test_a_view_is_whole(
    name: str, size: str, scheme: str, browser: Any, views: dict[str, Path]
) -> None:
    with Watched(browser, size, scheme) as seen:
        seen.page.goto(views[name].as_uri(), wait_until="networkidle")
        SHOTS.mkdir(parents=True, exist_ok=True)
        seen.page.screenshot(path=SHOTS / f"view-{name}-{size}-{scheme}.png", full_page=True)
        seen.check(views[name].as_uri())
        if name == "notebook":
            frames = seen.page.frames[1:]
            assert [frame.locator(".edge rect").count() for frame in frames] == [16, 16]
        else:
            assert seen.page.title() != "run"


def test_the_arrow_keys_walk_over_the_edges(browser: Any, views: dict[str, Path]) -> None:
    with Watched(browser, "wide") as seen:
        page = seen.page
        page.goto(views["small"].as_uri())
        stops = "document.querySelectorAll('.edge[tabindex=\"0\"]').length"
        assert page.evaluate(stops) == 1
        page.locator('.edge[tabindex="0"]').focus()
        page.keyboard.press("Home")
        seen_edges = {page.inner_text("#name")}
        for _ in range(11):
            page.keyboard.press("ArrowDown")
            seen_edges.add(page.inner_text("#name"))
        assert len(seen_edges) == 12
        page.keyboard.press("ArrowRight")
        assert re.search(r"h1\.4 → f", page.inner_text("#name"))
        assert "edge=(1, 0, 3)" in page.inner_text("#place")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("h1.4")
        assert page.evaluate(stops) == 1
        assert seen.wrong == []


def test_the_slider_lights_up_what_a_row_does(browser: Any, views: dict[str, Path]) -> None:
    with Watched(browser, "wide") as seen:
        page = seen.page
        page.goto(views["small"].as_uri())
        assert page.locator(".edge.more").count() == page.locator(".edge.less").count() == 0
        page.locator("#row").focus()
        page.keyboard.press("ArrowRight")
        assert page.is_checked("#lit") and "1, counted from 0 to 59" in page.inner_text("#which")
        assert page.locator(".edge.more").count() + page.locator(".edge.less").count() == 16
        data = page.evaluate("JSON.parse(document.getElementById('data').textContent)")
        shown = page.locator('.value[data-column="2"]').text_content().strip().replace("−", "-")
        assert float(shown) == pytest.approx(data["columns"][2]["values"][0][1], rel=1e-2)
        page.locator("#lit").uncheck()
        assert page.locator(".edge.more").count() == 0


def test_pointing_shows_and_a_click_keeps(browser: Any, views: dict[str, Path]) -> None:
    with Watched(browser, "wide") as seen:
        page = seen.page
        page.goto(views["small"].as_uri())
        boxes = page.locator(".edge rect")
        boxes.nth(3).hover()
        third = page.inner_text("#name")
        boxes.nth(5).hover()
        fifth = page.inner_text("#name")
        assert third != fifth
        boxes.nth(5).click()
        boxes.nth(3).hover()
        assert page.inner_text("#name") == fifth
        page.keyboard.press("Escape")
        boxes.nth(7).hover()
        assert page.inner_text("#name") != fifth
        page.select_option("#edges", index=2)
        assert page.locator("#edges option").nth(2).inner_text() == page.inner_text("#name")


def test_a_tap_shows_on_a_phone(browser: Any, views: dict[str, Path]) -> None:
    with Watched(browser, "phone") as seen:
        page = seen.page
        page.goto(views["activation"].as_uri())
        page.locator(".edge rect").nth(2).tap()
        assert page.inner_text("#name") == "input 2 → output 2"
        assert page.locator("#circuit li").count() > 3
