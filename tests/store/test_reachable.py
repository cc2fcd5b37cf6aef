"""A server that is not there is found out in a bounded time."""

from __future__ import annotations

import socket
import threading

import pytest

from orchestrator.store.reachable import obstacle


def test_obstacles(unused: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert obstacle("127.0.0.1", unused) == "Connection refused"
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert obstacle("127.0.0.1", server.getsockname()[1]) is None
    forever = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [] * forever.wait(10))
    assert obstacle("far", 1, seconds=0.05) == "the name far was not resolved within 0.05 seconds"
    forever.set()
