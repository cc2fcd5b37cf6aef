"""The ways into a cluster, for real: `ray up`, `ray submit`, `ray job submit`, `--address`."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.store.store import Store
from tests.processes import ROOT
from tests.system.conftest import HEAD, WORKER, Machines, wait_for

ADDRESS = f"{HEAD}:6379"
DASHBOARD = (
    "http://127.0.0.1:8265"  # of the head, for itself alone: elsewhere through `ray dashboard`
)
# No word needs quoting: `ray submit` hands them to a shell as they are.
SMALL = ["--no-report", "--set", "splits.random=[0]", "--set", "layers=[7]"]
SMALL += ["--set", "recipe.steps=20", "--set", "name=digits"]  # else named after its changes


@pytest.fixture(scope="module")
def cluster(machines: Machines) -> Iterator[str]:
    """`clusters/machines.yaml`, started with a head and a worker; the path of its file.

    Changed is what one machine cannot share (addresses, Ray's folder, `ray stop`) and what takes
    minutes.
    """
    config: dict[str, Any] = yaml.safe_load((ROOT / "clusters/machines.yaml").read_text())
    config["provider"] |= {"head_ip": HEAD, "worker_ips": [WORKER]}
    config["auth"] = {"ssh_user": getpass.getuser(), "ssh_private_key": f"{machines.folder}/key"}
    config["setup_commands"] = ["test -d ~/layerwise/orchestrator", "python -c 'import ray'"]
    for kind, address in (("head", HEAD), ("worker", WORKER)):
        key = f"{kind}_start_ray_commands"
        own = f" --node-ip-address={address} --num-cpus=1 --temp-dir=/tmp/ray/{kind}"
        config[key] = [line + own for line in config[key] if "ray start" in line]
    path = machines.folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(config))
    machines.run("ray", "up", "-y", "--no-config-cache", str(path))
    try:
        count = "import ray; ray.init('auto'); print(len([n for n in ray.nodes() if n['Alive']]))"
        nodes = ("python", "-c", count)
        wait_for(
            lambda: machines.run(*nodes, RAY_ADDRESS=ADDRESS).stdout.split()[-1:] == ["2"],
            "second node",
        )
        yield str(path)
    finally:
        machines.run("ray", "down", "-y", str(path))


def complete(store: Path) -> int:
    return len(Store(store).outcomes())


def test_the_project_was_shipped(cluster: str, machines: Machines) -> None:
    assert cluster
    shipped = machines.home / "layerwise"
    assert (shipped / "orchestrator/cli/run.py").exists()
    assert not (shipped / ".venv").exists()
    assert not (shipped / ".git").exists()


def test_ray_submit_and_a_connection_that_drops(
    cluster: str, machines: Machines, tmp_path: Path
) -> None:
    """The driver lives on in tmux; its progress is followed through the store alone."""
    script = ["orchestrator/__main__.py", "--", "run", "digits", "--address", "auto"]
    store = ["--store", str(tmp_path)]
    machines.run("ray", "submit", "--tmux", cluster, *script, *store, *SMALL)
    machines.drop_connections()
    wait_for(lambda: Store(tmp_path).names("sweeps"), "sweep in the store")
    followed = machines.run("layerwise", "status", "digits", "--follow", *store)
    assert followed.stdout.splitlines()[-1].startswith("14/14 complete")
    rows = Store(tmp_path).table("trials").to_pylist()
    assert {row["outcome"] for row in rows} == {"complete"}

    again = machines.run("ray", "submit", cluster, *script, *store, *SMALL)
    assert f"digits: 14 trials, 14 complete in {tmp_path}" in again.stdout


def test_ray_job_submit(cluster: str, machines: Machines, tmp_path: Path) -> None:
    assert cluster
    job = ["ray", "job", "submit", "--address", DASHBOARD, "--working-dir", "."]
    run = ["python", "-m", "orchestrator", "run", "digits", "--only", "treatment = 'base'"]
    done = machines.run(*job, "--", *run, "--store", str(tmp_path), *SMALL)
    assert "succeeded" in done.stdout + done.stderr
    assert complete(tmp_path) == 2


def test_run_at_an_address(cluster: str, machines: Machines, tmp_path: Path) -> None:
    assert cluster
    run = ["layerwise", "run", "digits", "--address", ADDRESS, "--only", "treatment = 'base'"]
    machines.run(*run, "--store", str(tmp_path), *SMALL)
    assert complete(tmp_path) == 2
