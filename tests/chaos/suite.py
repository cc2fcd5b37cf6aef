"""Sweeps under faults at random moments: their results, and the cost of the faults.

    make chaos                                              # 50 minutes
    make chaos CHAOS="--only 'worker killed' --faults 5"    # one kind of fault
    make chaos CHAOS="--seed 7 --json chaos.json"

The same sweep runs again and again on a cluster of raylets on this machine. Each time it starts
from an empty store, and meets some faults of one kind at random moments. Where a fault ends the
driver, the suite gives the same command again. At the end all trials must be complete, and all
result columns equal to those of training without Ray and without faults. No reader may ever have
met a half-written file.
"""

from __future__ import annotations

import argparse
import json
import os
import random as generators
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa

from tests.chaos import faults
from tests.chaos.faults import Fault
from tests.chaos.machines import Machines, machines
from tests.chaos.scene import GRID, ROOT, Scene, scene
from tests.results import results

LONGEST = 600.0  # limit in seconds of a sweep with all its faults


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of fault: number in all and per sweep, and the range of pauses in seconds."""

    name: str
    fault: Fault
    faults: int
    in_one: int
    pause: tuple[float, float]
    store: str = "folder"
    drivers: int = 1
    kills: bool = True


EACH = (
    faults.kill_worker,
    faults.drain_node,
    faults.damage_snapshots,
    faults.kill_driver,
    faults.freeze_node,
    faults.kill_raylet,
)


def each_in_turn(scene: Scene, random: generators.Random) -> bool:
    return EACH[scene.faults % len(EACH)](scene, random)


KINDS = [
    Kind(name="worker killed", fault=faults.kill_worker, faults=80, in_one=20, pause=(0.2, 5)),
    Kind(name="raylet killed", fault=faults.kill_raylet, faults=40, in_one=10, pause=(0.2, 5)),
    Kind(name="node gone", fault=faults.lose_node, faults=16, in_one=8, pause=(0.2, 5)),
    Kind(name="node frozen", fault=faults.freeze_node, faults=8, in_one=4, pause=(0.2, 8)),
    Kind(name="node drained", fault=faults.drain_node, faults=12, in_one=6, pause=(0.2, 8)),
    Kind(
        name="snapshots damaged",
        fault=faults.damage_snapshots,
        faults=20,
        in_one=10,
        pause=(0.2, 5),
    ),
    Kind(name="base damaged", fault=faults.damage_base, faults=6, in_one=3, pause=(0.2, 5)),
    Kind(
        name="two drivers, worker killed",
        fault=faults.kill_worker,
        faults=12,
        in_one=6,
        pause=(0.2, 8),
        drivers=2,
    ),
    Kind(name="driver killed", fault=faults.kill_driver, faults=10, in_one=5, pause=(0.2, 15)),
    Kind(name="head killed", fault=faults.kill_head, faults=6, in_one=3, pause=(0.2, 15)),
    Kind(name="each in turn", fault=each_in_turn, faults=12, in_one=6, pause=(0.2, 4)),
    Kind(
        name="disk full",
        fault=faults.fill_disk,
        faults=4,
        in_one=2,
        pause=(0.2, 10),
        store="disk",
        kills=False,
    ),
    Kind(
        name="store fails for 30 s",
        fault=faults.fail_store,
        faults=2,
        in_one=1,
        pause=(0.2, 10),
        store="s3",
        kills=False,
    ),
    Kind(
        name="store answers slowly",
        fault=faults.slow_store,
        faults=1,
        in_one=1,
        pause=(0.2, 10),
        store="s3",
        kills=False,
    ),
    Kind(
        name="store refuses writes",
        fault=faults.deny_writes,
        faults=3,
        in_one=3,
        pause=(0.2, 10),
        store="s3",
        kills=False,
    ),
]


@dataclass(kw_only=True)
class Lap:
    """One sweep from an empty store to its end."""

    kind: str
    faults: int = 0
    runs: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    said: str = ""


Tables = dict[str, pa.Table]


def lap(
    on: Machines, kind: Kind, count: int, random: generators.Random, expected: Tables, steps: int
) -> Lap:
    """Run a sweep with up to `count` faults. After the last fault it must end by itself."""
    done, begun = Lap(kind=kind.name), time.monotonic()
    with scene(on, kind.store, steps) as now:
        while time.monotonic() - begun < LONGEST:
            if not now.running:
                if now.runs and set(now.collect()) == {0}:
                    break
                if now.runs > kind.drivers * (count + 4):
                    done.problems.append(f"not complete after {now.runs} runs")
                    break
                for _ in range(kind.drivers):
                    now.start_driver()
            if now.faults == count:
                now.waits(LONGEST - (time.monotonic() - begun))
            elif now.training() and now.waits(random.uniform(*kind.pause)):
                try:
                    now.faults += kind.fault(now, random)
                except TimeoutError as error:
                    done.problems.append(str(error))
                    break
            else:
                now.waits(0.1)
        else:
            done.problems.append(f"no end in {LONGEST:.0f} s")
        done.seconds, done.faults, done.runs = time.monotonic() - begun, now.faults, now.runs
        done.problems += now.problems(expected)
        done.said = now.said()
    return done


def undisturbed(on: Machines, store: str, expected: Tables, steps: int) -> Lap:
    """Run a sweep without faults."""
    nothing = Kind(
        name=f"none ({store})",
        fault=lambda *_: False,
        faults=0,
        in_one=0,
        pause=(0, 0),
        store=store,
    )
    return lap(on, nothing, 0, generators.Random(0), expected, steps)


def without_ray(steps: int) -> Tables:
    """Return the expected tables: trained one after the other in a process without Ray."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        changes = [part for one in (*GRID, f"recipe.steps={steps}") for part in ("--set", one)]
        line = [sys.executable, "-m", "orchestrator", "run", "digits", *changes, "--no-report"]
        more = {"PYTHONPATH": str(ROOT)}
        subprocess.run(
            [*line, "--inline", "--store", folder],
            cwd=ROOT,
            env=os.environ | more,
            check=True,
            capture_output=True,
        )
        return results(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=[kind.name for kind in KINDS])
    parser.add_argument("--faults", type=int, help="faults per kind, instead of the default")
    parser.add_argument("--steps", type=int, default=800, help="steps of a training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--untimed", action="store_true", help="leave out sweeps without faults")
    parser.add_argument("--json", type=Path, help="file for the figures of every sweep")
    asked = parser.parse_args()
    kinds = [kind for kind in KINDS if asked.only is None or kind.name in asked.only]
    laps = run(kinds, asked.faults, asked.seed, asked.steps, not asked.untimed)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(one) for one in laps], indent=1))
    sys.exit(any(one.problems for one in laps))


def run(kinds: Sequence[Kind], count: int | None, seed: int, steps: int, timed: bool) -> list[Lap]:
    """Run the kinds of faults one after the other, and print the results."""
    if os.geteuid() and any(kind.store == "disk" for kind in kinds):
        say("disk full: left out, since only root can mount a disk")
        kinds = [kind for kind in kinds if kind.store != "disk"]
    say("training without Ray, for comparison")
    expected, laps = without_ray(steps), []
    with machines() as on:
        stores = dict.fromkeys(kind.store for kind in kinds if timed)

        def without_faults() -> None:
            for store in stores:
                laps.append(undisturbed(on, store, expected, steps))
                tell(laps[-1])

        without_faults()
        for kind in kinds:
            left, number = count or kind.faults, 0
            while left > 0:
                random = generators.Random(f"{seed} {kind.name} {number}")
                laps.append(lap(on, kind, min(left, kind.in_one), random, expected, steps))
                tell(laps[-1])
                left -= max(1, laps[-1].faults)
                number += 1
        without_faults()
    say(table(kinds, laps))
    return laps


def tell(one: Lap) -> None:
    say(f"{one.kind}: {one.faults} faults, {one.runs} runs, {one.seconds:.1f} s")
    if one.problems:
        say("\n".join(["PROBLEMS", *one.problems, one.said]))


def table(kinds: Sequence[Kind], laps: Sequence[Lap]) -> str:
    """Return a line per kind, with the time lost per fault beside sweeps without faults."""
    usual = {}
    for store in dict.fromkeys(kind.store for kind in kinds):
        if without := [one.seconds for one in laps if one.kind == f"none ({store})"]:
            usual[store] = statistics.median(without)
    headings = ("faults", "sweeps", "runs", "wrong", "s lost", "ratio")
    lines = [f"{'fault':28} " + " ".join(f"{heading:>6}" for heading in headings)]
    for kind in kinds:
        its = [one for one in laps if one.kind == kind.name]
        count, wrong = sum(one.faults for one in its), sum(bool(one.problems) for one in its)
        line = f"{kind.name:28} {count:6} {len(its):6} {sum(one.runs for one in its):6} {wrong:6}"
        if count and kind.store in usual:
            lost = (sum(one.seconds for one in its) - len(its) * usual[kind.store]) / count
            line += f" {lost:6.1f} {lost / usual[kind.store]:6.2f}"
        lines.append(line)
    killing = {kind.name for kind in kinds if kind.kills}
    kills = sum(one.faults for one in laps if one.kind in killing)
    lines.append(f"{kills} kills in {sum(one.seconds for one in laps) / 60:.0f} minutes")
    without = [f"{seconds:.1f} s ({store})" for store, seconds in usual.items()]
    return "\n".join([*lines, *(f"a sweep without faults: {one}" for one in without)])


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
