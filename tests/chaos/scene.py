"""A sweep that runs under faults, and the conditions that its store must meet."""

from __future__ import annotations

import contextlib
import json
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

from orchestrator.errors import StoreError
from orchestrator.states import OUTCOMES, State
from orchestrator.store import row_files
from orchestrator.store.names import RowFile
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from tests.chaos.machines import Machines, wait_for
from tests.results import results
from tests.s3_server import S3Server
from trainers.checkpoint import verify

ROOT = Path(__file__).parents[2]
GRID = ("splits.random=[0]", "layers=[1, 7]", "checkpoint_seconds=0.3")
TRIALS = 2 * (2 + 5 * 2)


class Reader(threading.Thread):
    """Thread that reads all files of a store again and again, to find one that is half written.

    It knows only that a name ends in `.parquet` or in the hash of the content, and that hidden
    files do not count. Rows of complete trials must not change, and the store must have them.
    """

    def __init__(self, store: Store):
        super().__init__(daemon=True)
        self.files, self.root = store.files, store.root
        self.spoilt: set[str] = set()  # paths that a fault damaged on purpose
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
            files = self.files.fs.get_file_info(selector)
        except OSError:  # a file was deleted meanwhile, or the store fails
            return
        for info in files:
            state = (info.size, info.mtime_ns)
            is_whole = info.extension in ("json", "parquet", "safetensors")
            changes = any(f"/{name}/" in info.path for name in ("leases", "running"))
            if is_whole and not changes and self.seen.get(info.path) != state:
                self.seen[info.path] = state
                self.read(info.path)
        with contextlib.suppress(StoreError):  # the store fails
            outcomes = Store(self.root).outcomes()
            gone = [id for id in self.rows if outcomes.get(id) != "complete"]
            self.wrong += [f"the row of {id} went away" for id in gone]

    def read(self, path: str) -> None:
        try:
            with self.files.fs.open_input_file(path) as file:
                data = file.read()
        except OSError:  # snapshots are deleted, and rows replaced
            self.seen.pop(path)
            return
        try:
            if path.endswith(".safetensors"):
                verify(data, Path(path).stem.rpartition("-")[2])
                return
            if path.endswith(".json"):
                if file := RowFile.parse(Path(path).name):
                    record = row_files.decode(file, data, self.root)
                    rows = row_files.to_tables([record], {"trials": None})["trials"].to_pylist()
                else:
                    json.loads(data)
                    return
            else:
                rows = pq.read_table(pa.BufferReader(data)).to_pylist()
            for row in rows if "/trials/" in path or "/rows/" in path else ():
                if row["outcome"] != "complete":
                    continue
                result = {name: row[name] for name in result_columns("trials")}
                if self.rows.setdefault(row["id"], result) != result:
                    self.wrong.append(f"the row of {row['id']} changed")
        except Exception as error:  # a reader of the store would have failed too
            if path not in self.spoilt:
                self.wrong.append(f"{path}: {error!r}")

    def close(self) -> list[str]:
        """Stop. Return the problems."""
        self.ended.set()
        self.join()
        self.look()
        return self.wrong


@dataclass(kw_only=True)
class Scene:
    """One sweep with one store on a cluster, and its drivers."""

    machines: Machines
    store: Store
    steps: int
    logs: Path
    server: S3Server | None = None  # of a store on S3
    drivers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    runs: int = 0
    faults: int = 0  # number that happened

    def __post_init__(self) -> None:
        self.reader = Reader(self.store)

    def start_driver(self) -> None:
        """Start `layerwise run`, as a user does again after a fault that ended it."""
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
        """Return whether a worker trains."""
        return any(node.workers() for node in self.machines.nodes)

    def waits(self, seconds: float) -> bool:
        """Wait `seconds`, or until no driver runs. Return whether one does."""
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not self.running, "end", seconds)
        return self.running

    def collect(self) -> list[int]:
        """Return the exit codes of the drivers after their end."""
        codes = [driver.wait() for driver in self.drivers]
        self.drivers.clear()
        return codes

    def said(self) -> str:
        """Return the output of all drivers."""
        logs = sorted(self.logs.glob("run-*.txt"), key=lambda path: path.stat().st_mtime)
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in logs)

    def problems(self, expected: dict[str, pa.Table]) -> list[str]:
        """Return the conditions that the store fails after the end of the sweep."""
        problems = self.reader.close()
        outcomes = self.store.outcomes()
        rows = {outcome: [id for id in outcomes if outcomes[id] == outcome] for outcome in OUTCOMES}
        if (complete := len(rows.pop(State.COMPLETE))) != TRIALS:
            problems.append(f"{complete} of {TRIALS} trials are complete")
        problems += [f"{outcome}: {', '.join(ids)}" for outcome, ids in rows.items() if ids]
        if left := self.store.names("progress"):
            problems.append(f"snapshots are left of {', '.join(left)}")
        for name, table in results(self.store.root).items():
            if table.num_rows != expected[name].num_rows:
                problems.append(f"{table.num_rows} rows of {name}, not {expected[name].num_rows}")
            elif table != expected[name]:
                problems.append(f"other values in {name}")
        return problems


@contextlib.contextmanager
def scene(machines: Machines, kind: str = "folder", steps: int = 1000) -> Iterator[Scene]:
    """Make a scene with an empty store: a `folder`, a small `disk` (as root) or a bucket (`s3`)."""
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
