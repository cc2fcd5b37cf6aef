"""Threads of tests of trainings, and failed assertions of their helpers that show both sides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

pytest.register_assert_rewrite("tests.trainers.runs")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one thread of torch during a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
