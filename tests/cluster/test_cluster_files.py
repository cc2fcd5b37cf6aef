"""The cluster files: valid by Ray's schema, closed to strangers, and for the pinned versions."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LAUNCHED = {"aws": ROOT / "cluster.yaml", "machines": ROOT / "clusters" / "machines.yaml"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SLURM = ROOT / "clusters" / "slurm.sbatch"
VERSION = re.findall(r"^version = (\S+)", (ROOT / "setup.cfg").read_text(), re.MULTILINE)[0]
KUBERAY = yaml.safe_load((ROOT / "clusters" / "kuberay.yaml").read_text())


@pytest.fixture(params=LAUNCHED)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(yaml.safe_load(LAUNCHED[request.param].read_text()))


@pytest.fixture
def aws() -> dict[str, Any]:
    return dict(yaml.safe_load(LAUNCHED["aws"].read_text()))


def validate(config: dict[str, Any]) -> None:
    """Validate as `ray up` does before it touches anything."""
    from ray.autoscaler._private import util

    util.validate_config(util.prepare_config(copy.deepcopy(config)))


def test_the_launcher_takes_it(config: dict[str, Any]) -> None:
    validate(config)


def test_the_launcher_refuses_what_is_wrong(config: dict[str, Any]) -> None:
    """The test above could fail."""
    from jsonschema import ValidationError

    with pytest.raises(ValidationError):
        validate(config | {"colour": "red"})
    with pytest.raises(ValidationError):
        validate(config | {"idle_timeout_minutes": "soon"})


def test_strangers_are_kept_out(config: dict[str, Any]) -> None:
    """Every node requires the token, the dashboard is local, and no port is open but ssh."""
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


def test_the_project_is_shipped_and_installed() -> None:
    config = yaml.safe_load(LAUNCHED["machines"].read_text())
    [target] = [path for path, source in config["file_mounts"].items() if source == "."]
    installs = [line for line in config["setup_commands"] if "pip install" in line]
    assert all(f"cd {target} && " in line for line in installs)
    assert [line.partition("pip install ")[2] for line in installs] == [
        "--quiet --require-hashes --no-deps -r requirements/torch.lock -r requirements/run.lock",
        "--quiet --no-deps --no-build-isolation -e .",
    ]
    assert ".venv" in config["rsync_exclude"]


def test_ray_knows_the_commands_on_top(aws: dict[str, Any]) -> None:
    """Each takes its options, and the run is in the folder of the project."""
    from ray.scripts import scripts

    text = LAUNCHED["aws"].read_text()
    lines = re.findall(r"^# {3}(ray (?:up|exec|attach|down) .+?)(?: {2,}#.*)?$", text, re.MULTILINE)
    calls = {}
    for line in lines:
        _, name, *words = shlex.split(line)
        calls[name] = scripts.cli.commands[name].make_context(name, words).params
    assert {name: call["cluster_config_file"] for name, call in calls.items()} == dict.fromkeys(
        ("up", "exec", "attach", "down"), "aws.yaml"
    )
    assert calls["exec"]["tmux"]
    folder, run = re.fullmatch(r"cd (\w+) && (.+)", calls["exec"]["cmd"]).groups()  # type: ignore[union-attr]
    assert aws["file_mounts"][f"/home/ray/{folder}"] == "."
    assert run in (ROOT / "docs/cluster.md").read_text()


def test_images_are_of_the_ray_that_is_tested(aws: dict[str, Any]) -> None:
    ray = metadata.version("ray")
    assert f"ray=={ray} \\" in (ROOT / "requirements" / "run.lock").read_text().splitlines()
    assert KUBERAY["spec"]["rayClusterSpec"]["rayVersion"] == ray
    assert f"\nFROM rayproject/ray:{ray}-py311-cu" in DOCKERFILE
    assert aws["docker"]["image"] == f"registry.example/layerwise:{VERSION}"
    assert not aws["setup_commands"]  # the image has everything
    assert "." in aws["file_mounts"].values()


def test_every_file_says_how_images_reach_the_machines(aws: dict[str, Any]) -> None:
    for path in (*LAUNCHED.values(), SLURM, ROOT / "clusters" / "kuberay.yaml"):
        assert "LAYERWISE_DATA" in path.read_text(), path
    assert any("/data" in line for line in aws["initialization_commands"])
    assert {"--volume /data:/data", "--env LAYERWISE_DATA=/data"} <= {*aws["docker"]["run_options"]}
    cluster = KUBERAY["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        [mount] = pod["containers"][0]["volumeMounts"]
        assert [volume["name"] for volume in pod["volumes"]] == [mount["name"]]
        assert {"name": "LAYERWISE_DATA", "value": mount["mountPath"]} in pod["containers"][0][
            "env"
        ]


def test_what_aws_needs_is_named(aws: dict[str, Any]) -> None:
    """The roles have policies, every machine has its image and disk, the driver is checked."""
    bucket = re.findall(r"LAYERWISE_STORE=s3://([\w-]+)", LAUNCHED["aws"].read_text())[0]
    for kind in aws["available_node_types"].values():
        node = kind["node_config"]
        assert node["ImageId"].startswith("ami-")
        assert node["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] >= 150  # the image's snapshot
        role = {"layerwise-head": "aws_head", "layerwise": "aws_worker"}
        policy = ROOT / "clusters" / f"{role[node['IamInstanceProfile']['Name']]}.json"
        statements = json.loads(policy.read_text())["Statement"]
        actions = {action for statement in statements for action in statement["Action"]}
        assert {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"} <= actions
        assert ("ec2:RunInstances" in actions) is ("GPU" not in kind["resources"])
        assert f"arn:aws:s3:::{bucket}/*" in {str(s["Resource"]) for s in statements}
    starts = aws["worker_start_ray_commands"]
    assert starts.index("python -m trainers.devices") < len(starts) - 2
    assert re.search(r"^aws =\n    boto3", (ROOT / "setup.cfg").read_text(), re.MULTILINE)


def test_the_image_of_the_dockerfile_is_the_one_of_kuberay() -> None:
    cluster = KUBERAY["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {c["image"] for group in groups for c in group["template"]["spec"]["containers"]}
    assert images == set(re.findall(r"docker build --tag (\S+)", DOCKERFILE))
    assert images == {f"registry.example/layerwise:{VERSION}"}


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
