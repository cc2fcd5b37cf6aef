"""Fixtures of several test modules: fresh data, the command line, plans of sweeps, an S3 server."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import settings

from orchestrator import cli
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.sweep.load import load_sweep
from tests.processes import AWAKE

if TYPE_CHECKING:
    from tests.s3_server import S3Server

# A process that a shell starts in the background ignores SIGINT, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("layerwise", deadline=None)  # machines are busy
settings.load_profile("layerwise")


@pytest.fixture(autouse=True)
def tracing() -> Iterator[None]:
    """Trace on after a test that leaves a debugger, or the rest would count as not covered."""
    before = sys.gettrace()
    yield
    if sys.gettrace() is not before:
        sys.settrace(before)


@pytest.fixture(autouse=True, scope="session")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of all data and caches of this test run, for child processes too."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("LAYERWISE_DATA", str(folder / "data"))
        patch.setenv("LAYERWISE_CACHE", str(folder / "node"))
        for name, value in AWAKE.items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the listings and means of one test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "layerwise"


@pytest.fixture
def fresh_data() -> Iterator[Callable[[], None]]:
    """A function that forgets the data this process has read; called before and after the test."""
    from trainers.task_data import forget

    forget()
    yield forget
    forget()


@pytest.fixture
def photo_data(monkeypatch: pytest.MonkeyPatch, fresh_data: Callable[[], None]) -> None:  # noqa: ARG001
    """Make `photos` of `tests.trainings` a known dataset."""
    from tests.trainings import photos, photos_info
    from trainers.datasets import DATASETS, DatasetKind

    monkeypatch.setitem(DATASETS, "photos", DatasetKind(photos, photos_info))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow three attempts at the store, without a wait between them."""
    from orchestrator.store import files

    monkeypatch.setattr(files, "PAUSES", (0.002, 0.001))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, from which the user's own modules are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.fixture
def unused() -> int:
    """A port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Ended(NamedTuple):
    """The exit code of a command and its output."""

    code: int
    out: str
    err: str


@pytest.fixture
def layerwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Ended]]:
    """A function that runs a command in this process: `layerwise("plan", "digits")`."""
    monkeypatch.setenv("COLUMNS", "100")
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            cli.main(list(arguments))
        captured = capsys.readouterr()
        return Ended(ending.value.code or 0, captured.out, captured.err)

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def plan_of(tmp_path: Path) -> Callable[..., Plan]:
    """A function that plans a sweep with `--set` changes: `plan_of(TEXT, "recipe.steps=3")`."""

    def planned(text: str, *changes: str) -> Plan:
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        sweep, source = load_sweep(str(path), changes)
        return make_plan(resolve(sweep, source))

    return planned


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3Server]:
    from tests.s3_server import S3Server

    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 server with the credentials for it in the environment."""
    for name, value in s3_process.credentials.items():
        monkeypatch.setenv(name, value)
    s3_process.asked.clear()
    yield s3_process
    s3_process.refuse = lambda _: False
