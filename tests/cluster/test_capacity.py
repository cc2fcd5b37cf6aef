"""Requests in Ray's words, and which of them a cluster can never meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cluster.capacity import (
    UNKNOWN,
    Capacity,
    Growth,
    bundle,
    startable,
)
from orchestrator.errors import LayerwiseError
from orchestrator.plan.plan import Plan
from orchestrator.sweep.schema import Resources

SWEEP = """\
name: small
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
treatments: [base, selffer]
layers: [1]
recipe: {rate: 0.03, steps: 3, batch: 8}
resources: {default: {cpu: 2}, base: {cpu: 1, gpu: 1, accelerator: A100}}
"""
CPU_NODE = {"CPU": 16.0, "memory": 64e9}
FIXED = Growth()  # a cluster that does not grow
GPU_NODE = {"CPU": 8.0, "GPU": 4.0, "accelerator_type:A100": 1.0}


def requests_of(plan: Plan) -> dict[str, Resources]:
    return {trial.name: trial.request for trial in plan.trials.values()}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Resources(), {"CPU": 1.0}),
        (Resources(cpu=0.5, gpu=0.25), {"CPU": 0.5, "GPU": 0.25}),
        (
            Resources(gpu=1, accelerator="A100", memory_gb=1.5),
            {"CPU": 1.0, "GPU": 1.0, "accelerator_type:A100": 0.001, "memory": 1_500_000_000},
        ),
        (Resources(custom={"fast": 2}), {"CPU": 1.0, "fast": 2.0}),
    ],
)
def test_bundle(request_: Resources, expected: dict[str, float]) -> None:
    assert bundle(request_) == expected


def test_the_table_says_what_was_asked_beyond_the_usual() -> None:
    asked = Resources(gpu=1, memory_gb=2, accelerator="T4", custom={"fast": 2})
    assert asked.special == {"accelerator_type:T4": 0.001, "fast": 2.0}
    assert Resources().special == {}


def test_slots(plan_of: Callable[..., Plan]) -> None:
    requests = requests_of(plan_of(SWEEP))
    assert Capacity([GPU_NODE], FIXED).slots(requests) == 4
    assert Capacity([GPU_NODE, CPU_NODE, CPU_NODE], FIXED).slots(requests) == 4 + 8 + 8


def test_a_request_beyond_every_node_is_refused(plan_of: Callable[..., Plan]) -> None:
    requests = requests_of(plan_of(SWEEP))
    with pytest.raises(LayerwiseError) as error:
        Capacity([CPU_NODE], FIXED).slots(requests)
    assert str(error.value) == (
        "trial A s0 asks for {'CPU': 1.0, 'GPU': 1.0, 'accelerator_type:A100': 0.001}, and no node "
        "of the cluster can give that; the largest has {'CPU': 16.0, 'GPU': 0, "
        "'accelerator_type:A100': 0}: lower `resources` in the sweep, or use a larger cluster"
    )
    with pytest.raises(LayerwiseError, match=r"^trial A s0 .*; the largest has {'CPU': 0, 'GPU'"):
        Capacity([], FIXED).slots(requests)


def test_slots_count_nodes_that_may_be_added(plan_of: Callable[..., Plan]) -> None:
    """A head without CPUs, workers of the right kind yet to come; or only the operator knows."""
    requests = requests_of(plan_of(SWEEP))
    head = {"memory": 1e9}
    assert Capacity([head], Growth(((GPU_NODE, 1),), 1)).slots(requests) == 4
    assert Capacity([], None).slots(requests) == UNKNOWN
    assert Capacity([{"CPU": 1000.0}], None).slots(requests) == 500
    wrong = GPU_NODE | {"accelerator_type:A100": 0.0}
    with pytest.raises(LayerwiseError, match=r"^trial A s0 asks for .* the largest has .*'GPU': 4"):
        Capacity([], Growth(((wrong, 9), (CPU_NODE, 9)), 9)).slots(requests)
    with pytest.raises(LayerwiseError, match=r"^trial A s0 asks for "):
        Capacity([head], Growth(((GPU_NODE, 4),), 0)).slots(requests)


@pytest.mark.parametrize(
    ("kinds", "nodes", "expected"),
    [
        ([(GPU_NODE, 16), (GPU_NODE, 4)], 16, 16 * 4),  # spot, and on demand where that is out
        ([(GPU_NODE, 16), (GPU_NODE, 4)], 40, 20 * 4),
        ([(GPU_NODE, 3), (CPU_NODE, 2)], 4, 2 * 8 + 2 * 4),  # of two CPUs: the larger nodes first
        ([(GPU_NODE, 1), ({}, 50)], 40, 4),  # of others only the provider knows what they have
    ],
)
def test_growth_is_limited_per_kind_and_in_all(
    plan_of: Callable[..., Plan],
    kinds: list[tuple[dict[str, float], int]],
    nodes: int,
    expected: int,
) -> None:
    requests = requests_of(plan_of(SWEEP))
    assert Capacity([], Growth(tuple(kinds), nodes)).slots(requests) == expected
    there = [GPU_NODE] * 30
    assert Capacity(there, Growth(tuple(kinds), nodes)).slots(requests) == max(expected, 30 * 4)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Resources(cpu=16), True),
        (Resources(cpu=16, gpu=1), False),  # not on one node
        (Resources(cpu=8, gpu=4, accelerator="A100"), True),  # on one that may be started
        (Resources(memory_gb=64), True),
        (Resources(memory_gb=65), False),
    ],
)
def test_a_request_that_was_raised_can_be_met(request_: Resources, expected: bool) -> None:
    assert Capacity([CPU_NODE], Growth(((GPU_NODE, 1),), 1)).can_meet(request_) is expected
    assert Capacity([CPU_NODE], None).can_meet(request_)


def test_growth_is_read_from_ray_ups_file_on_the_head(tmp_path: Path) -> None:
    config = tmp_path / "ray_bootstrap_config.yaml"
    assert startable(config, {}) == FIXED
    config.write_text(
        "max_workers: 7\n"
        "available_node_types:\n"
        "  head: {resources: {CPU: 0}, max_workers: 0}\n"
        "  gpu: {resources: {CPU: 8, GPU: 1}, max_workers: 4}\n"
        "  more: {}\n"
    )
    assert startable(config, {}) == Growth((({"CPU": 8, "GPU": 1}, 4), ({}, 7)), 7)
    assert startable(config, {"RAY_USAGE_STATS_KUBERAY_IN_USE": "1"}) is None
    kinds = "\navailable_node_types: {gpu: {resources: {CPU: 8}}}\n"
    for broken in ("available_node_types: 3", "- 1", "a: b: c", "", f"max_workers: many{kinds}"):
        config.write_text(broken)
        assert startable(config, {}) == FIXED


def test_the_cluster_for_aws_grows_to_as_many_gpus_as_it_has_workers() -> None:
    """As `ray up` would leave it, less what only AWS knows."""
    growth = startable(Path("cluster.yaml"), {})
    assert growth is not None
    assert [(kind["GPU"], most) for kind, most in growth.kinds if "GPU" in kind] == [
        (1, 16),
        (1, 4),
    ]
    assert growth.nodes == 16
