"""What several test modules use: the command line in this process, and plans from sweep texts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import settings

from orchestrator import cli, experiment, sweep_file
from orchestrator.plan import Plan, plan

if TYPE_CHECKING:
    from s3_server import S3Server

# What a shell starts in the background ignores SIGINT, and hands that on to what it starts itself.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("layerwise", deadline=None)  # machines are busy
settings.load_profile("layerwise")


@pytest.fixture(autouse=True, scope="session")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Data and what is kept about it in a folder of these tests, for child processes too."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("LAYERWISE_DATA", str(folder / "data"))
        yield folder


class Ended(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def layerwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Ended]]:
    """The command line in this process: `layerwise("plan", "digits")`."""
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
    """The plan of a sweep's text, with `--set` changes: `plan_of(TEXT, "recipe.steps=3")`."""

    def planned(text: str, *changes: str) -> Plan:
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        sweep, source = sweep_file.load(str(path), changes)
        return plan(experiment.examine(sweep, source))

    return planned


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3Server]:
    from s3_server import S3Server  # it takes a while to import

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
