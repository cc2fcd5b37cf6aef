"""Layerwise beside plain Ray Tune, training the same networks for the same steps.

    python -m benchmarks.versus_tune [--full | --splits N] [--repeat K]

Each program runs alone in its own process, with a fresh Ray and a fresh folder. Every other
repetition reverses the order. README.md in this folder defines each figure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALL_SPLITS = 4
HEARTBEAT = 15.0  # seconds between messages
LAYERWISE, ALONE = "layerwise", "layerwise, lanes: 1"
PROGRAMS = (LAYERWISE, ALONE, "plain Tune", "plain Tune, reuse_actors=True")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trained network. `seconds` is its time for data, training and evaluation."""

    name: str
    arm: str
    top1: float
    started: float
    ended: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures of one run of one program, in seconds but for `share`."""

    wall: float
    warm_up: float
    overhead: float
    share: float
    network: float


Rows = Sequence[Row]
Round = Mapping[str, Figures]


def figures(rows: Rows, *, begun: float, wall: float, slots: int) -> Figures:
    """Return the figures of a program that started at `begun` and took `wall` seconds."""
    training = sum(row.seconds for row in rows)
    first, last = min(row.started for row in rows), max(row.ended for row in rows)
    return Figures(
        wall=wall,
        warm_up=first - begun,
        overhead=(wall * slots - training) / len(rows),
        share=training / (slots * (last - first)),
        network=training / len(rows),
    )


def medians(rounds: Sequence[Round]) -> dict[str, Figures]:
    """Return the median of each figure over the repetitions, by program."""
    return {
        program: Figures(
            **{
                field.name: statistics.median(getattr(one[program], field.name) for one in rounds)
                for field in fields(Figures)
            }
        )
        for program in rounds[0]
    }


def ratios(rounds: Sequence[Round]) -> dict[str, float]:
    """Return wall time by layerwise's wall time: the median of the ratios within repetitions."""
    return {
        program: statistics.median(one[program].wall / one[LAYERWISE].wall for one in rounds)
        for program in rounds[0]
    }


def accuracies(rows: Rows) -> dict[str, float]:
    """Return the mean test top-1 of each treatment."""
    by_arm: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_arm[row.arm].append(row.top1)
    return {arm: statistics.mean(by_arm[arm]) for arm in sorted(by_arm)}


def command(program: str, splits: int, slots: int, folder: Path) -> list[str]:
    """Return the command line of a program that writes its rows below `folder`."""
    cpus = ["--cpus", str(slots)]
    if program in (LAYERWISE, ALONE):
        grid = ["--set", f"splits.random={list(range(splits))}"]
        grid += ["--set", "lanes=1"] if program == ALONE else []
        store = ["--store", str(folder / "store"), "--no-report"]
        return [sys.executable, "-m", "orchestrator", "run", "digits", *grid, *store, *cpus]
    reuse = ["--reuse-actors"] if "reuse" in program else []
    out = ["--out", str(folder / "rows.json"), "--splits", str(splits)]
    return [sys.executable, "-m", "benchmarks.plain_tune", *out, *cpus, *reuse]


def read_rows(program: str, folder: Path) -> list[Row]:
    """Read the rows that a program wrote below `folder`."""
    if program not in (LAYERWISE, ALONE):
        return [Row(**row) for row in json.loads((folder / "rows.json").read_text())]
    from orchestrator.store.store import Store

    return [
        Row(
            name=row["name"],
            arm=row["treatment"] + "+" * (row["n"] > 0 and not row["frozen"]),
            top1=row["top1"],
            started=row["started"].timestamp(),
            ended=row["ended"].timestamp(),
            seconds=row["seconds_data"] + row["seconds_train"] + row["seconds_evaluate"],
        )
        for row in Store(folder / "store").table("trials").to_pylist()
    ]


def measure(program: str, splits: int, slots: int) -> tuple[Figures, list[Row]]:
    """Run a program from start to exit. Raises `SystemExit` with the end of its log if it fails."""
    with tempfile.TemporaryDirectory(prefix="versus-tune-") as scratch:
        folder, begun = Path(scratch), time.time()
        line = command(program, splits, slots, folder)
        wall = attend(program, line, folder / "log.txt")
        rows = read_rows(program, folder)
    return figures(rows, begun=begun, wall=wall, slots=slots), rows


def attend(program: str, line: Sequence[str], log: Path) -> float:
    """Run a command line to its exit and return its wall time in seconds.

    Reports now and then that it still runs. Hands on no setting of Ray. Raises `SystemExit` with
    the end of its log if it fails.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    clock = time.perf_counter()
    with (
        log.open("wb") as out,
        subprocess.Popen(
            line, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        ) as process,
    ):
        while process.poll() is None:
            try:
                process.wait(HEARTBEAT)
            except subprocess.TimeoutExpired:
                say(f"  {program}: {time.perf_counter() - clock:.0f} s")
    wall = time.perf_counter() - clock
    if process.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise SystemExit(f"{program} ended with exit code {process.returncode}:\n{end}")
    return wall


def run(splits: int, repeat: int, slots: int) -> tuple[list[Round], dict[str, list[Row]]]:
    """Run every program `repeat` times. Return the figures of each repetition and all rows."""
    rounds: list[Round] = []
    rows: dict[str, list[Row]] = {program: [] for program in PROGRAMS}
    for number in range(repeat):
        one_round: dict[str, Figures] = {}
        for program in PROGRAMS if number % 2 == 0 else reversed(PROGRAMS):
            say(f"{number + 1}/{repeat} {program}, load {os.getloadavg()[0]:.1f}")
            one_round[program], new = measure(program, splits, slots)
            say(f"  {program}: {one_round[program].wall:.1f} s, {len(new)} networks")
            rows[program] += new
        names = {program: sorted(row.name for row in rows[program]) for program in PROGRAMS}
        if any(names[program] != names[LAYERWISE] for program in PROGRAMS):
            raise SystemExit("the programs did not train the same networks")
        rounds.append({program: one_round[program] for program in PROGRAMS})
    return rounds, rows


def table(rounds: Sequence[Round]) -> str:
    """Return the medians as a Markdown table."""
    times = ratios(rounds)
    lines = [
        "| | wall s | × layerwise | overhead a network, s | share in training | warm-up s "
        "| training a network, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for program, one in medians(rounds).items():
        lines.append(
            f"| {program} | {one.wall:.1f} | {times[program]:.2f} | {one.overhead:.2f} "
            f"| {100 * one.share:.0f} % | {one.warm_up:.1f} | {one.network:.2f} |"
        )
    return "\n".join(lines)


def accuracy_table(rows: Mapping[str, Rows]) -> str:
    """Return mean test top-1 by treatment, in percent, which shows that both sides train."""
    by_program = {program: accuracies(its_rows) for program, its_rows in rows.items()}
    arms = list(by_program[LAYERWISE])
    lines = [f"| top-1, % | {' | '.join(arms)} |", "|---" * (len(arms) + 1) + "|"]
    for program, values in by_program.items():
        lines.append(f"| {program} | {' | '.join(f'{100 * values[arm]:.1f}' for arm in arms)} |")
    return "\n".join(lines)


def hardware(slots: int) -> str:
    """Return date, machine and versions, in two lines."""
    names = ("ray", "torch", "numpy", "pyarrow")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {slots} cores of {processor()}, {memory:.0f} GB, "
        f"{platform.system()} {platform.release()}\nPython {platform.python_version()}, {versions}"
    )


def processor(read: Callable[[], str] = lambda: Path("/proc/cpuinfo").read_text()) -> str:
    """Return the name of the processor, from /proc/cpuinfo on Linux."""
    try:
        lines = read().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def say(text: str) -> None:
    print(text, flush=True)


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line: `splits`, `repeat` and `cpus`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versus_tune", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--splits", type=positive, default=1, help="74 networks each (default 1)")
    size.add_argument(
        "--full", action="store_const", const=ALL_SPLITS, dest="splits", help="all four splits"
    )
    parser.add_argument("--repeat", type=positive, default=1, help="repetitions, for medians")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--cpus", type=positive, default=cores, help="networks at a time")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, x ≥ 1, found {text}")
    return value


def main() -> None:
    chosen = options()
    say(hardware(chosen.cpus))
    rounds, rows = run(chosen.splits, chosen.repeat, chosen.cpus)
    networks = len(rows[LAYERWISE]) // chosen.repeat
    say(f"\n{networks} networks, {chosen.cpus} at a time, medians of {chosen.repeat}\n")
    say(table(rounds) + "\n")
    say(accuracy_table(rows))


if __name__ == "__main__":
    main()
