"""Watch for the spot notice of an EC2 node, and drain the node in Ray: two minutes' warning.

    nohup python clusters/spot_notice.py > /tmp/spot_notice.log 2>&1 &

`cluster.yaml` starts this script on every worker node; only spot nodes ever get a notice. After
it, Ray starts nothing new on the node, and the trials there stop with a snapshot and continue on
another node. One script per machine is enough: a second one exits at once. Needs only Ray. See
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from urllib.error import HTTPError
from urllib.request import Request, urlopen

EVERY = 5.0  # seconds, as EC2 recommends
# The variable of the AWS tools.
SERVICE = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")


def ask(path: str, method: str = "GET", **headers: str) -> str:
    """Return the answer of the instance's metadata service. Raises `OSError`."""
    full = {f"X-aws-ec2-metadata-{name.replace('_', '-')}": text for name, text in headers.items()}
    request = Request(f"{SERVICE}/latest/{path}", method=method, headers=full)
    with urlopen(request, timeout=2) as response:
        answer: bytes = response.read()
    return answer.decode()


def notice() -> datetime | None:
    """Return the time at which EC2 will stop or terminate the instance, if there is a notice."""
    token = ask("api/token", "PUT", token_ttl_seconds="60")
    try:
        action = json.loads(ask("meta-data/spot/instance-action", token=token))
    except HTTPError as error:
        if error.code == 404:
            return None
        raise
    return datetime.fromisoformat(action["time"])


def drain(seconds: int) -> None:
    """Tell the head that this node will be gone in `seconds`."""
    import ray

    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    ray.init(address="auto", ignore_reinit_error=True, **quiet)  # a repeated attempt is connected
    context = ray.get_runtime_context()
    command = ["ray", "drain-node", "--address", context.gcs_address]
    command += ["--node-id", context.get_node_id()]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot notice"]
    subprocess.run([*command, "--deadline-remaining-seconds", str(seconds)], check=True)


def main() -> None:
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind("\0layerwise-spot-notice")  # released with this process
    except OSError:
        sys.exit("another process watches already")
    while True:
        try:
            if end := notice():
                seconds = max(0, int((end - datetime.now(UTC)).total_seconds()))
                print(f"EC2 takes this node at {end}, in {seconds} s", flush=True)
                drain(seconds)
                return
        except (OSError, subprocess.CalledProcessError) as error:  # of the service, or of Ray
            print(f"trying again: {error}", flush=True)
        time.sleep(EVERY)


if __name__ == "__main__":
    main()
