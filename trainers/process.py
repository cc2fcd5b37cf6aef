"""The process that a training runs in: its settings, and its memory."""

from __future__ import annotations

import resource

import torch

from trainers.config import Training
from trainers.devices import keep_memory
from trainers.results import Runtime


def prepare(training: Training, runtime: Runtime) -> torch.device:
    """Set process-wide settings, for every training anew: processes are reused.

    By default cuDNN rounds the factors of float32 convolutions to TF32's 10 bits. That is switched
    off, so that float32 means float32; `precision: tf32` switches it on for its speed.
    """
    device = torch.device(runtime.device)
    keep_memory()
    torch.set_num_threads(runtime.threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    tf32 = training.recipe.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return device


def environment(runtime: Runtime) -> str:
    """Return the settings under which a resumed training is bit-identical."""
    device = torch.device(runtime.device)
    if device.type == "cuda":
        exact = not torch.backends.cuda.matmul.allow_tf32
        name = f"{torch.cuda.get_device_name(device)}, {'exact float32' if exact else 'TF32'}"
    else:
        name = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    lanes = ", lanes" if runtime.in_lanes else ""
    return f"torch {torch.__version__}, {name}, {runtime.threads} threads{lanes}"


def peak_memory(device: torch.device) -> int:
    """Return the peak of this training on a GPU, or of this process so far on the CPU, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
