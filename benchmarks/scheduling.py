"""Makespan of a grid on a number of slots: durations, lower bounds, a simulated clock.

Pure: no Ray, no disk, no time. `cluster.py` measures the same grid on a real Ray.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from orchestrator.execution.frontier import Frontier, Node
from orchestrator.plan.cost import K20, budget
from orchestrator.plan.plan import Plan
from orchestrator.states import Ending

Durations = Mapping[str, float]  # of trials by id, in any unit


def expected(plan: Plan) -> dict[str, float]:
    """Return each trial's duration on the paper's own GPU, evaluations included, in mean bases."""
    hours = budget(plan, {id: [id] for id in plan.trials}, (), K20)["treatments"]
    bases = [hours[id] for id, t in plan.trials.items() if t.training.treatment.kind == "base"]
    return {id: hours[id] / (sum(bases) / len(bases)) for id in plan.trials}


def jittered(durations: Durations, jitter: float, seed: int) -> dict[str, float]:
    """Return durations times log-normal factors of mean 1.

    `jitter` is the standard deviation of a factor's logarithm. The factor depends on the trial's id
    and the seed alone, so every program gets the same durations.
    """
    return {
        id: seconds * math.exp(jitter * random.Random(f"{seed} {id}").gauss() - jitter**2 / 2)
        for id, seconds in durations.items()
    }


def nodes_of(plan: Plan) -> dict[str, Node]:
    """Return the graph as layerwise schedules it: by FLOPs, not by durations."""
    return {
        id: Node(trial.parents, plan.flops(trial), trial.request)
        for id, trial in plan.trials.items()
    }


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Lower bounds of a makespan: a path of the graph, all the work, the work behind bases.

    `idle` joins the three: at any moment, no more work can be done than was ready before.
    """

    path: float
    work: float
    dependent: float
    idle: float

    @property
    def simple(self) -> float:
        return max(self.path, self.work, self.dependent)

    @property
    def tight(self) -> float:
        return max(self.simple, self.idle)


def bound(nodes: Mapping[str, Node], durations: Durations, slots: int) -> Bound:
    """Return lower bounds of the makespan. In `nodes`, parents come first."""
    ready: dict[str, float] = {}  # at the earliest
    for id, node in nodes.items():
        ready[id] = max((ready[p] + durations[p] for p in node.parents), default=0.0)
    ended = {id: ready[id] + durations[id] for id in nodes}
    behind = [id for id in nodes if nodes[id].parents]
    work = sum(durations.values())

    def left(moment: float) -> float:
        possible = sum(min(durations[id], max(0.0, moment - ready[id])) for id in nodes)
        return work - min(slots * moment, possible)

    return Bound(
        path=max(ended.values()),
        work=work / slots,
        dependent=min((ready[id] for id in behind), default=0.0)
        + sum(durations[id] for id in behind) / slots,
        idle=max(moment + left(moment) / slots for moment in {*ready.values(), *ended.values()}),
    )


def knowing(nodes: Mapping[str, Node], durations: Durations) -> dict[str, Node]:
    """Return the graph for a frontier that orders by durations instead of FLOPs."""
    return {id: replace(node, cost=durations[id]) for id, node in nodes.items()}


def simulated(nodes: Mapping[str, Node], durations: Durations, slots: int) -> float:
    """Return the makespan of the real frontier on a simulated clock, with workers at no cost."""
    frontier, now = Frontier(nodes), 0.0
    running: list[tuple[float, int]] = []
    attempts = []
    while not frontier.done:
        while len(running) < slots and (attempt := frontier.take()) is not None:
            attempts.append(attempt)
            heapq.heappush(running, (now + durations[attempt.item], len(attempts) - 1))
        now, number = heapq.heappop(running)
        frontier.finish(attempts[number], Ending.COMPLETE, "")
    return now


def listed(durations: Iterable[float], slots: int) -> float:
    """Return the makespan of independent trials, each on the first free slot, in order."""
    free = [0.0] * slots
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


Stages = tuple[list[str], list[str]]

# Kinds of trials that a user trains in the first of two experiments, by the name of the barrier.
BARRIERS: Mapping[str, frozenset[str]] = {
    "random and base_long beside the bases": frozenset({"base", "base_long", "random"}),
    "random beside the bases, base_long after": frozenset({"base", "random"}),
}


def stages(plan: Plan, durations: Durations, first: frozenset[str]) -> Stages:
    """Return two experiments with a barrier between them, each with its longest trials first."""
    kinds = {id: trial.training.treatment.kind for id, trial in plan.trials.items()}
    longest = sorted(plan.trials, key=lambda id: -durations[id])
    return (
        [id for id in longest if kinds[id] in first],
        [id for id in longest if kinds[id] not in first],
    )


def with_barrier(both: Stages, durations: Durations, slots: int) -> float:
    """Return the makespan of two experiments one after the other, on a simulated clock."""
    return sum(listed([durations[id] for id in ids], slots) for ids in both)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Makespans on the simulated clock, means over seeds.

    `simple` and `tight` are layerwise by each bound, `barriers` each barrier by layerwise. `floor`
    is the tight bound by the simple bound: no schedule is below it. `known` is layerwise by the
    simple bound if the durations were known beforehand.
    """

    slots: int
    jitter: float
    simple: float
    tight: float
    floor: float
    known: float
    barriers: Mapping[str, float]


def compared(plan: Plan, slots: int, jitter: float, seeds: Sequence[int]) -> Compared:
    """Compare layerwise and both barriers on the simulated clock, with the same durations."""
    nodes, plain = nodes_of(plan), expected(plan)
    drawn = [jittered(plain, jitter, seed) for seed in seeds]
    ours = [simulated(nodes, durations, slots) for durations in drawn]
    known = [simulated(knowing(nodes, durations), durations, slots) for durations in drawn]
    bounds = [bound(nodes, durations, slots) for durations in drawn]
    barriers = {name: stages(plan, plain, first) for name, first in BARRIERS.items()}
    return Compared(
        slots=slots,
        jitter=jitter,
        simple=fmean(x / least.simple for x, least in zip(ours, bounds, strict=True)),
        tight=fmean(x / least.tight for x, least in zip(ours, bounds, strict=True)),
        floor=fmean(least.tight / least.simple for least in bounds),
        known=fmean(x / least.simple for x, least in zip(known, bounds, strict=True)),
        barriers={
            name: fmean(
                with_barrier(both, durations, slots) / x
                for x, durations in zip(ours, drawn, strict=True)
            )
            for name, both in barriers.items()
        },
    )
