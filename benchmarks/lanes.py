"""The digits grid one network at a time, in lanes, and in lanes that share frozen layers.

    python -m benchmarks.lanes [--splits N] [--repeat K] [--lanes K]

Trains the networks of `sweeps/digits.yaml` without Ray and without a store, in one thread. Each way
runs in its own process, and every other repetition reverses the order. README.md in this folder
defines each figure.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.versus_tune import hardware
from orchestrator.execution.frontier import Frontier, Node
from orchestrator.execution.provenance import layerwise_commit
from orchestrator.plan.packs import packs_of
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.plan.sharing import executed_flops
from orchestrator.plan.trial import Trial
from orchestrator.states import Ending
from orchestrator.sweep.load import load_sweep
from trainers import frozen_features
from trainers.lanes.pack import Member, Stopwatch, run
from trainers.loop import lane, train
from trainers.results import Result, Runtime

Round = dict[str, dict[str, float]]
"""Figures of each way."""

WAYS = ("one at a time", "lanes", "lanes, shared layers")


def main() -> None:
    """Measure every way, and print medians with ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=1, help="splits: 74 networks each")
    parser.add_argument("--repeat", type=int, default=1, help="repetitions of each way")
    parser.add_argument("--lanes", type=int, default=16, help="networks of a pack")
    parser.add_argument("--steps", type=int, default=500, help="steps of every network")
    parser.add_argument("--record", type=Path, help="write all rounds to this file")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.splits, options.steps, options.lanes)))
        return
    rounds: list[Round] = []
    for number in range(options.repeat):
        order = WAYS[::-1] if number % 2 else WAYS
        rounds.append({way: _in_process(way, sys.argv[1:]) for way in order})
        print(f"{number + 1}/{options.repeat}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        if options.record:
            settings = {name: getattr(options, name) for name in ("splits", "steps", "lanes")}
            write_record(options.record, settings, rounds)
    print(table(rounds))


def _in_process(way: str, arguments: Sequence[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.lanes", *arguments, "--way", way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def write_record(path: Path, settings: dict[str, int], rounds: Sequence[Round]) -> None:
    """Write what was measured, where and of which commit, with the spread of each ratio."""
    times = {way: [one[WAYS[0]]["cpu"] / one[way]["cpu"] for one in rounds] for way in WAYS}
    record = {
        "machine": hardware(len(os.sched_getaffinity(0))),
        "commit": layerwise_commit(),
        "settings": settings,
        "times_cheaper": {
            way: {"least": min(x), "median": statistics.median(x), "most": max(x)}
            for way, x in times.items()
        },
        "rounds": rounds,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def table(rounds: Sequence[Round]) -> str:
    """Return the medians of all rounds as a Markdown table; ratios are of one round each."""
    lines = [
        "| way | CPU s | times cheaper | networks per CPU minute | share of the floor |",
        "|---|---|---|---|---|",
    ]
    for way in WAYS:
        cpu, rate, share = (
            statistics.median(one[way][name] for one in rounds)
            for name in ("cpu", "per_minute", "share")
        )
        ratio = statistics.median(one[WAYS[0]]["cpu"] / one[way]["cpu"] for one in rounds)
        lines.append(f"| {way} | {cpu:.1f} | {ratio:.2f} | {rate:.0f} | {100 * share:.0f} % |")
    return "\n".join(lines)


def measure(way: str, splits: int, steps: int, lanes: int) -> dict[str, float]:
    """Return CPU seconds, networks per CPU minute, and the share of the arithmetic floor."""
    torch.set_num_threads(1)
    plan = digits(splits, steps)
    floor = executed_flops(plan, plan.trials) / matrix_rate()
    weights: dict[str, bytes] = {}
    began = time.process_time()
    for trials in packs(plan, 1 if way == WAYS[0] else lanes):
        ended = alone(trials, weights) if way == WAYS[0] else together(trials, weights)
        weights |= {
            trial.id: result.checkpoint
            for trial, result in zip(trials, ended, strict=True)
            if trial.training.treatment.kind == "base"
        }
        if way != WAYS[2]:
            frozen_features.KEPT.clear()
    cpu = time.process_time() - began
    return {"cpu": cpu, "per_minute": 60 * len(plan.trials) / cpu, "share": floor / cpu}


def digits(splits: int, steps: int) -> Plan:
    """Return the plan of the digits sweep with so many splits."""
    chosen = list(range(splits))
    changes = [f"splits.random={chosen}", f"recipe.steps={steps}"]
    return make_plan(resolve(*load_sweep("digits", changes)))


def packs(plan: Plan, lanes: int) -> Iterator[list[Trial]]:
    """Yield trials that are trained together, in the order in which one slot of a run has them."""
    kinds = packs_of(plan)
    frontier = Frontier(
        {
            id: Node(trial.parents, plan.flops(trial), pack=kinds.get(id))
            for id, trial in plan.trials.items()
        }
    )
    while attempts := frontier.take_pack(lanes):
        yield [plan.trials[attempt.item] for attempt in attempts]
        for attempt in attempts:
            frontier.finish(attempt, Ending.COMPLETE, "")


def alone(trials: Sequence[Trial], weights: dict[str, bytes]) -> list[Result]:
    """Train networks one after the other."""
    rows = [list(train(t.training, parent=weights.get(t.parent or "")))[-1] for t in trials]
    return [row for row in rows if isinstance(row, Result)]


def together(trials: Sequence[Trial], weights: dict[str, bytes]) -> list[Result]:
    """Train networks as lanes of one pack."""
    members, results = [], {}
    for trial in trials:
        watch = Stopwatch()
        parent = weights.get(trial.parent or "")
        runtime = Runtime(in_lanes=True, clock=watch)
        members.append(Member(lane(trial.training, parent=parent, runtime=runtime), watch))
    for number, row in run(members):
        if isinstance(row, Exception):
            raise row
        if isinstance(row, Result):
            results[number] = row
    return [results[number] for number in range(len(trials))]


def matrix_rate(size: int = 1024) -> float:
    """Return floating-point operations per second of a large matrix product on one core."""
    factor = torch.randn(size, size)

    def seconds(action: Callable[[], object]) -> float:
        began = time.process_time()
        action()
        return time.process_time() - began

    return 2 * size**3 / min(seconds(lambda: factor @ factor) for _ in range(10))


if __name__ == "__main__":
    main()
