"""`Capacity`: the number of items that a cluster can hold, now and when it has grown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import LayerwiseError
from orchestrator.sweep.schema import Resources
from orchestrator.sweep.source import plain_yaml

Bundle = Mapping[str, float]  # amount by the name of the resource in Ray
UNKNOWN = 200  # trials to queue when the autoscaler's limit is unknown (Tune's own default)


def bundle(request: Resources) -> dict[str, float]:
    """Return a request under Ray's names, memory in bytes."""
    amounts = {"CPU": request.cpu, **request.custom}
    if request.gpu:
        amounts["GPU"] = request.gpu
    amounts |= request.special
    if request.memory_gb:
        amounts["memory"] = int(request.memory_gb * 1e9)
    return amounts


@dataclass(frozen=True)
class Growth:
    """Nodes that an autoscaler may start."""

    kinds: tuple[tuple[Bundle, int], ...] = ()
    """Resources of each kind of node, and the most nodes of this kind."""
    nodes: int = 0
    """Nodes of all kinds together, at most."""


@dataclass(frozen=True)
class Capacity:
    """The nodes of a cluster, and those that it may start."""

    nodes: Sequence[Bundle]
    growth: Growth | None
    """None where only the autoscaler knows."""

    @classmethod
    def of(cls, nodes: Sequence[Bundle], *, is_ours: bool) -> Capacity:
        """Return the capacity of a cluster. A local cluster of ours does not grow."""
        if is_ours:
            return cls(nodes, Growth())
        return cls(nodes, startable(Path.home() / "ray_bootstrap_config.yaml", os.environ))

    def slots(self, requests: Mapping[str, Resources]) -> int:
        """Return the number of smallest requests (by name) that the cluster can hold; at least one.

        Raises `LayerwiseError` if no node, existing or startable, can hold one of them when empty.
        """
        most = 1
        different: dict[str, tuple[str, Resources]] = {}
        for name, request in requests.items():
            different.setdefault(request.model_dump_json(), (name, request))
        for name, request in different.values():
            room = self._room(request)
            if not any(room):
                raise LayerwiseError(self._refusal(name, bundle(request)))
            most = max(most, *room)
        return most

    def can_meet(self, request: Resources) -> bool:
        """Return whether a node, existing or startable, can hold a request when it is empty."""
        return any(self._room(request))

    def _room(self, request: Resources) -> tuple[int, int]:
        """Return the numbers of such requests on existing nodes and on startable ones."""
        amounts = bundle(request)
        grown = UNKNOWN if self.growth is None else _room_to_grow(self.growth, amounts)
        return sum(_fits(node, amounts) for node in self.nodes), grown

    def _refusal(self, name: str, amounts: Bundle) -> str:
        kinds = [kind for kind, _ in self.growth.kinds] if self.growth else []
        largest = max(
            [*self.nodes, *kinds], key=lambda x: (x.get("GPU", 0), x.get("CPU", 0)), default={}
        )
        has = {resource: largest.get(resource, 0) for resource in amounts}
        return (
            f"trial {name} asks for {dict(amounts)}, and no node of the cluster can give that; "
            f"the largest has {has}: lower `resources` in the sweep, or use a larger cluster"
        )


def _fits(node: Bundle, amounts: Bundle) -> int:
    """Return the number of such requests that an empty node holds."""
    return int(min(node.get(name, 0) / amount for name, amount in amounts.items() if amount))


def _room_to_grow(growth: Growth, amounts: Bundle) -> int:
    """Return the number of such requests on startable nodes, filling the roomiest nodes first."""
    left, total = growth.nodes, 0
    kinds = [(_fits(kind, amounts), most) for kind, most in growth.kinds]
    for each, most in sorted(kinds, reverse=True):
        count = min(most, left)
        left, total = left - count, total + each * count
    return total


def startable(config: Path, environment: Mapping[str, str]) -> Growth | None:
    """Return the nodes that a cluster's autoscaler could start; None where only it knows.

    `config` is the file that `ray up` leaves on the head. In a pod of KubeRay only the operator
    knows.
    """
    if "RAY_USAGE_STATS_KUBERAY_IN_USE" in environment:
        return None
    try:
        content = plain_yaml(config.read_text(encoding="utf-8"))
        nodes = int(content.get("max_workers", 0))
        kinds = [
            (kind.get("resources", {}), int(kind.get("max_workers", nodes)))
            for kind in content["available_node_types"].values()
        ]
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return Growth()
    return Growth(tuple((kind, most) for kind, most in kinds if most), nodes)
