"""What a trial's request means to Ray, and whether a cluster can ever meet it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import LayerwiseError
from orchestrator.plan import Trial
from orchestrator.spec import Resources

Bundle = Mapping[str, float]  # resource by Ray's name: amount
A_BIT = 0.001  # of an accelerator type: what Ray itself asks for by it
AHEAD = 200  # trials that wait where the limits are not known: as many as Tune's own searchers let


@dataclass(frozen=True)
class Growth:
    """The nodes that an autoscaler may start: of each kind so many at most, `nodes` in all."""

    kinds: tuple[tuple[Bundle, int], ...] = ()
    nodes: int = 0


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


def slots(trials: Iterable[Trial], nodes: Sequence[Bundle], growth: Growth | None) -> int:
    """How many of the smallest trials the cluster holds at once when it has grown, at least one.

    `nodes` are those that are there; without `growth` only the autoscaler knows what may come.
    Raises `LayerwiseError` if neither a node nor one that could be started, empty, holds a trial.
    """
    most = 1
    requests: dict[str, Trial] = {}
    for trial in trials:
        requests.setdefault(trial.request.model_dump_json(), trial)
    for trial in requests.values():
        held, grown = _room(trial.request, nodes, growth)
        if not held and not grown:
            kinds = [kind for kind, _ in growth.kinds] if growth else []
            raise LayerwiseError(_refusal(trial.name, bundle(trial.request), [*nodes, *kinds]))
        most = max(most, held, grown)
    return most


def can_be_met(request: Resources, nodes: Sequence[Bundle], growth: Growth | None) -> bool:
    """Whether a node of the cluster, or one that could be started, holds a request when empty."""
    return any(_room(request, nodes, growth))


def _room(request: Resources, nodes: Sequence[Bundle], growth: Growth | None) -> tuple[int, int]:
    """How many of a request are held by the nodes that are there, and by those that may come."""
    asked = bundle(request)
    grown = AHEAD if growth is None else _grown(growth, asked)
    return sum(_held(node, asked) for node in nodes), grown


def _held(node: Bundle, asked: Bundle) -> int:
    return int(min(node.get(name, 0) / amount for name, amount in asked.items() if amount))


def _grown(growth: Growth, asked: Bundle) -> int:
    """How many of a request are held by the nodes that hold the most of them."""
    left, total = growth.nodes, 0
    held = [(_held(kind, asked), most) for kind, most in growth.kinds]
    for each, most in sorted(held, reverse=True):
        count = min(most, left)
        left, total = left - count, total + each * count
    return total


def _refusal(trial: str, asked: Bundle, nodes: Sequence[Bundle]) -> str:
    largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), default={})
    has = {name: largest.get(name, 0) for name in asked}
    return (
        f"trial {trial} asks for {dict(asked)}, and no node of the cluster can give that; "
        f"the largest has {has}: lower `resources` in the sweep, or use a larger cluster"
    )


def startable(config: Path, environment: Mapping[str, str]) -> Growth | None:
    """The nodes that the cluster's autoscaler could start; none where only the autoscaler knows.

    `config` is the file that `ray up` leaves on the head. In a pod of KubeRay's the operator
    knows, and nobody else.
    """
    if "RAY_USAGE_STATS_KUBERAY_IN_USE" in environment:
        return None
    try:
        read: Any = yaml.safe_load(config.read_text(encoding="utf-8"))
        nodes = int(read.get("max_workers", 0))
        kinds = [
            (kind.get("resources", {}), int(kind.get("max_workers", nodes)))
            for kind in read["available_node_types"].values()
        ]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        return Growth()
    return Growth(tuple((kind, most) for kind, most in kinds if most), nodes)
