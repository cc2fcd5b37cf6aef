"""`layerwise watch` on a store of ten thousand trials, of which a hundred complete meanwhile.

.venv/bin/python -m benchmarks.watch
.venv/bin/python -m benchmarks.watch --browser /usr/bin/chromium

The store is that of `benchmarks.store`. A client reads the stream of changes while row after row is
written. With a browser (and the package playwright), the page is loaded in it too.
"""

from __future__ import annotations

import argparse
import http.client
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from benchmarks.store import attempt_of, fill, planned
from orchestrator.store.store import Store
from orchestrator.watch.drawing import draw
from orchestrator.watch.fragments import fragments
from orchestrator.watch.observation import Observer

UPDATES = 100
APART = 1.5  # seconds between two rows, more than between two looks


@dataclass
class Stream:
    """The changes that a client receives, with their moments."""

    address: str
    moments: list[tuple[float, str]] = field(default_factory=list)

    def read(self) -> None:
        """Read events until the server ends."""
        place = urlsplit(self.address)
        connection = http.client.HTTPConnection(str(place.hostname), place.port)
        connection.request("GET", f"/events?{place.query}")
        answer = connection.getresponse()
        for line in iter(answer.readline, b""):
            if line.startswith(b"data: "):
                self.moments.append((time.perf_counter(), line.decode()))
        connection.close()

    def first(self, since: float, text: str) -> float:
        """Return the moment of the first event since another that contains a text."""
        while True:
            for moment, line in list(self.moments):
                if moment > since and text in line:
                    return moment
            time.sleep(0.005)


@contextmanager
def served(store: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `layerwise watch`; yield the process and its address."""
    command = [sys.executable, "-m", "orchestrator", "watch", "--store", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.terminate()


def get(address: str) -> tuple[float, int]:
    """Return the seconds and the bytes of a page."""
    place, began = urlsplit(address), time.perf_counter()
    connection = http.client.HTTPConnection(str(place.hostname), place.port)
    connection.request("GET", f"/?{place.query}")
    size = len(connection.getresponse().read())
    connection.close()
    return time.perf_counter() - began, size


def resident(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS:"))


def children(pid: int) -> list[int]:
    """Return the processes that the threads of a process started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(one) for path in lists for one in path.read_text().split()]


def measure(store: Store, points: int, name: str) -> None:
    """Print the times of pages and updates, and the memory before and after."""
    plan = planned(int(name.removeprefix("large")))
    known = store.outcomes()
    open_ones = [trial for id, trial in plan.trials.items() if id not in known][:UPDATES]
    with served(Path(store.root)) as (process, address):
        print(f"first page after the start: {get(address)[0]:.2f} s")
        stream = Stream(address)
        began = time.perf_counter()
        threading.Thread(target=stream.read, daemon=True).start()
        figure = stream.first(began, "<svg xmlns") - began
        print(f"its figure: {figure:.1f} s later")
        pages = [get(address) for _ in range(20)]
        seconds = median(page[0] for page in pages)
        print(f"page with all parts: {1e3 * seconds:.0f} ms, {pages[-1][1] / 1e3:.0f} kB")
        before = resident(process.pid)
        delays = []
        complete = len(known)
        for number, trial in enumerate(open_ones, 1):
            time.sleep(APART)
            began = time.perf_counter()
            store.write_row(*attempt_of(trial, points))
            written = time.perf_counter()
            shown = stream.first(began, f"{complete + number:,} of")
            delays.append(max(0.0, shown - written))
        delays.sort()
        print(
            f"row written until the client has it, over {len(delays)} rows: median "
            f"{delays[len(delays) // 2]:.2f} s, longest {delays[-1]:.2f} s"
        )
        after = resident(process.pid)
        drawer = sum(map(resident, children(process.pid)))
        print(f"memory: {before:.0f} MB before, {after:.0f} MB after; drawing {drawer:.0f} MB")


def look(store: Store) -> None:
    """Print the time of one look, of the parts of the page, and of the figure."""
    observer = Observer(store.root, "")
    began = time.perf_counter()
    seen = observer.look()
    first = time.perf_counter() - began
    drawing = draw(store.root, seen.sweep)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        fragments(observer.look(drawing.times), drawing, "token")
        times.append(time.perf_counter() - began)
    print(
        f"first look {first:.2f} s; another with all parts: {1e3 * median(times):.0f} ms, ", end=""
    )
    print(f"longest {1e3 * max(times):.0f} ms")


def paint(store: Path, browser: str) -> None:
    """Print when a browser paints the page, and its work for an update."""
    from playwright.sync_api import sync_playwright

    with served(store) as (_, address), sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page()
        for kind in ("just started", "running"):
            page.goto(address)
            page.wait_for_selector(".figure svg", timeout=60_000)
            entries = "performance.getEntriesByType('paint').map((one) => one.startTime)"
            print(f"first paint, server {kind}: {page.evaluate(entries)[-1]:.0f} ms")
        parts = page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('main [id]')]"
            ".map((one) => [one.id, one.innerHTML]))"
        )
        code = """(parts) => {
            const began = performance.now();
            for (let k = 0; k < 100; k++) { show(parts); document.body.offsetHeight; }
            return (performance.now() - began) / 100;
        }"""
        wanted = ("title", "notes", "state", "map", "figure", "running", "failures", "sweeps")
        print(
            f"all parts replaced and laid out: "
            f"{page.evaluate(code, {name: parts[name] for name in wanted}):.1f} ms"
        )
        chromium.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=350, help="evaluations of each trial")
    parser.add_argument("--folder", type=Path, help="where the store stays for another time")
    parser.add_argument("--browser", help="path of a Chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        store, plan = Store(folder / "store"), planned(options.trials)
        if not store.exists():
            fill(store, plan, options.points, open_ones=UPDATES)
        print(f"{len(store.outcomes()):,} of {len(plan.trials):,} trials")
        look(store)
        if options.browser:
            paint(folder / "store", options.browser)
        measure(store, options.points, plan.sweep.name)


if __name__ == "__main__":
    main()
