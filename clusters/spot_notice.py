"""On a spot node of EC2: tell Ray that the node is about to be taken away, some two minutes before.

    nohup python clusters/spot_notice.py > /tmp/spot_notice.log 2>&1 &

`cluster.yaml` starts it on every worker node; on others than spot nodes no notice ever comes. Ray
then gives the node nothing new, and the trials on it stop with a snapshot and go on elsewhere. One
a machine is enough: a second one ends at once. Needs nothing but Ray. See
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
# The variable that the AWS tools know.
SERVICE = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")


def ask(path: str, method: str = "GET", **headers: str) -> str:
    """What the instance's metadata service answers."""
    named = {f"X-aws-ec2-metadata-{name.replace('_', '-')}": text for name, text in headers.items()}
    with urlopen(
        Request(f"{SERVICE}/latest/{path}", method=method, headers=named), timeout=2
    ) as it:
        answer: bytes = it.read()
    return answer.decode()


def notice() -> datetime | None:
    """When the instance is to be stopped or ended, if it is."""
    token = ask("api/token", "PUT", token_ttl_seconds="60")
    try:
        said = json.loads(ask("meta-data/spot/instance-action", token=token))
    except HTTPError as error:
        if error.code == 404:
            return None
        raise
    return datetime.fromisoformat(said["time"])


def drain(seconds: int) -> None:
    """Have the head take this node for one that is gone in so many seconds."""
    import ray

    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    ray.init(address="auto", ignore_reinit_error=True, **quiet)  # it may not be the first attempt
    here = ray.get_runtime_context()
    command = ["ray", "drain-node", "--address", here.gcs_address, "--node-id", here.get_node_id()]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot notice"]
    subprocess.run([*command, "--deadline-remaining-seconds", str(seconds)], check=True)


def main() -> None:
    alone = socket.socket(socket.AF_UNIX)
    try:
        alone.bind("\0layerwise-spot-notice")  # gone with this process
    except OSError:
        sys.exit("another one watches already")
    while True:
        try:
            if end := notice():
                left = max(0, int((end - datetime.now(UTC)).total_seconds()))
                print(f"this node goes at {end}, in {left} s", flush=True)
                drain(left)
                return
        except (OSError, subprocess.CalledProcessError) as error:  # of the service, or of Ray
            print(f"to be tried again: {error}", flush=True)
        time.sleep(EVERY)


if __name__ == "__main__":
    main()
