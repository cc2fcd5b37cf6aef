"""Requests in Ray's words, and which of them a cluster can never meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import LayerwiseError
from orchestrator.placement import bundle, resources_json, slots, startable
from orchestrator.plan import Plan
from orchestrator.spec import Resources

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
GPU_NODE = {"CPU": 8.0, "GPU": 4.0, "accelerator_type:A100": 1.0}


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
    assert resources_json(asked) == '{"accelerator_type:T4": 0.001, "fast": 2.0}'
    assert resources_json(Resources()) == "{}"


def test_slots(plan_of: Callable[..., Plan]) -> None:
    trials = plan_of(SWEEP).trials.values()
    assert slots(trials, [GPU_NODE], []) == 4
    assert slots(trials, [GPU_NODE, CPU_NODE, CPU_NODE], []) == 4 + 8 + 8
    assert slots(trials, [GPU_NODE], None) == 4


def test_what_no_node_can_give(plan_of: Callable[..., Plan]) -> None:
    trials = plan_of(SWEEP).trials.values()
    with pytest.raises(LayerwiseError) as error:
        slots(trials, [CPU_NODE], [])
    assert str(error.value) == (
        "trial A s0 asks for {'CPU': 1.0, 'GPU': 1.0, 'accelerator_type:A100': 0.001}, and no node "
        "of the cluster can give that; the largest has {'CPU': 16.0, 'GPU': 0, "
        "'accelerator_type:A100': 0}: lower `resources` in the sweep, or use a larger cluster"
    )
    with pytest.raises(LayerwiseError, match=r"^trial A s0 .*; the largest has {'CPU': 0, 'GPU'"):
        slots(trials, [], [])


def test_what_the_cluster_can_scale_up_to(plan_of: Callable[..., Plan]) -> None:
    """A head without CPUs, workers of the right kind yet to come; or only the operator knows."""
    trials = plan_of(SWEEP).trials.values()
    assert slots(trials, [{"memory": 1e9}], [GPU_NODE]) == 1
    assert slots(trials, [], None) == 1
    with pytest.raises(LayerwiseError, match=r"^trial A s0 asks for .* the largest has .*'GPU': 4"):
        slots(trials, [], [GPU_NODE | {"accelerator_type:A100": 0.0}, CPU_NODE])


def test_what_ray_up_left_on_the_head(tmp_path: Path) -> None:
    config = tmp_path / "ray_bootstrap_config.yaml"
    assert startable(config, {}) == []
    config.write_text(
        "available_node_types:\n"
        "  head: {resources: {CPU: 0}, max_workers: 0}\n"
        "  gpu: {resources: {CPU: 8, GPU: 1}, max_workers: 4}\n"
        "  more: {max_workers: 1}\n"
    )
    assert startable(config, {}) == [{"CPU": 8, "GPU": 1}, {}]
    assert startable(config, {"RAY_USAGE_STATS_KUBERAY_IN_USE": "1"}) is None
    for broken in ("available_node_types: 3", "- 1", "a: b: c", ""):
        config.write_text(broken)
        assert startable(config, {}) == []
