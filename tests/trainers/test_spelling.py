"""Hints for misspelt words."""

from __future__ import annotations

import pytest

from trainers.spelling import hint


@pytest.mark.parametrize(
    ("word", "prefix", "expected"),
    [
        ("schedul", "", "; did you mean 'schedule'?"),
        ("resnet8", "torchvision:", "; did you mean 'torchvision:resnet18'?"),
        ("mine", "torchvision:", ""),
        ("", "", ""),
    ],
)
def test_the_nearest_word(word: str, prefix: str, expected: str) -> None:
    assert hint(word, iter(["schedule", "rate", "resnet18"]), prefix) == expected
