"""A spot notice reaches Ray: a stand-in for the metadata service, a real Ray of one node."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.processes import ROOT, environment

SCRIPT = ROOT / "clusters" / "spot_notice.py"


class Service(BaseHTTPRequestHandler):
    """Requires a token, as IMDSv2 does, and has a notice from the second request on."""

    asked: list[str] = []  # noqa: RUF012 - of one test
    seconds = 120

    def do_PUT(self) -> None:
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "60"
        self.answer(200, "a-token")

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.headers["X-aws-ec2-metadata-token"] != "a-token":
            self.answer(401, "")
        elif len(self.asked) == 1:
            self.answer(404, "")
        else:
            end = datetime.now(UTC) + timedelta(seconds=self.seconds)
            self.answer(200, f'{{"action": "terminate", "time": "{end:%Y-%m-%dT%H:%M:%SZ}"}}')

    def answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    Service.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


# The node is kept busy: Ray removes a draining node on which nothing runs at once.
CLUSTER = """
import os, subprocess, sys, time
from orchestrator.cluster import Cluster, connect
with connect(Cluster(cpus=1)):
    import ray
    from orchestrator.cluster.internals import draining_nodes
    busy = ray.remote(lambda: time.sleep(100)).remote()
    while ray.available_resources().get("CPU"):
        time.sleep(0.1)
    here = ray.get_runtime_context()
    watching = subprocess.run(
        [sys.executable, sys.argv[1]], env=os.environ | {"RAY_ADDRESS": here.gcs_address},
        capture_output=True, text=True)
    print(watching.stdout, watching.stderr)
    left = draining_nodes()[here.get_node_id()] / 1000 - time.time()
    print("draining, and gone in", "time" if 60 < left <= 120 else left)
"""


# A stand-in for the command `ray`, whose first call fails.
RAY = """\
#!/bin/sh
[ -e "$0.tried" ] && exec {ray} "$@"
touch "$0.tried"
exit 1
"""


@pytest.mark.slow
def test_a_notice_drains_the_node(service: str, tmp_path: Path) -> None:
    (tmp_path / "ray").write_text(RAY.format(ray=Path(sys.executable).with_name("ray")))
    (tmp_path / "ray").chmod(0o755)
    more = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": service}
    more["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(SCRIPT)],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "draining, and gone in time" in done.stdout, done.stdout + done.stderr
    assert "trying again: " in done.stdout
    assert Service.asked == ["/latest/meta-data/spot/instance-action"] * 3
