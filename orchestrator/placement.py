"""What a trial's request means to Ray, and whether a cluster can ever meet it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import LayerwiseError
from orchestrator.plan import Trial
from orchestrator.spec import Resources

Bundle = Mapping[str, float]  # resource by Ray's name: amount
A_BIT = 0.001  # of an accelerator type: what Ray itself asks for by it


def bundle(request: Resources) -> dict[str, float]:
    """The request in Ray's words."""
    asked = {"CPU": request.cpu, **request.custom}
    if request.gpu:
        asked["GPU"] = request.gpu
    if request.accelerator:
        asked[f"accelerator_type:{request.accelerator}"] = A_BIT
    if request.memory_gb:
        asked["memory"] = int(request.memory_gb * 1e9)
    return asked


def resources_json(request: Resources) -> str:
    """What is asked for beyond CPUs, GPUs and memory, for the table."""
    known = ("CPU", "GPU", "memory")
    beyond = {name: amount for name, amount in bundle(request).items() if name not in known}
    return json.dumps(beyond, sort_keys=True)


def slots(trials: Iterable[Trial], nodes: Sequence[Bundle], types: Sequence[Bundle] | None) -> int:
    """How many of the smallest trials the cluster holds at once, at least one.

    `types` are the nodes that could be started, none where that is not known. Raises
    `LayerwiseError` if neither one of those nor a node of the cluster, empty, could hold a trial.
    """
    most = 1
    requests: dict[str, Trial] = {}
    for trial in trials:
        requests.setdefault(trial.request.model_dump_json(), trial)
    for trial in requests.values():
        asked = bundle(trial.request)
        held = [_held(node, asked) for node in nodes]
        if types is not None and not any(held) and not any(_held(kind, asked) for kind in types):
            raise LayerwiseError(_refusal(trial.name, asked, [*nodes, *types]))
        most = max(most, sum(held))
    return most


def _held(node: Bundle, asked: Bundle) -> int:
    return int(min(node.get(name, 0) / amount for name, amount in asked.items() if amount))


def _refusal(trial: str, asked: Bundle, nodes: Sequence[Bundle]) -> str:
    largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), default={})
    has = {name: largest.get(name, 0) for name in asked}
    return (
        f"trial {trial} asks for {dict(asked)}, and no node of the cluster can give that; "
        f"the largest has {has}: lower `resources` in the sweep, or use a larger cluster"
    )


def startable(config: Path, environment: Mapping[str, str]) -> list[Bundle] | None:
    """The nodes that the cluster's autoscaler could start; none where only the autoscaler knows.

    `config` is the file that `ray up` leaves on the head. In a pod of KubeRay's the operator
    knows, and nobody else.
    """
    if "RAY_USAGE_STATS_KUBERAY_IN_USE" in environment:
        return None
    try:
        read: Any = yaml.safe_load(config.read_text(encoding="utf-8"))
        types = read["available_node_types"].values()
        return [kind.get("resources", {}) for kind in types if kind.get("max_workers", 1)]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []
