"""Scheduling at size: bounds and a simulated clock by hand, figures from files, small real runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import cluster, scheduling
from benchmarks.cluster import Grid, Makespan, Overhead
from orchestrator.execution.frontier import Node
from orchestrator.store.store import Store

FORK = {"base": Node(), "long": Node(), **{name: Node(("base",)) for name in "abc"}}
FORK_SECONDS = {"base": 1.0, "long": 2.0, "a": 1.0, "b": 1.0, "c": 1.0}
RANDOM_TOO, BASE_ONLY = scheduling.BARRIERS


def test_durations_are_those_of_the_papers_device_by_a_bases() -> None:
    """450,000 steps of 1.77 s, frozen 1.48 s or 0.65 s; 90 validations, a test of 25,000 images."""
    plan = cluster.planned("balanced")
    durations = scheduling.expected(plan)
    by_name = {plan.trials[id].name: value for id, value in durations.items()}
    scoring = 91 * 25_000 * 130 / 50_000
    base = 450_000 * 1.77 + scoring
    assert len(durations) == 296
    assert by_name["A s0"] == by_name["A3B+ s2"] == pytest.approx(1.0)
    assert by_name["A1B s1"] == pytest.approx((450_000 * 1.48 + scoring) / base)
    assert by_name["R7B s3"] == pytest.approx((450_000 * 0.65 + scoring) / base)
    assert by_name["B-long s3"] == pytest.approx((900_000 * 1.77 + scoring * 181 / 91) / base)


def test_jitter_depends_on_trial_and_seed_alone() -> None:
    one = scheduling.jittered({"a": 1.0, "b": 1.0}, 0.3, 1)
    assert one["a"] == scheduling.jittered({"a": 1.0}, 0.3, 1)["a"]
    assert len({one["a"], one["b"], scheduling.jittered({"a": 1.0}, 0.3, 2)["a"]}) == 3
    assert scheduling.jittered({"a": 1.0, "b": 2.0}, 0.0, 1) == {"a": 1.0, "b": 2.0}
    many = scheduling.jittered(dict.fromkeys(map(str, range(4000)), 2.0), 0.3, 0).values()
    assert math.fsum(many) / 4000 == pytest.approx(2.0, rel=0.01)


def test_the_bounds_by_hand() -> None:
    """After one second, three slots can have done two of six seconds: the third had no trial."""
    least = scheduling.bound(FORK, FORK_SECONDS, 3)
    assert (least.path, least.work, least.dependent) == (2.0, 2.0, 2.0)
    assert least.idle == pytest.approx(1 + 4 / 3)
    assert (least.simple, least.tight) == (2.0, pytest.approx(1 + 4 / 3))
    assert scheduling.bound(FORK, FORK_SECONDS, 1).tight == 6.0
    assert scheduling.bound(FORK, FORK_SECONDS, 99).tight == 2.0


@pytest.mark.parametrize(("slots", "seconds"), [(1, 6.0), (2, 3.0), (3, 3.0), (4, 2.0)])
def test_the_simulated_clock_by_hand(slots: int, seconds: float) -> None:
    assert scheduling.simulated(FORK, FORK_SECONDS, slots) == seconds


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Node], dict[str, float]]:
    nodes: dict[str, Node] = {}
    for number in range(draw(st.integers(1, 12))):
        parents = draw(st.sets(st.sampled_from(sorted(nodes)), max_size=2)) if nodes else set()
        nodes[f"t{number}"] = Node(tuple(sorted(parents)), draw(st.floats(0, 5)))
    return nodes, {id: draw(st.floats(0.1, 9)) for id in nodes}


@given(graphs(), st.integers(1, 5))
def test_no_schedule_is_shorter_than_the_bounds(
    graph: tuple[dict[str, Node], dict[str, float]], slots: int
) -> None:
    nodes, durations = graph
    least = scheduling.bound(nodes, durations, slots)
    seconds = scheduling.simulated(nodes, durations, slots)
    assert least.simple <= least.tight <= seconds * (1 + 1e-9)
    assert seconds <= sum(durations.values()) * (1 + 1e-9)


def test_with_known_durations_the_longest_trial_starts_first() -> None:
    """The three trials have equal FLOPs: by FLOPs, the longest comes last."""
    nodes = {"a": Node(), "b": Node(), "c": Node()}
    durations = {"a": 1.0, "b": 1.0, "c": 2.0}
    assert scheduling.simulated(nodes, durations, 2) == 3.0
    assert scheduling.simulated(scheduling.knowing(nodes, durations), durations, 2) == 2.0


def test_trials_in_a_list_take_the_first_free_slot() -> None:
    assert scheduling.listed([3.0, 2.0, 2.0, 2.0], 2) == 5.0
    assert scheduling.listed([], 2) == 0.0


def small_grid(
    slots: int = 2,
    base: float = 1.0,
    jitter: float = 0.0,
    treatments: str = "base, base_long, transfer, random",
) -> Grid:
    changes = ("splits.random=[0]", "layers=[7]", f"treatments=[{treatments}]")
    return Grid.of(slots=slots, base=base, jitter=jitter, seed=0, changes=changes)


def test_a_barrier_is_between_what_needs_no_base_and_the_rest() -> None:
    grid = small_grid()
    names = {
        barrier: [
            [grid.plan.trials[id].name.removesuffix(" s0") for id in ids]
            for ids in grid.stages(barrier)
        ]
        for barrier in scheduling.BARRIERS
    }
    assert names == {
        RANDOM_TOO: [["A-long", "B-long", "A", "B", "R7A", "R7B"], ["B7A", "A7B"]],
        BASE_ONLY: [["A", "B", "R7A", "R7B"], ["A-long", "B-long", "B7A", "A7B"]],
    }


def test_a_barrier_costs_what_it_leaves_idle() -> None:
    """On four slots, short trials fit beside the long bases; behind them they do not."""
    grid = small_grid()
    first, second = grid.stages(RANDOM_TOO)
    long, short = grid.expected[first[0]], grid.expected[second[0]]
    row = scheduling.compared(grid.plan, 4, 0.0, [0])
    assert (row.simple, row.tight) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (row.floor, row.known) == (pytest.approx(1.0), pytest.approx(1.0))
    assert row.barriers[RANDOM_TOO] == pytest.approx((long + short) / long)
    assert row.barriers[BASE_ONLY] == pytest.approx((1 + long) / long)


def test_the_makespan_begins_with_the_arrival_of_the_workers(tmp_path: Path) -> None:
    for part, go, ended in (("one", 100.0, (101.0, 103.0)), ("two", 110.0, (112.0,))):
        (tmp_path / part / "spans").mkdir(parents=True)
        (tmp_path / part / "go").write_text(str(go))
        ids = [f"t{number}" for number in range(len(ended))]
        cluster.write_settings(tmp_path / part, seconds=dict.fromkeys(ids, 1.0))
        for id, moment in zip(ids, ended, strict=True):
            (tmp_path / part / "spans" / id).write_text(json.dumps([go, moment]))
    (tmp_path / "two" / "late").mkdir()
    (tmp_path / "two" / "late" / "17").touch()
    result = cluster.makespan([tmp_path / "one", tmp_path / "two"], wall=30.0)
    assert result == Makespan(seconds=5.0, outside=25.0, restarts=1)


def test_overhead_counts_after_all_slots_run() -> None:
    """Both slots run from 4.0 on. Three trials end afterwards, in 2 × 1.8 seconds of slots."""
    clock = {"begun": 1.0, "starts": [2.0, 3.25, 4.0, 4.5], "ends": [3.0, 4.25, 5.25, 5.8]}
    result = cluster.overhead(clock, 2)
    assert (result.wall, result.warm_up) == (pytest.approx(4.8), 3.0)
    assert result.trial == pytest.approx(2 * 1.8 / 3 - 1)
    assert cluster.filled([0.0, 1.0], [0.5, 1.5], 2) == 0.0  # never more than one


def test_the_first_trials_include_their_parents() -> None:
    plan = cluster.planned(cluster.SHORT, cluster.seeds_for(300))
    assert len(plan.trials) == 592
    ids = cluster.first_of(plan, 300)
    assert plan.with_parents(ids) == set(ids)
    assert cluster.seeds_for(10_000) == f"seeds={list(range(34))}"


def test_tables() -> None:
    grid = small_grid()
    makespans = {cluster.LAYERWISE: Makespan(seconds=5.0, outside=9.6, restarts=3)}
    title, _, *lines = cluster.grid_table(grid, makespans).splitlines()
    least = scheduling.bound(scheduling.nodes_of(grid.plan), grid.durations, 2)
    assert title == (
        f"8 trials, 2 slots; no schedule is shorter than {least.simple:.1f} s (bound), "
        f"{least.tight:.1f} s (tight bound)"
    )
    assert lines[2].startswith(f"| layerwise | 5.0 | {5 / least.simple:.3f} | ")
    assert lines[2].endswith(" | 1.000 | 3 | 10 |")
    own, without = cluster.TESTS
    short = {
        cluster.LAYERWISE: Overhead(wall=76.0, warm_up=12.0, trial=0.02),
        own: Overhead(wall=80.0, warm_up=10.0, trial=0.1),
        without: Overhead(wall=72.0, warm_up=10.0, trial=0.05),
    }
    assert cluster.overhead_table(short, 1000, 16).splitlines()[4:] == [
        "| layerwise | 76.0 | 1.216 | 0.950 | 12.0 | 20 |",
        f"| {own} | 80.0 | 1.280 | 1.000 | 10.0 | 100 |",
        f"| {without} | 72.0 | 1.152 | 0.900 | 10.0 | 50 |",
    ]


@pytest.mark.slow
def test_a_small_grid_without_a_barrier_on_a_real_ray(tmp_path: Path) -> None:
    """Workers that wait for the bases are not replaced."""
    grid = small_grid(slots=6, base=0.5, treatments="base, base_long, selffer, transfer, random")
    result = cluster.of_layerwise(grid, tmp_path)
    table = Store(tmp_path / "store").table("trials").to_pylist()
    assert {row["id"] for row in table} == set(grid.plan.trials)
    assert {row["outcome"] for row in table} == {"complete"}
    bound = scheduling.bound(scheduling.nodes_of(grid.plan), grid.durations, grid.slots)
    assert result.seconds >= bound.tight
    assert result.restarts == 0


@pytest.mark.slow
def test_short_trials_beside_rays_own_test() -> None:
    own, _ = cluster.TESTS
    overheads = cluster.of_short(4, 2, {own: True})
    assert list(overheads) == [cluster.LAYERWISE, own]
    assert all(one.wall >= 2.0 for one in overheads.values())
