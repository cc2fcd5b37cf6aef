"""The server as a process: its address, a port that is taken, and its end."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from orchestrator.signals import INTERRUPTED
from orchestrator.watch import server
from orchestrator.watch.server import serve
from tests import watched
from tests.conftest import Ended
from tests.watch.conftest import Make

Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts `layerwise watch`, and returns the process and its address."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "orchestrator", "watch", *words]
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        address = process.stdout.readline().strip()
        assert process.stdout.readline() == "Ctrl-C ends it\n"
        return process, address

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_while_a_page_is_open(
    number: signal.Signals, make: Make, start: Start
) -> None:
    port = free_port()
    process, address = start("--store", make("running").root, "--port", str(port))
    assert re.fullmatch(rf"http://127\.0\.0\.1:{port}/\?token=[\w-]{{32}}", address)
    page, stream = (http.client.HTTPConnection("127.0.0.1", port) for _ in range(2))
    query = urlsplit(address).query
    page.request("GET", f"/?{query}")
    assert "Sweep demo" in page.getresponse().read().decode()
    stream.request("GET", f"/events?{query}")
    answer = stream.getresponse()
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.readline().startswith(b"id: title:")
    process.send_signal(number)
    out, err = process.communicate(timeout=60.0)
    assert (process.returncode, out, err) == (INTERRUPTED, "", "")
    answer.read()  # the stream has ended
    for connection in (page, stream):
        connection.close()


def test_only_the_loopback_interface_listens(tmp_path: Path, start: Start) -> None:
    port = free_port()
    start("--store", str(tmp_path / "none"), "--port", str(port))
    hexadecimal = f"{port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [line[1] for line in lines if line[1].endswith(hexadecimal) and line[3] == "0A"]
    assert listening == [f"0100007F:{hexadecimal}"]


def test_a_port_that_is_taken(tmp_path: Path, layerwise: Callable[..., Ended]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = layerwise("watch", "--store", str(tmp_path), "--port", str(port))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"layerwise: cannot listen on port {port} of 127.0.0.1: Address already in use; "
        "name another one with --port, or none\n"
    )


def test_another_port_is_taken_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setattr(server, "PORT", other.getsockname()[1])
        with server._bound(None) as bound:
            assert bound.getsockname()[1] != server.PORT
            assert bound.getsockname()[0] == "127.0.0.1"


def test_the_usual_port_is_taken_if_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PORT", free_port())
    with server._bound(None) as bound:
        assert bound.getsockname()[1] == server.PORT


def test_the_browser_learns_the_token_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    pages: list[str] = []

    def browse(address: str) -> bool:
        opened.append(address)
        path = Path(urlsplit(address).path)
        assert path.stat().st_mode & 0o077 == 0
        pages.append(path.read_text())
        return True

    monkeypatch.setattr(webbrowser, "open", browse)
    monkeypatch.setattr(server.Server, "run", lambda *_, **__: None)
    addresses: list[str] = []
    serve(str(tmp_path), "", None, addresses.append, is_opened=True)
    (address,) = addresses
    token = address.partition("token=")[2]
    assert token not in opened[0]
    assert address.replace("&", "&amp;") in pages[0]
    assert not Path(urlsplit(opened[0]).path).exists()


def test_an_unknown_sweep(make: Make, layerwise: Callable[..., Ended]) -> None:
    store = make("complete")
    ended = layerwise("watch", "dmo", "--store", store.root)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"layerwise: no sweep 'dmo' in {store.root}; did you mean 'demo'?")


def test_a_newer_store(make: Make, layerwise: Callable[..., Ended]) -> None:
    store = make("empty")
    watched.newer(store)
    ended = layerwise("watch", "--store", store.root)
    assert ended.code == 2
    assert "was written by a newer layerwise (schema 99" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_store_that_is_a_file(tmp_path: Path, layerwise: Callable[..., Ended]) -> None:
    (tmp_path / "file").touch()
    ended = layerwise("watch", "--store", str(tmp_path / "file"))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"layerwise: store {tmp_path}/file is a file; expected a folder\n"


@pytest.mark.parametrize(
    ("words", "name"), [((), ""), (("digits",), "digits"), (("demo",), "demo")]
)
def test_the_sweep_that_is_shown(
    words: tuple[str, ...],
    name: str,
    make: Make,
    layerwise: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That of the latest run, a bundled one that has not run yet, or one of the store."""
    served: list[str] = []

    def note(place: str, sweep: str, *_: object) -> None:  # noqa: ARG001
        served.append(sweep)

    monkeypatch.setattr(server, "serve", note)
    assert layerwise("watch", *words, "--store", make("complete").root).code == 0
    assert served == [name]
