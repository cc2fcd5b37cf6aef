"""A sweep that is carried out while faults happen to it, and what must hold of its store."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from orchestrator.store import Store
from orchestrator.tables import OUTCOMES, result_columns
from tests.chaos.machines import Machines, wait_for
from tests.results import results
from tests.s3_server import S3Server
from trainers.checkpoint import verify

ROOT = Path(__file__).parents[2]
GRID = ("splits.random=[0]", "layers=[1, 7]", "checkpoint_seconds=0.3")
TRIALS = 2 * (2 + 5 * 2)


class Reader(threading.Thread):
    """Reads all files of a store again and again: one that is half written would be unreadable.

    It knows nothing of the store but that a name ends in `.parquet`, or in the hash of what is in
    it, and that a hidden file is none. Rows of complete trials must stay what they are.
    """

    def __init__(self, store: Store):
        super().__init__(daemon=True)
        self.files = store.files
        self.spoilt: set[str] = set()  # by a fault, on purpose
        self.seen: dict[str, tuple[int, int]] = {}
        self.rows: dict[str, dict[str, object]] = {}
        self.wrong: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.25):
            self.look()

    def look(self) -> None:
        selector = pafs.FileSelector(self.files.base, recursive=True, allow_not_found=True)
        try:
            found = self.files.fs.get_file_info(selector)
        except OSError:  # a file went away meanwhile, or the store fails
            return
        for info in found:
            state = (info.size, info.mtime_ns)
            if info.extension in ("parquet", "safetensors") and self.seen.get(info.path) != state:
                self.seen[info.path] = state
                self.read(info.path)
        complete = {info.base_name for info in found if "/trials/complete/" in info.path}
        gone = [id for id in self.rows if f"{id}.parquet" not in complete]
        self.wrong += [f"the row of {id} went away" for id in gone]

    def read(self, path: str) -> None:
        try:
            with self.files.fs.open_input_file(path) as file:
                data = file.read()
        except OSError:  # snapshots go, and rows are replaced by better ones
            self.seen.pop(path)
            return
        try:
            if path.endswith(".safetensors"):
                verify(data, Path(path).stem.rpartition("-")[2])
                return
            rows = pq.read_table(pa.BufferReader(data)).to_pylist()
            if "/trials/complete/" in path:
                [row] = rows
                result = {name: row[name] for name in result_columns("trials")}
                if self.rows.setdefault(row["id"], result) != result:
                    self.wrong.append(f"the row of {row['id']} changed")
        except Exception as error:  # whatever it is, a reader would have met it
            if path not in self.spoilt:
                self.wrong.append(f"{path}: {error!r}")

    def close(self) -> list[str]:
        """What was wrong."""
        self.ended.set()
        self.join()
        self.look()
        return self.wrong


@dataclass(kw_only=True)
class Scene:
    """One sweep with one store on a cluster, and the programs that carry it out."""

    machines: Machines
    store: Store
    steps: int
    logs: Path
    server: S3Server | None = None  # where the store is
    drivers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    runs: int = 0
    faults: int = 0  # that happened

    def __post_init__(self) -> None:
        self.reader = Reader(self.store)

    def start_driver(self) -> None:
        """`layerwise run`, as a user gives it once more after each fault that ended it."""
        self.runs += 1
        changes = [part for one in (*GRID, f"recipe.steps={self.steps}") for part in ("--set", one)]
        line = [sys.executable, "-m", "orchestrator", "run", "digits", *changes, "--no-report"]
        line += ["--store", self.store.root, "--address", self.machines.address]
        more = {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        with (self.logs / f"run-{self.runs}.txt").open("wb") as log:
            self.drivers.append(
                subprocess.Popen(
                    line, cwd=ROOT, env=os.environ | more, stdout=log, stderr=subprocess.STDOUT
                )
            )

    @property
    def running(self) -> bool:
        return any(driver.poll() is None for driver in self.drivers)

    def training(self) -> bool:
        """Whether a worker is there that trains."""
        return any(node.workers() for node in self.machines.nodes)

    def waits(self, seconds: float) -> bool:
        """Wait so long, or until no driver runs; whether one does."""
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not self.running, "end", seconds)
        return self.running

    def collect(self) -> list[int]:
        """The exit codes of the drivers, all of which have ended."""
        codes = [driver.wait() for driver in self.drivers]
        self.drivers.clear()
        return codes

    def said(self) -> str:
        """What all drivers said."""
        logs = sorted(self.logs.glob("run-*.txt"), key=lambda path: path.stat().st_mtime)
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in logs)

    def problems(self, expected: dict[str, pa.Table]) -> list[str]:
        """What does not hold of the store, now that the sweep has ended."""
        found = self.reader.close()
        rows = {outcome: self.store.names("trials", outcome) for outcome in OUTCOMES}
        if (complete := len(rows.pop("complete"))) != TRIALS:
            found.append(f"{complete} of {TRIALS} trials are complete")
        found += [f"{outcome}: {', '.join(names)}" for outcome, names in rows.items() if names]
        if left := self.store.names("progress"):
            found.append(f"snapshots are left of {', '.join(left)}")
        for name, table in results(self.store.root).items():
            if table.num_rows != expected[name].num_rows:
                found.append(f"{table.num_rows} rows of {name}, not {expected[name].num_rows}")
            elif table != expected[name]:
                found.append(f"other values in {name}")
        return found


@contextlib.contextmanager
def scene(machines: Machines, kind: str = "folder", steps: int = 1000) -> Iterator[Scene]:
    """An empty store: a `folder`, a small `disk` of its own (as root), or a bucket of `s3`."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        root, server = f"{folder}/store", None
        if kind == "disk":
            Path(root).mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "chaos", root], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", root], check=True)
        elif kind == "s3":
            server = S3Server()
            stack.callback(server.stop)
            root = server.new_bucket()
        made = Scene(machines=machines, store=Store(root), steps=steps, logs=folder, server=server)
        stack.callback(made.reader.ended.set)
        made.reader.start()
        try:
            yield made
        finally:
            for driver in made.drivers:
                driver.kill()
                driver.wait()
