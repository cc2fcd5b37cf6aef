"""Commands on a store of ten or a hundred thousand trials that were never trained.

.venv/bin/python -m benchmarks.store --trials 10000
.venv/bin/python -m benchmarks.store --trials 100000 --points 35

The sweep is `sweeps/digits.yaml` with more splits and seeds. Its rows are written by the store's
own writer and compacted as a run does. Each command then runs in a process of its own; its time
contains the imports. `--loose` reads a store of row files alone.
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.execution.provenance import versions
from orchestrator.execution.rows import EMPTY_ROW, training_columns
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.plan.trial import Trial
from orchestrator.store.compaction import LOOSE, compact
from orchestrator.store.schemas import CLASSES, CURVE, first_labels
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_sweep

NETWORKS = 74  # of one split and one seed
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PARENT = """\
import os, subprocess, sys
with open(sys.argv[1], "wb") as out:
    process = subprocess.Popen(sys.argv[2:], stdout=out, stderr=subprocess.STDOUT)
_, status, used = os.wait4(process.pid, 0)
print(status, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""  # a small process: the peak of a child includes that of its parent when it was started
CURVES = "SELECT treatment, frozen, n, step, avg(c.val_top1) FROM curves c JOIN trials USING (id)"


def changes(trials: int) -> list[str]:
    """Return the changes of the sweep that give about so many trials: splits, seeds, a name."""
    cells = math.ceil(trials / NETWORKS)
    splits = min(24, math.ceil(math.sqrt(cells) * 1.4))  # more of them are not all different
    seeds = math.ceil(cells / splits)
    lists = {"splits.random": splits, "seeds": seeds}
    return [f"name=large{trials}", *(f"{name}={list(range(n))}" for name, n in lists.items())]


def planned(trials: int) -> Plan:
    return make_plan(resolve(*load_sweep("digits", changes(trials))))


def attempt_of(trial: Trial, points: int) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """Return row, curve and class counts of a trial, with numbers drawn by its id."""
    draw = random.Random(trial.id)
    treatment, recipe = trial.training.treatment, trial.training.recipe
    lost = 0.05 * treatment.n * (treatment.frozen and trial.source != trial.target)
    top1 = round(0.9 - lost + draw.gauss(0, 0.01), 4)
    key = {"id": trial.id, "attempt": f"{draw.getrandbits(32):08x}"}
    steps = recipe.steps or 0
    curve = []
    for number in range(1, points + 1):
        value = top1 * (1 - math.exp(-5 * number / points)) + draw.gauss(0, 0.005)
        numbers = {"rate": 0.03, "train_loss": 2.3 - value, "val_loss": 2.4 - value}
        numbers |= {"val_top1": value, "seconds": number * 0.01, "step": number * steps // points}
        curve.append(dict.fromkeys(name for name, _, _ in CURVE) | key | numbers)
    classes = [
        dict.fromkeys(name for name, _, _ in CLASSES)
        | key
        | {"subset": subset, "class_index": index, "correct": draw.randrange(94), "total": 94}
        for subset in ("validation", "test")
        for index in trial.training.target.labels
    ]
    row = EMPTY_ROW | first_labels(trial.labels()) | training_columns(trial.training, recipe) | key
    row |= {"outcome": "complete", "correct": round(top1 * 470), "total": 470, "top1": top1}
    row |= {"top5": None, "balanced_accuracy": top1, "loss": 1 - top1, "top1_at_best": top1}
    row |= {"val_top1": top1, "val_loss": 1 - top1, "val_best": top1, "val_best_step": steps}
    row |= {"val_mean10": top1, "train_loss": 1 - top1, "train_top1": top1, "train_total": 470}
    row |= {
        "at_chance": False,
        "images": trial.images,
        "checkpoint": f"{draw.getrandbits(256):064x}",
    }
    row |= {"frozen_proven": True if treatment.frozen else None, "retries": 0, "exact": True}
    row |= {"seconds_total": 1.0, "seconds_train": 0.5 + draw.random(), "seconds_wait": 0.0}
    row |= {"images_per_second": 16e3, "cpu": 1.0, "gpu": 0.0, "threads": 1, "device": "cpu"}
    row |= {"host": "host", "pid": 1, "versions": versions(), "git_commit": "0123456789abcdef"}
    ended = START + timedelta(seconds=draw.randrange(10**6))
    return row | {"started": START, "ended": ended}, curve, classes


def fill(store: Store, plan: Plan, points: int, *, loose: bool = False, open_ones: int = 0) -> None:
    """Write the trials of a plan as complete, but the last `open_ones`; compact on the way."""
    store.make()
    labels = [trial.labels() for trial in plan.members]
    store.write_sweep(plan.sweep.name, labels, plan.source.record(), reference="")
    ended = list(plan.trials.values())[: len(plan.trials) - open_ones]
    for number, trial in enumerate(ended, 1):
        store.write_row(*attempt_of(trial, points))
        if number % LOOSE == 0 and not loose:
            compact(store, everything=False)


@dataclass(frozen=True)
class Measured:
    """One run of a command."""

    name: str
    seconds: float
    cpu: float
    gigabytes: float
    """Peak of resident memory."""


def measure(name: str, words: list[str], log: Path) -> Measured:
    """Run a command in a process of its own. Raises `RuntimeError` with its output if it fails."""
    began = time.perf_counter()
    parent = [sys.executable, "-c", PARENT, str(log), *words]
    ended = subprocess.run(parent, capture_output=True, text=True, check=True)
    status, cpu, kilobytes = ended.stdout.split()
    if int(status):
        raise RuntimeError(f"{' '.join(words)}: {log.read_text()[-2000:]}")
    return Measured(name, time.perf_counter() - began, float(cpu), int(kilobytes) / 1e6)


def commands(trials: int, store: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands by name."""
    layerwise = [sys.executable, "-m", "orchestrator"]
    where, name = ["--store", str(store)], f"large{trials}"
    sets = [part for change in changes(trials) for part in ("--set", change)]
    yield "compact", [*layerwise, "compact", *where]
    yield "help", [*layerwise, "--help"]
    for command in ("status", "plan"):
        yield command, [*layerwise, command, "digits", *sets, *where]
    yield "run", [*layerwise, "run", "digits", *sets, *where, "--inline", "--no-report"]
    queries = {
        "count": "SELECT count(*) FROM trials",
        "five columns": "SELECT treatment, frozen, n, avg(top1), count(*) FROM trials GROUP BY ALL",
        "curves": f"{CURVES} GROUP BY ALL",
        "curves by step": "SELECT step, avg(val_top1) FROM curves GROUP BY ALL",
        "effects": "SELECT * FROM effects",
    }
    for query, sql in queries.items():
        yield f"query: {query}", [*layerwise, "query", sql, "--csv", *where]
    yield "ls", [*layerwise, "ls", *where]
    yield "verify", [*layerwise, "verify", *where]
    yield "report", [*layerwise, "report", name, *where]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=350, help="evaluations of each trial")
    parser.add_argument("--folder", type=Path, help="where the store stays for another time")
    parser.add_argument("--loose", action="store_true", help="do not compact")
    parser.add_argument("--only", nargs="*", help="commands to measure; all by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        store, show = Store(folder / "store"), _printer()
        if not store.exists():
            began = time.perf_counter()
            plan = planned(options.trials)
            print(f"planned {len(plan.trials)} trials in {time.perf_counter() - began:.1f} s")
            began = time.perf_counter()
            fill(store, plan, options.points, loose=options.loose)
            print(f"wrote them in {time.perf_counter() - began:.0f} s")
        for name, words in commands(options.trials, folder / "store"):
            wanted = name in options.only if options.only else True
            if wanted and not (options.loose and name == "compact"):
                show(measure(name, words, folder / "log.txt"))
        page = folder / f"store/reports/large{options.trials}/index.html"
        if page.exists():
            print(f"report: {page.stat().st_size / 1e6:.1f} MB")


def _printer() -> Callable[[Measured], None]:
    print("| command | wall s | CPU s | GB |\n|---|---|---|---|")

    def show(one: Measured) -> None:
        print(
            f"| {one.name} | {one.seconds:.1f} | {one.cpu:.1f} | {one.gigabytes:.2f} |", flush=True
        )

    return show


if __name__ == "__main__":
    main()
