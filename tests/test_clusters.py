"""The cluster files: valid by Ray's own schema, closed to strangers, and of the pinned versions."""

from __future__ import annotations

import copy
import os
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LAUNCHED = {"aws": ROOT / "cluster.yaml", "machines": ROOT / "clusters" / "machines.yaml"}
SLURM = ROOT / "clusters" / "slurm.sbatch"
KUBERAY = yaml.safe_load((ROOT / "clusters" / "kuberay.yaml").read_text())


@pytest.fixture(params=LAUNCHED)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(yaml.safe_load(LAUNCHED[request.param].read_text()))


@pytest.fixture
def aws() -> dict[str, Any]:
    return dict(yaml.safe_load(LAUNCHED["aws"].read_text()))


def validate(config: dict[str, Any]) -> None:
    """As `ray up` does before it touches anything."""
    from ray.autoscaler._private import util

    util.validate_config(util.prepare_config(copy.deepcopy(config)))


def test_the_launcher_takes_it(config: dict[str, Any]) -> None:
    validate(config)


def test_the_launcher_refuses_what_is_wrong(config: dict[str, Any]) -> None:
    """That the check above checks something."""
    from jsonschema import ValidationError

    with pytest.raises(ValidationError):
        validate(config | {"colour": "red"})
    with pytest.raises(ValidationError):
        validate(config | {"idle_timeout_minutes": "soon"})


def test_strangers_are_kept_out(config: dict[str, Any]) -> None:
    """Token authentication on every node, a dashboard for its machine alone, no port but ssh."""
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [line for line in starts if "ray start" in line]
    assert len(starts) == 2
    options = " ".join(config.get("docker", {}).get("run_options", []))
    assert all("RAY_AUTH_MODE=token" in f"{line} {options}" for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert any(path.endswith(".ray/auth_token") for path in config["file_mounts"])
    assert "security_group" not in config["provider"]


def test_the_head_of_a_cloud_cluster_runs_no_trial_and_workers_are_spot_first(
    aws: dict[str, Any],
) -> None:
    kinds = aws["available_node_types"]
    head = kinds.pop(aws["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    spot = [k for k in kinds.values() if "InstanceMarketOptions" in k["node_config"]]
    others = [k for k in kinds.values() if "InstanceMarketOptions" not in k["node_config"]]
    assert min(k["priority"] for k in spot) > max(k["priority"] for k in others)
    assert {k["min_workers"] for k in kinds.values()} == {0}
    assert all(k["resources"]["GPU"] == 1 for k in kinds.values())
    assert len(aws["provider"]["availability_zone"].split(",")) == 3
    assert "LAYERWISE_STORE=s3://" in " ".join(aws["docker"]["run_options"])


def test_the_project_is_shipped_and_installed(config: dict[str, Any]) -> None:
    [target] = [path for path, source in config["file_mounts"].items() if source == "."]
    assert any(target in line and "-c constraints.txt" in line for line in config["setup_commands"])
    assert ".venv" in config["rsync_exclude"]


def test_images_are_of_the_ray_that_is_tested(aws: dict[str, Any]) -> None:
    ray = metadata.version("ray")
    assert f"ray=={ray}" in (ROOT / "constraints.txt").read_text().splitlines()
    assert aws["docker"]["image"].startswith(f"rayproject/ray:{ray}-py311-cu")
    assert KUBERAY["spec"]["rayClusterSpec"]["rayVersion"] == ray


@pytest.mark.parametrize("path", [*LAUNCHED.values()], ids=LAUNCHED)
def test_its_commands_are_shell(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    for key in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        for line in config[key]:
            subprocess.run(["bash", "-n", "-c", line], check=True)


# Slurm ------------------------------------------------------------------------------------------


def test_the_slurm_script_is_bash() -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    assert os.access(SLURM, os.R_OK)


def test_slurm_asks_in_time_and_queues_again() -> None:
    text = SLURM.read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", text, re.MULTILINE))
    assert options["signal"] == "B:USR1@300"
    assert {"requeue", "exclusive"} <= set(options)
    assert "trap drain USR1 TERM" in text
    assert "flock" not in text
    directives = [number for number, line in enumerate(text.splitlines()) if "#SBATCH" in line]
    code = [n for n, line in enumerate(text.splitlines()) if line and not line.startswith("#")]
    assert max(directives) < min(code)  # Slurm reads none after the first command


# KubeRay ----------------------------------------------------------------------------------------


def test_the_kuberay_job() -> None:
    assert (KUBERAY["apiVersion"], KUBERAY["kind"]) == ("ray.io/v1", "RayJob")
    spec, cluster = KUBERAY["spec"], KUBERAY["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["autoscalerOptions"]["version"] == "v2"
    for status in ("SUCCEEDED", "FAILED"):
        rules = [
            (rule["condition"]["ttlSeconds"], rule["policy"])
            for rule in spec["deletionStrategy"]["deletionRules"]
            if rule["condition"]["jobStatus"] == status
        ]
        assert [policy for _, policy in sorted(rules)] == ["DeleteWorkers", "DeleteCluster"]
    assert "shutdownAfterJobFinishes" not in spec  # the rules take its place
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        [container] = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
