"""What joined normalisation and joined blocks gain in lanes, on a CPU.

    python -m benchmarks.lanes_kinds [--lanes 16] [--repeat 5] [--steps 5] [--networks residual ...]

Steps of K networks in one thread: one network after the other, as lanes whose normalisation and
blocks run lane by lane, and as lanes that join them. Every repetition measures all three ways.
README.md in this folder defines each figure.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from benchmarks.lanes_device import RATE, Setting, Together, learners, noise
from trainers.lanes import forward

WAYS = ("one at a time", "lanes, lane by lane", "lanes, joined")
Norm = Callable[[int], nn.Module]


def residual(
    *, classes: int, shape: tuple[int, int, int], width: int = 8, groups: int = 0
) -> list[nn.Module]:
    """Return a convolution, three residual blocks, the second with a stride of 2, and a head."""

    def norm(channels: int) -> nn.Module:
        return nn.GroupNorm(groups, channels) if groups else nn.BatchNorm2d(channels)

    wide = 2 * width
    return [
        _stem(shape[0], width, norm),
        BasicBlock(width, width, norm_layer=norm),
        BasicBlock(width, wide, 2, _shortcut(width, wide, norm), norm_layer=norm),
        BasicBlock(wide, wide, norm_layer=norm),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, classes)),
    ]


def bottleneck(*, classes: int, shape: tuple[int, int, int], width: int = 8) -> list[nn.Module]:
    """Return a convolution, two bottleneck blocks, the second with a stride of 2, and a head."""
    wide, norm = 4 * width, nn.BatchNorm2d
    return [
        _stem(shape[0], wide, norm),
        Bottleneck(wide, width),
        Bottleneck(wide, 2 * width, 2, _shortcut(wide, 2 * wide, norm)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * wide, classes)),
    ]


def _stem(channels: int, width: int, norm: Norm) -> nn.Module:
    first = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    return nn.Sequential(first, norm(width), nn.ReLU(inplace=True))


def _shortcut(inputs: int, outputs: int, norm: Norm) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), norm(outputs))


SMALL, LARGER = (1, 12, 12), (1, 32, 32)
OWN = "benchmarks.lanes_kinds:residual"
SETTINGS = {
    one.name: one
    for one in (
        Setting(name="residual", network=OWN, shape=SMALL, batch=32),
        Setting(name="wider", network=OWN, options=(("width", 16),), shape=SMALL, batch=32),
        Setting(name="groups", network=OWN, options=(("groups", 4),), shape=SMALL, batch=32),
        Setting(
            name="bottleneck",
            network="benchmarks.lanes_kinds:bottleneck",
            shape=SMALL,
            batch=32,
        ),
        *(
            Setting(
                name=name,
                network=f"torchvision:{name}",
                options=(("width_mult", 0.25),),
                shape=LARGER,
                batch=32,
            )
            for name in ("mobilenet_v2", "mobilenet_v3_small")
        ),
    )
}


@contextlib.contextmanager
def lane_by_lane() -> Iterator[None]:
    """Let normalisation and blocks run lane by lane, and the layers of torchvision's networks."""

    def is_chain(module: nn.Module) -> bool:
        return joins(module) and not type(module).__module__.startswith(
            ("torchvision.", "trainers.torchvision")
        )

    joins = forward._is_chain
    with (
        mock.patch.object(forward, "normalisation", return_value=None),
        mock.patch.object(forward, "is_block", return_value=False),
        mock.patch.object(forward, "_is_chain", is_chain),
    ):
        yield


def seconds(setting: Setting, lanes: int, steps: int) -> dict[str, float]:
    """Return the CPU seconds of a step of one lane, in each way."""
    data = noise(setting, torch.device("cpu"))
    alone = learners(setting, lanes, data)

    def one_by_one(step: int) -> None:
        for learner in alone:
            learner.step(step, RATE)

    apart, joined = (Together(setting, lanes, data, captured=False) for _ in range(2))
    with lane_by_lane():
        apart(0)  # the operations are chosen here
    one_by_one(0)
    joined(0)
    figures = {}
    for way, step in zip(WAYS, (one_by_one, apart, joined), strict=True):
        began = time.process_time()
        for number in range(1, steps + 1):
            step(number)
        figures[way] = (time.process_time() - began) / steps / lanes
    return figures


def main() -> None:
    """Measure every network, and print medians with ratios of one repetition each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| network | {' | '.join(f'{way}, ms' for way in WAYS)} | joined is × lane by lane |")
    print("|---|---|---|---|---|")
    for name in options.networks:
        print(row(SETTINGS[name], options.lanes, options.repeat, options.steps), flush=True)
    print(f"load {os.getloadavg()[0]:.1f}")


def row(setting: Setting, lanes: int, repeat: int, steps: int) -> str:
    """Return the medians of one network, and the ratio with its spread, as a line of a table."""
    rounds = [seconds(setting, lanes, steps) for _ in range(repeat)]
    medians = [1e3 * statistics.median(one[way] for one in rounds) for way in WAYS]
    ratios = [one[WAYS[1]] / one[WAYS[2]] for one in rounds]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"| {setting.name} | {' | '.join(f'{x:.2f}' for x in medians)} | {spread} |"


if __name__ == "__main__":
    main()
