"""Time on a device: its name, and seconds per call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def seconds_per_call(
    call: Callable[[int], object], steps: int, repeat: int, device: torch.device
) -> float:
    """Return the median over `repeat` repetitions of `steps` calls, after one to warm up.

    The device is synchronised before and after each repetition. `call` receives its number.
    """
    number = 0
    seconds = []
    for repetition in range(repeat + 1):
        synchronise(device)
        began = time.perf_counter()
        for _ in range(steps):
            call(number)
            number += 1
        synchronise(device)
        if repetition:
            seconds.append((time.perf_counter() - began) / steps)
    return statistics.median(seconds)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or the instruction set and the threads of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
