"""Lanes on this device: K networks in one process beside one network per process.

    python -m benchmarks.lanes_device [--networks digits cifar caffenet] [--lanes 1 16 256]
    python -m benchmarks.lanes_device --quick                       # tiny, on any CPU

Needs torch, numpy and `trainers/`. README.md in this folder defines each figure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.caffenet_engines import GRAPH_WARM_UP, set_precision
from benchmarks.device import device_name, seconds_per_call, synchronise
from trainers.config import DatasetRef, NetworkRef, Task, Training, Treatment, training_macs
from trainers.lanes import pack
from trainers.lanes.stack import Stack
from trainers.learner import Learner
from trainers.networks import describe
from trainers.recipe import Recipe
from trainers.task_data import TaskData, Whole
from trainers.views import View

WAYS = ("alone", "lanes", "graph", "processes")
RATE = 1e-4  # so small that no weight overflows
CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A network with its images; `repeat` repetitions of `steps` steps are measured."""

    name: str
    network: str
    options: tuple[tuple[str, Any], ...] = ()
    shape: tuple[int, int, int]
    crop: int | None = None
    batch: int
    precision: str = "float32"
    frozen: tuple[int, ...] = ()
    """Frozen layers of the lanes, which then copy from one base; none by default."""
    steps: int = 50
    repeat: int = 3


SETTINGS = {
    one.name: one
    for one in (
        Setting(name="digits", network="conv8", shape=(1, 12, 12), batch=32),
        Setting(
            name="cifar",
            network="conv8",
            options=(("conv", (64, 128, 256, 256, 256)), ("fc", (256, 256)), ("pool", (1, 2, 5))),
            shape=(3, 32, 32),
            batch=512,
            precision="bfloat16",
            steps=20,
        ),
        Setting(
            name="caffenet",
            network="caffenet",
            options=(("outputs", 1000),),
            shape=(3, 256, 256),
            crop=227,
            batch=256,
            precision="bfloat16",
            frozen=tuple(range(1, 8)),
            steps=5,
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Steps of single networks per second, in all lanes or processes together; or an error."""

    setting: str
    way: str
    lanes: int
    rate: float | None = None
    error: str = ""
    is_equal: bool | None = None
    """True if the captured step gives the bits of the same step without a graph."""


def learners(setting: Setting, lanes: int, data: TaskData) -> list[Learner]:
    """Return networks with different first weights; with one seed if they copy layers."""
    return [Learner(training(setting, lane), data, None, 0) for lane in range(lanes)]


def training(setting: Setting, lane: int) -> Training:
    """Return the training of a lane. Random filters stand for copied ones: as fast."""
    frozen = setting.frozen[lane % len(setting.frozen)] if setting.frozen else 0
    recipe = Recipe(
        rate=RATE,
        batch=setting.batch,
        steps=10**9,
        precision=setting.precision,  # type: ignore[arg-type]
        crop=setting.crop,
        mirror=setting.crop is not None,
        dropout=0.0,  # masks are drawn by the host, which a graph leaves out
    )
    return Training(
        target=Task(dataset=DatasetRef(name="noise"), classes=tuple(range(CLASSES))),
        network=NetworkRef(name=setting.network, options=setting.options),
        treatment=Treatment(kind="random" if frozen else "base", n=frozen),
        recipe=recipe,
        seed=0 if frozen else lane,
    )


def noise(setting: Setting, device: torch.device) -> TaskData:
    """Return random images on the device, enough for four batches."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (4 * setting.batch, *setting.shape)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8, device=device)
    labels = torch.randint(CLASSES, shape[:1], generator=generator, device=device)
    mean = torch.full(setting.shape, 127.5, device=device)
    view = View(setting.shape, torch.float32, setting.crop, mean)
    part = Whole(images, labels, view, setting.batch)
    return TaskData(part, part, part)


# Ways -------------------------------------------------------------------------------------------


def alone(setting: Setting, data: TaskData) -> Callable[[int], object]:
    """Return the step of one network."""
    [one] = learners(setting, 1, data)
    return lambda step: one.step(step, RATE)


class Together:
    """The step of K networks as lanes, captured as one CUDA graph if asked for.

    In a graph the rates are tensors, so that a replay sees those of its step.
    """

    def __init__(self, setting: Setting, lanes: int, data: TaskData, *, captured: bool):
        self.learners = learners(setting, lanes, data)
        self.stack = Stack(self.learners, [one.wholly_frozen for one in self.learners])
        self.device = data.train.labels.device
        self.captured = captured
        self.replay: Callable[[], object] | None = None

    def __call__(self, step: int) -> object:
        batches = [learner.batches(step) for learner in self.learners]
        if self.captured and step == GRAPH_WARM_UP:
            self._capture(batches)
        if self.replay is None:
            for learner in self.learners:
                learner.begin(step, RATE)
            return pack.learn(self.stack, [x for x, _ in batches], [y for _, y in batches])
        self.rate.fill_(RATE)
        torch._foreach_copy_(self.inputs, [x for x, _ in batches])
        torch._foreach_copy_(self.labels, [y for _, y in batches])
        self.replay()
        return self.losses

    def _capture(self, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Capture the step; the steps before made momenta and whatever libraries make once."""
        self.inputs = [x.clone() for x, _ in batches]
        self.labels = [y.clone() for _, y in batches]
        self.rate = torch.tensor(RATE, device=self.device)
        for learner in self.learners:
            for group in learner.optimiser.param_groups:
                group["lr"] = self.rate
        synchronise(self.device)

        def learn() -> None:
            self.losses = pack.learn(self.stack, list(self.inputs), self.labels)

        self.replay = recorded(learn)

    def weights(self) -> list[torch.Tensor]:
        """Return all weights of all lanes."""
        return [p for one in self.learners for p in one.network.parameters()]


def recorded(call: Callable[[], None]) -> Callable[[], object]:
    """Capture a call as a CUDA graph, without carrying it out, and return its replay."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def measure(way: str, setting: Setting, lanes: int, data: TaskData) -> Row:
    """Measure one way in this process. One that fails gives a row with its error."""
    device = data.train.labels.device
    if way == "graph" and device.type != "cuda":
        return Row(setting=setting.name, way=way, lanes=lanes, error="needs a CUDA GPU")
    set_precision(setting.precision, deterministic=True)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    is_equal = None
    try:
        if way == "alone":
            step = alone(setting, data)
        else:
            step = Together(setting, lanes, data, captured=way == "graph")
        seconds = seconds_per_call(step, setting.steps, setting.repeat, device)
        if way == "graph":
            is_equal = equals_uncaptured(setting, min(lanes, 4), data)
    except Exception as error:  # the other ways are measured all the same
        text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return Row(setting=setting.name, way=way, lanes=lanes, error=text)
    rate = lanes / seconds
    return Row(setting=setting.name, way=way, lanes=lanes, rate=rate, is_equal=is_equal)


def equals_uncaptured(setting: Setting, lanes: int, data: TaskData) -> bool:
    """Return whether a captured step leaves the weights, bit for bit, that others leave."""
    results = []
    for captured in (False, True):
        together = Together(setting, lanes, data, captured=captured)
        for step in range(2 * GRAPH_WARM_UP + 4):
            together(step)
        results.append([weight.detach().clone() for weight in together.weights()])
    return all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def in_processes(setting: Setting, processes: int, device: torch.device, seconds: float) -> Row:
    """Measure processes that train one network each, all at the same time."""
    line = [sys.executable, "-m", "benchmarks.lanes_device", "--device", str(device)]
    line += ["--alone", json.dumps(asdict(setting)), "--seconds", str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running: list[subprocess.Popen[str]] = []
    try:
        for _ in range(processes):
            running.append(subprocess.Popen(line, **pipes))  # type: ignore[call-overload]
        for one in running:
            assert one.stdout is not None
            one.stdout.readline()  # it is ready
        for one in running:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        rates = [float(one.communicate()[0]) for one in running]
    except ValueError as error:
        return Row(setting=setting.name, way="processes", lanes=processes, error=str(error))
    finally:
        for one in running:
            one.kill()
            one.wait()
    return Row(setting=setting.name, way="processes", lanes=processes, rate=sum(rates))


def steps_alone(setting: Setting, device: torch.device, seconds: float) -> None:
    """Train one network; say when it is ready, wait for a line, and print its steps per second."""
    set_precision(setting.precision, deterministic=True)
    step, number = alone(setting, noise(setting, device)), 0
    for number in range(5):
        step(number)
    synchronise(device)
    print("ready", flush=True)
    sys.stdin.readline()
    began, first = time.perf_counter(), number
    while time.perf_counter() - began < seconds:
        for _ in range(setting.steps):
            number += 1
            step(number)
        synchronise(device)
    print((number - first) / (time.perf_counter() - began))


# Showing ----------------------------------------------------------------------------------------


def peak(precision: str, device: torch.device) -> float:
    """Return floating-point operations per second of a large matrix product."""
    set_precision(precision, deterministic=True)
    side = 8192 if device.type == "cuda" else 512
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_per_call(lambda _: a @ b, 10, 3, device)


def flops(setting: Setting, lanes: int) -> float:
    """Return the mean floating-point operations of a step of one network of so many."""
    c, h, w = setting.shape
    seen = (c, h, w) if setting.crop is None else (c, setting.crop, setting.crop)
    first = training(setting, 0)
    macs = describe(first.network, CLASSES, seen).macs
    every = [training_macs(macs, training(setting, lane).treatment.n) for lane in range(lanes)]
    return 2 * setting.batch * sum(every) / lanes


def table(rows: Sequence[Row], settings: Sequence[Setting], peaks: dict[str, float]) -> str:
    """Return the rows as a Markdown table, beside one network per process and the peak."""
    lines = [
        "| network | way | K | steps/s of one network | × one per process | of the peak | equal |",
        "|---|---|---|---|---|---|---|",
    ]
    by_name = {setting.name: setting for setting in settings}
    single = {row.setting: row.rate for row in rows if row.way == "alone"}
    for row in rows:
        cells = [row.setting, row.way, str(row.lanes)]
        if row.rate is None:
            cells += [row.error, "", "", ""]
        else:
            one, setting = single.get(row.setting), by_name[row.setting]
            share = row.rate * flops(setting, row.lanes) / peaks[setting.precision]
            equal = {None: "", True: "yes", False: "no"}[row.is_equal]
            times = f"{row.rate / one:.2f}" if one else ""
            cells += [f"{row.rate:,.0f}", times, f"{100 * share:.1f} %", equal]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lanes_device",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--lanes", nargs="+", type=int, default=[2**n for n in range(9)])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run of processes")
    parser.add_argument("--quick", action="store_true", help="tiny networks, to try it out")
    parser.add_argument("--json", type=Path, help="write all rows to this file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def tiny(setting: Setting) -> Setting:
    """Return the setting at a size that any CPU trains at once."""
    changes: dict[str, Any] = {"batch": 4, "steps": 3, "repeat": 1}
    if setting.name == "cifar":
        changes |= {"options": (("conv", (4, 8, 8)), ("fc", (8,)), ("pool", (1, 2)))}
    if setting.name == "caffenet":
        changes |= {"options": (("outputs", CLASSES), ("shrink", 8)), "shape": (3, 75, 75)}
        changes |= {"crop": 67, "frozen": (1, 7)}
    return replace(setting, **changes)


def main(arguments: Sequence[str]) -> None:
    """Measure every way of every network, and print the table."""
    chosen = options(arguments)
    device = torch.device(chosen.device)
    if chosen.alone:
        lists = {k: _tuples(v) for k, v in json.loads(chosen.alone).items()}
        steps_alone(Setting(**lists), device, chosen.seconds)
        return
    settings = [SETTINGS[name] for name in chosen.networks]
    if chosen.quick:
        settings = [tiny(setting) for setting in settings]
    rows = []
    for setting in settings:
        data = noise(setting, device)
        sizes = [len(setting.frozen)] if setting.frozen else chosen.lanes
        for way in chosen.ways:
            if way == "processes":
                found = (in_processes(setting, n, device, chosen.seconds) for n in chosen.processes)
            else:
                counts = [1] if way == "alone" else sizes
                found = (measure(way, setting, n, data) for n in counts)
            for row in found:
                rows.append(row)
                print(row.setting, row.way, row.lanes, row.error or f"{row.rate:,.1f}", flush=True)
                if chosen.json:  # after every row, for a long run that is cut short
                    chosen.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    peaks = {precision: peak(precision, device) for precision in {s.precision for s in settings}}
    print(f"\n{device_name(device)}, torch {torch.__version__}\n")
    print(table(rows, settings, peaks))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


if __name__ == "__main__":
    main(sys.argv[1:])
