"""`layerwise watch` in a browser: every state of a store, keyboard, dark, narrow, without scripts.

Left out where no Chromium is installed. LAYERWISE_SCREENSHOTS names a folder for the pictures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from orchestrator.store.store import Store
from orchestrator.watch import watcher
from orchestrator.watch.app import Watch
from orchestrator.watch.drawing import Drawing, draw
from orchestrator.watch.server import Server, _bound
from tests import watched
from tests.processes import ROOT, environment
from tests.small import SMALL

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

TOKEN = "a-token"
PATIENCE = 30_000  # milliseconds
WITH_FIGURE = {"running", "stopped", "complete", "nan", "half copied", "foreign", "older"}
WITH_FIGURE |= {"hostile", "several", "large"}
SWEEP = SMALL.replace("[base, selffer, transfer]", "[base, selffer, transfer, transfer+]")
SWEEP = SWEEP.replace("steps: 3,", "steps: 1500, evaluate_every: 50,")
RUN = ("--inline", "--no-report", "--set", "lanes=2")  # too short for snapshots
MOVING = ("#link", "#state")  # a clock, and seconds that a run has taken


class Drawer:
    """Draws in this process. The real one is part of the real run."""

    def __init__(self) -> None:
        self.is_busy = False
        self.asked: tuple[str, str] = ("", "")

    def ask(self, place: str, sweep: str) -> None:
        self.asked, self.is_busy = (place, sweep), True

    def answer(self, timeout: float) -> Drawing:  # noqa: ARG002
        self.is_busy = False
        return draw(*self.asked)

    def close(self) -> None:
        pass


class Pages:
    """Servers of stores, and pages in a browser that note everything that goes wrong."""

    def __init__(self, browser: Any, folder: Path):
        self.browser, self.folder = browser, folder
        self.servers: list[tuple[Server, threading.Thread]] = []
        self.contexts: list[Any] = []
        self.wrong: list[str] = []

    def serve(self, store: Path, port: int | None = None) -> str:
        """Serve a store, and return the address of its page."""
        bound = _bound(port or 0)
        server = Server(Watch(str(store), "", TOKEN))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        self.servers.append((server, thread))
        return f"http://127.0.0.1:{bound.getsockname()[1]}/?token={TOKEN}"

    def stop(self) -> None:
        """Stop the server that was started last."""
        server, thread = self.servers.pop()
        server.handle_exit(2, None)
        thread.join(30.0)
        assert not thread.is_alive()

    def open(self, address: str, **options: Any) -> Any:
        """Open a page."""
        settings = {"viewport": {"width": 1100, "height": 900}} | options
        context = self.browser.new_context(**settings)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self._note("error", str(error)))
        page.on("dialog", lambda dialog: self._note("dialog", dialog.message))
        page.on("request", lambda request: self._check(request.url, address))
        page.goto(address)
        return page

    def _note(self, kind: str, text: str) -> None:
        self.wrong.append(f"{kind}: {text}")

    def _check(self, url: str, address: str) -> None:
        if not url.startswith((address.partition("?")[0], "data:")):
            self.wrong.append(f"request to {url}")

    def picture(self, page: Any, name: str) -> Image.Image:
        """Return a screenshot of the whole page, without what moves by itself."""
        hidden = [page.locator(place) for place in MOVING]
        data = page.screenshot(
            full_page=True, mask=hidden, mask_color="#888", animations="disabled"
        )
        if folder := os.environ.get("LAYERWISE_SCREENSHOTS"):
            page.screenshot(full_page=True, path=Path(folder, f"{name.replace(' ', '_')}.png"))
        return Image.open(BytesIO(data)).convert("RGB")

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        while self.servers:
            self.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def pages(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    """Pages that must not log anything, ask another host or show a dialog."""
    monkeypatch.setattr(watcher, "Drawer", Drawer)
    monkeypatch.setattr(watcher, "NEAR", 0.2)
    monkeypatch.setattr(watcher, "REDRAWN", 0.2)
    made = Pages(browser, tmp_path)
    yield made
    made.close()
    assert made.wrong == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return watched.Built(tmp_path_factory.mktemp("states"))


def ready(page: Any, state: str) -> None:
    """Wait until a page shows all of a state."""
    page.locator("#connection", has_text=re.compile("live|updated")).wait_for()
    if state in WITH_FIGURE:
        page.wait_for_selector(".figure svg")


def until(page: Any, condition: str) -> None:
    """Wait for a condition. The page's policy forbids `wait_for_function`, which evaluates text."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(100)


def violations(page: Any) -> str:
    """Return what axe finds: contrast, labels, roles, order of headings."""
    from axe_playwright_python.sync_playwright import Axe

    results = Axe().run(page)
    return str(results.generate_report()) if results.violations_count else ""


def boxes(page: Any, *ids: str) -> list[tuple[float, float, float, float]]:
    return [
        (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
        for id in ids
        if (box := page.locator(f"#{id}").bounding_box())
    ]


# States -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["missing", *watched.STATES, "large"])
def test_every_state(state: str, pages: Pages, built: Callable[[str], Path]) -> None:
    page = pages.open(pages.serve(built(state)))
    ready(page, state)
    assert violations(page) == ""
    first = pages.picture(page, state)
    page.wait_for_timeout(300)
    again = pages.picture(page, state)
    assert ImageChops.difference(first, again).getbbox() is None
    assert page.locator("h1").count() == 1
    assert bool(page.locator(".figure svg").count()) is (state in WITH_FIGURE)


@pytest.mark.parametrize("state", ["running", "empty", "all failed"])
def test_in_the_dark(state: str, pages: Pages, built: Callable[[str], Path]) -> None:
    page = pages.open(pages.serve(built(state)), color_scheme="dark")
    ready(page, state)
    assert violations(page) == ""
    corner = pages.picture(page, f"{state} dark").getpixel((5, 5))
    assert corner == (0x15, 0x18, 0x1C)
    if state == "running":
        line = page.locator('.figure [stroke="#b2400b"]').first
        assert line.evaluate("(one) => getComputedStyle(one).stroke") == "rgb(240, 133, 79)"


@pytest.mark.parametrize("state", ["running", "several", "hostile", "half copied"])
def test_in_a_narrow_window(state: str, pages: Pages, built: Callable[[str], Path]) -> None:
    page = pages.open(pages.serve(built(state)), viewport={"width": 400, "height": 800})
    ready(page, state)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert violations(page) == ""
    pages.picture(page, f"{state} narrow")


def test_with_the_keyboard_only(pages: Pages, built: Callable[[str], Path]) -> None:
    page = pages.open(pages.serve(built("several")), viewport={"width": 400, "height": 800})
    ready(page, "several")
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            "[document.activeElement.id || document.activeElement.textContent,"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(focus[0])
        assert focus[1] == "solid", focus
    assert reached == ["pause", "first", "third", "map", "figure", "running", "failures"]
    page.locator("#map").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    until(page, "document.getElementById('map').scrollLeft > 0")
    page.locator("#pause").focus()
    page.keyboard.press("Enter")
    assert page.locator("#pause").inner_text() == "Go on"
    assert page.locator("#connection").inner_text() == "paused"
    page.keyboard.press("Enter")
    page.wait_for_selector("#pause:has-text('Pause')")
    page.get_by_role("link", name="third").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Sweep third')")
    ready(page, "several")


def test_without_javascript(pages: Pages, built: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(built("stopped"), folder)
    page = pages.open(pages.serve(folder), java_script_enabled=False)
    page.wait_for_selector("dd:has-text('273 of 444')")
    assert page.locator("#pause").is_hidden()
    assert "every five seconds" in page.locator("#link").inner_text()
    watched.one_more(Store(folder))
    page.wait_for_selector("dd:has-text('274 of 444')")
    page.wait_for_selector(".figure svg")
    pages.picture(page, "without javascript")


# Changes ------------------------------------------------------------------------------------------


def test_only_what_changed_looks_different(
    pages: Pages, built: Callable[[str], Path], tmp_path: Path
) -> None:
    """The picture of the page changes in the parts that show the new trial, and nowhere else."""
    folder = tmp_path / "store"
    shutil.copytree(built("stopped"), folder)
    page = pages.open(pages.serve(folder))
    ready(page, "stopped")
    before = pages.picture(page, "before")
    page.evaluate("old = document.getElementById('figure').innerHTML")
    watched.one_more(Store(folder))
    page.wait_for_selector("dd:has-text('274 of 444')")
    until(page, "document.getElementById('figure').innerHTML !== old")
    after = pages.picture(page, "after")
    assert before.size == after.size
    change = ImageChops.difference(before, after)
    for box in boxes(page, "map", "figure"):
        assert change.crop(tuple(map(int, box))).getbbox() is not None
    for box in boxes(page, "map", "figure"):
        change.paste((0, 0, 0), tuple(map(int, box)))
    assert change.getbbox() is None


def test_a_server_that_comes_back(pages: Pages, built: Callable[[str], Path]) -> None:
    store = built("running")
    address = pages.serve(store)
    page = pages.open(address)
    ready(page, "running")
    pages.stop()
    page.wait_for_selector("#connection:has-text('no connection, trying again')")
    pages.wrong.clear()  # the browser logs the requests that failed
    pages.serve(store, int(address.partition("/?")[0].rpartition(":")[2]))
    page.wait_for_selector("#connection:has-text('updated')")
    pages.wrong.clear()


@dataclass
class Progress:
    """Numbers of complete trials that a page has shown."""

    seen: list[int] = field(default_factory=list)

    def note(self, page: Any) -> None:
        text = page.evaluate("document.querySelector('.facts dd')?.textContent ?? ''")
        if text:
            self.seen.append(int(text.partition(" of")[0].replace(",", "")))


def test_a_real_run(browser: Any, tmp_path: Path) -> None:
    """The page is opened before there is a store, and left alone until the run is over."""
    pages, store = Pages(browser, tmp_path), tmp_path / "results"
    (tmp_path / "small.yaml").write_text(SWEEP)
    begin = [sys.executable, "-m", "orchestrator"]
    watching = subprocess.Popen(
        [*begin, "watch", "--store", str(store)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stdout
        page = pages.open(watching.stdout.readline().strip())
        page.wait_for_selector(f"#state:has-text('There is no store at {store} yet.')")
        running = subprocess.Popen(
            [*begin, "run", str(tmp_path / "small.yaml"), *RUN, "--store", str(store)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.DEVNULL,
        )
        page.wait_for_selector("h1:has-text('Sweep small')")
        progress, curves = Progress(), 0
        while running.poll() is None:
            progress.note(page)
            curves = max(curves, page.locator("#running polyline").count())
            time.sleep(0.2)
        assert running.returncode == 0
        page.wait_for_selector("#state:has-text('Everything that the sweep asks for has ended.')")
        page.wait_for_selector(".figure svg")
        page.wait_for_selector("#figure:has-text('From 8 complete networks.')")
        progress.note(page)
        assert progress.seen == sorted(progress.seen)
        assert len(set(progress.seen)) > 3
        assert progress.seen[-1] == 8
        assert curves > 0
        assert page.title().startswith("100 % · small")
        assert violations(page) == ""
        pages.picture(page, "real run")
        assert pages.wrong == []
    finally:
        pages.close()
        watching.terminate()
        watching.wait()
        watching.stdout.close()  # type: ignore[union-attr]
