"""The server of the page: on the loopback interface, until Ctrl-C."""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from types import FrameType

import uvicorn

from orchestrator.errors import LayerwiseError
from orchestrator.watch.app import Watch

HOST, PORT = "127.0.0.1", 8901
GRACE = 1  # seconds for answers under way when the server ends


class Server(uvicorn.Server):
    """Ends the streams of events when it is asked to end. uvicorn would wait for them."""

    def __init__(self, watch: Watch):
        config = uvicorn.Config(
            watch.app(),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,  # its lines have the token
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE,
        )
        super().__init__(config)
        self.watch = watch

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.watch.close()


def serve(
    place: str,
    sweep: str,
    port: int | None,
    announce: Callable[[str], object],
    is_opened: bool = False,
) -> None:
    """Serve the page of a store until a signal ends it. `announce` is given the address.

    Without `port`, the usual one is taken if it is free, else any. Raises `LayerwiseError` for a
    port that cannot be had.
    """
    token = secrets.token_urlsafe(24)
    with contextlib.closing(_bound(port)) as bound:
        address = f"http://{HOST}:{bound.getsockname()[1]}/?token={token}"
        announce(address)
        with _opened(address) if is_opened else contextlib.nullcontext():
            Server(Watch(place, sweep, token)).run(sockets=[bound])


def _bound(port: int | None) -> socket.socket:
    for number in (PORT, 0) if port is None else (port,):
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((HOST, number))
        except OSError as error:
            bound.close()
            reason = error.strerror
        else:
            bound.listen()
            return bound
    raise LayerwiseError(
        f"cannot listen on port {number} of {HOST}: {reason}; name another one with --port, or none"
    )


@contextlib.contextmanager
def _opened(address: str) -> Iterator[None]:
    """Open the address in the user's browser.

    It goes there through a file that only this user can read: other users can read the arguments
    of the browser's process, and must not learn the token.
    """
    with tempfile.TemporaryDirectory(prefix="layerwise-") as folder:
        page = Path(folder, "watch.html")
        page.touch(mode=0o600)
        refresh = f'<meta http-equiv="refresh" content="0; url={escape(address, quote=True)}">'
        page.write_text(f"<!doctype html><title>layerwise</title>{refresh}", encoding="utf-8")
        webbrowser.open(page.as_uri())
        yield
