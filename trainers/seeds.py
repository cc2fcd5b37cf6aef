"""Seeds of the global generators of Python, numpy and torch, from which a user's code may draw."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, and put their states back at the end."""
    import torch

    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    on_gpu = [torch.cuda.current_device()] if _uses_gpu() else []
    with torch.random.fork_rng(devices=on_gpu):
        seed_generators(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


def _uses_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def seed_generators(seed: int) -> None:
    """Seed the global generators, torch's on the CPU only."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)  # torch.manual_seed walks the stack too
