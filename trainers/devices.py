"""The device that trainings run on: its name, its memory."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import platform
import re
import sys
import warnings
from pathlib import Path

import torch

# Beginnings and parts of messages of torch's RuntimeError, which has no class for each.
OUT_OF_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
GPU_ERRORS = ("CUDA error", "CUDA driver error", "cuDNN error", "NCCL error")
MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}


def has_gpu() -> bool:
    """Return whether torch finds a GPU on this machine."""
    return torch.cuda.is_available()


LEAST_DRIVERS = {11: 450, 12: 525, 13: 580}  # by the major version of CUDA, for Linux
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
DRIVER = Path("/proc/driver/nvidia/version")


def gpu_obstacle() -> str | None:
    """Return why torch uses no GPU on this machine; None if it can.

    https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says the same in four lines
        if torch.cuda.is_available():
            return None
    cuda = torch.version.cuda
    if cuda is None:
        return f"this build of PyTorch ({torch.__version__}) is for CPUs"
    try:
        match = re.search(r"Kernel Module\D*?(?:x86_64\s+)?(\d+)\.[\d.]+", DRIVER.read_text())
    except OSError:
        match = None
    if match is None:
        return "no NVIDIA driver is loaded"
    least = LEAST_DRIVERS.get(int(cuda.partition(".")[0]))
    if least and int(match[1]) < least:
        return (
            f"its NVIDIA driver {match[1]} is too old for PyTorch's CUDA {cuda}, which needs "
            f"{least} or newer: install a newer driver, or a PyTorch built for an older CUDA"
        )
    return "PyTorch finds no GPU behind its NVIDIA driver"


def device_name(device: str) -> str:
    """Name of the GPU, or `cpu` with the machine's architecture."""
    return f"cpu {platform.machine()}" if device == "cpu" else torch.cuda.get_device_name()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that a GPU or the process ran out of memory."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def is_of_machine(error: BaseException) -> bool:
    """Return whether an exception speaks of this machine, so that another may not meet it.

    After an error of a GPU, its process can compute nothing more.
    """
    if isinstance(error, OSError):
        return error.errno in MACHINE
    is_of_gpu = isinstance(error, RuntimeError) and str(error).startswith(GPU_ERRORS)
    return is_of_gpu or isinstance(error, torch.AcceleratorError)


@functools.cache
def keep_memory() -> None:
    """Let the allocator of this process keep freed memory for the next tensors.

    By default glibc gives blocks above some size back to the system at once, and the next one costs
    a page fault per 4 KiB: up to half the time of a pass through a small network. Other allocators
    are left as they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the largest that glibc takes
        mallopt(M_TRIM_THRESHOLD, 512 * 2**20)


def free_memory(device: str) -> None:
    """Give back GPU memory: the process lives on, and others may share its GPU."""
    if device == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    if reason := gpu_obstacle():
        sys.exit(f"layerwise: no GPU can be used on {platform.node()}: {reason}")
