"""Seeds of the global generators around a user's code."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from tests.trainings import result, training
from trainers.config import NetworkRef
from trainers.seeds import seeded


def draws() -> list[float]:
    """One number of each global generator."""
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002


def test_equal_seeds_give_equal_draws_and_leave_the_generators_as_they_were() -> None:
    with seeded(3):
        outside = draws()
    with seeded(3):
        with seeded(2**63 - 1):
            first = draws()
        assert draws() == outside
    with seeded(2**63 - 1):
        assert draws() == first
    assert not set(first) & set(outside)


class Noise(nn.Linear):
    """Draws from all global generators in every training step."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (1 + sum(draws()) if self.training else 1)


def noisy(*, classes: int, shape: tuple[int, int, int]) -> list[nn.Module]:
    return [nn.Sequential(nn.Flatten(), Noise(shape[1] * shape[2], 4)), nn.Linear(4, classes)]


def test_steps_of_a_network_that_draws_are_the_same_again() -> None:
    one = training(network=NetworkRef(name=f"{__name__}:noisy"), steps=4)
    first = result(one)
    draws()
    assert result(one).checkpoint_sha256 == first.checkpoint_sha256
