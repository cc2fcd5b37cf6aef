"""S3 server (moto) on loopback that records its requests and can fail."""

from __future__ import annotations

import io
import itertools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.request import Request, urlopen

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

SECRET = "wJalrXUtnFEMI-secret-of-the-tests"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIDTESTS",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
NUMBERS = itertools.count(1)  # the servers of a process share their buckets
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"
ACCESS_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class S3Server:
    """Server in threads of this process, until `stop`."""

    credentials = CREDENTIALS

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.asked: list[str] = []  # requests such as "GET /bucket/key"
        self.refuse: Callable[[str], bool] = lambda _: False  # requests that get a 503
        self.deny: Callable[[str], bool] = lambda _: False  # requests that get a 403
        self.lock = threading.Lock()
        self.app = DomainDispatcherApplication(create_backend_app)
        self.server = make_server("127.0.0.1", 0, self._serve, threaded=True)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        query = "?" + environ["QUERY_STRING"] if environ["QUERY_STRING"] else ""
        asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}"
        self.asked.append(asked)
        if length := int(environ.get("CONTENT_LENGTH") or 0):
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        for asks, status, error in (
            (self.refuse, "503 Slow Down", SLOW_DOWN),
            (self.deny, "403 Forbidden", ACCESS_DENIED),
        ):
            if asks(asked):
                start(status, [("Content-Type", "application/xml")])
                return [error]
        with self.lock:  # moto answers with 500 if a deletion meets a listing
            return list(self.app(environ, start))

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def new_bucket(self) -> str:
        """Create a bucket. Return the URI of an empty store in it."""
        name = f"bucket-{next(NUMBERS)}"
        urlopen(Request(f"http://127.0.0.1:{self.server.port}/{name}", method="PUT")).close()
        return self.uri(name)

    def uri(self, bucket: str) -> str:
        return f"s3://{bucket}/some/store?endpoint_override=http://127.0.0.1:{self.server.port}"
