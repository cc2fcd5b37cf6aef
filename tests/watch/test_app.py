"""Requests: who is refused, what the headers forbid, and the stream of changes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from orchestrator.watch import app, watcher
from orchestrator.watch.app import HEADERS, Watch
from tests import watched
from tests.watch.conftest import Make

TOKEN = "a-token"
PATHS = ("/", "/events", "/watch.css", "/watch.js")
OTHERS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page wait for its store however busy the machine is, and draw nothing."""
    monkeypatch.setattr(app, "PATIENCE", 60.0)
    monkeypatch.setattr(watcher.Watcher, "_is_due", lambda _: False)


@pytest.fixture
def client(make: Make) -> Iterator[TestClient]:
    with TestClient(Watch(make("running").root, "", TOKEN).app(), "http://127.0.0.1:8901") as made:
        yield made


def test_the_page(client: TestClient) -> None:
    answer = client.get("/", params={"token": TOKEN})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>layerwise: demo</title>" in answer.text
    assert "273 of 444, 61 %" in answer.text


def test_style_and_script(client: TestClient) -> None:
    style = client.get("/watch.css", params={"token": TOKEN})
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert "--paper: #fff" in style.text  # of the report
    script = client.get("/watch.js", params={"token": TOKEN})
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "new EventSource(" in script.text
    assert "eval" not in script.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", ["", "?token=", "?token=other", "?token=a-toke", "?token=é%ff"])
def test_no_request_without_the_token(path: str, query: str, client: TestClient) -> None:
    answer = client.get(f"{path}{query}")
    assert (answer.status_code, answer.text) == (403, app.REFUSED)


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:8901", 200),
        ("localhost:8901", 200),
        ("localhost:9000", 200),  # ssh forwards another port
        ("127.0.0.1", 200),
        ("evil.example", 400),
        ("evil.example:8901", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost.evil.example:8901", 400),
        ("0.0.0.0:8901", 400),
        ("", 400),
    ],
)
def test_the_host_is_this_machine(host: str, code: int, client: TestClient) -> None:
    answer = client.get("/", params={"token": TOKEN}, headers={"host": host})
    assert answer.status_code == code


@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("path", PATHS)
def test_nothing_can_be_changed(path: str, method: str, client: TestClient) -> None:
    assert client.request(method, path, params={"token": TOKEN}).status_code == 405


@pytest.mark.parametrize(
    ("path", "code"), [("/", 200), ("/nothing", 404), ("/../etc/passwd", 404), ("/docs", 404)]
)
def test_every_answer_has_the_headers(path: str, code: int, client: TestClient) -> None:
    for token, expected in ((TOKEN, code), ("other", 403)):
        answer = client.get(path, params={"token": token})
        assert answer.status_code == expected
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "access-control-allow-origin" not in answer.headers
        assert "set-cookie" not in answer.headers
    refused = client.get("/", headers={"host": "evil.example"})
    assert refused.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


def test_the_policy_allows_no_code_in_the_page_and_no_other_host() -> None:
    policy = dict(
        part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("sweep", ["../up", "a/b", ".hidden", "<b>"])
@pytest.mark.parametrize("path", ["/", "/events"])
def test_what_is_no_name_of_a_sweep(path: str, sweep: str, client: TestClient) -> None:
    answer = client.get(path, params={"token": TOKEN, "sweep": sweep})
    assert (answer.status_code, answer.text) == (404, "That is no name of a sweep.\n")


def test_another_sweep_of_the_store(make: Make) -> None:
    made = Watch(make("several").root, "", TOKEN)
    with TestClient(made.app(), "http://localhost") as client:
        assert "Sweep second" in client.get("/", params={"token": TOKEN}).text
        text = client.get("/", params={"token": TOKEN, "sweep": "third"}).text
        assert "Sweep third" in text
        assert "Waiting" not in text
    assert set(made.watchers) == {"", "third"}


def test_only_so_many_sweeps_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MOST_SWEEPS", 2)
    made = Watch(str(tmp_path), "", TOKEN)
    for name in ("a", "b", "c"):
        made.watcher(name)
    assert set(made.watchers) == {"b", "c"}


def test_a_store_that_does_not_exist(tmp_path: Path) -> None:
    made = Watch(str(tmp_path / "none"), "digits", TOKEN)
    with TestClient(made.app(), "http://localhost") as client:
        text = client.get("/", params={"token": TOKEN}).text
    assert f"There is no store at {tmp_path}/none yet." in text
    assert not (tmp_path / "none").exists()


def test_looking_changes_no_file(make: Make) -> None:
    store = make("half copied")

    def files() -> dict[str, bytes]:
        paths = (path for path in Path(store.root).rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in paths}

    before = files()
    with TestClient(Watch(store.root, "", TOKEN).app(), "http://localhost") as client:
        assert client.get("/", params={"token": TOKEN}).status_code == 200
    assert files() == before


# The stream ---------------------------------------------------------------------------------------


def event(text: str) -> tuple[str, dict[str, str]]:
    """Return the id and the parts of an event."""
    match = re.fullmatch(r"id: (\S+)\nevent: parts\ndata: (\{.*\})\n\n", text)
    assert match
    return match[1], json.loads(match[2])


def test_the_stream_sends_what_changed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "NEAR", 0.02)
    store = make("one trial")
    made = Watch(store.root, "", TOKEN)

    async def watch() -> None:
        of_sweep = made.watcher("")
        await of_sweep.latest(60.0)
        stream = made._changes(of_sweep, "")
        seen, parts = event(await anext(stream))
        assert set(parts) == set(of_sweep.parts)
        watched.running(store)
        changed: set[str] = set()
        while not {"running", "failures"} <= changed:
            seen, parts = event(await anext(stream))
            changed |= set(parts)
        assert {"state", "map"} <= changed
        assert "title" not in changed  # it is the same sweep
        again = made._changes(of_sweep, seen)  # a page that connects again
        _, parts = event(await anext(again))
        assert "title" not in parts
        made.close()
        assert [text async for text in stream] == []

    asyncio.run(asyncio.wait_for(watch(), 120.0))


def test_a_silent_stream_is_kept_alive(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "KEPT_ALIVE", 0.01)
    monkeypatch.setattr(watcher, "NEAR", 60.0)
    made = Watch(make("complete").root, "", TOKEN)

    async def watch() -> None:
        of_sweep = made.watcher("")
        await of_sweep.latest(60.0)
        stream = made._changes(of_sweep, app.fragments.hashes(of_sweep.parts))
        assert await anext(stream) == ": nothing new\n\n"

    asyncio.run(watch())
