"""Scores of two classes and of more, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainers.evaluation import auroc, evaluate


class Given(nn.Module):
    """Network whose scores are the pixels of each image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def test_two_classes_are_scored_by_rank_and_by_recall():
    scores = torch.tensor([[0.0, 3.0], [0.0, -1.0], [0.0, 1.0], [0.0, -2.0], [0.0, 2.0]])
    labels = torch.tensor([1, 1, 0, 0, 0])
    score = evaluate(Given(), [scores[:, :, None, None]], labels, 2)
    assert score.per_class == ((1, 3), (1, 2))
    assert score.top1 == 2 / 5
    assert score.balanced_accuracy == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert score.auroc == 4 / 6  # 3 beats all three negatives, −1 only −2


def test_three_classes_have_no_curve_and_an_empty_class_no_recall():
    scores = torch.eye(3)[[0, 0, 1]]
    score = evaluate(Given(), [scores[:, :, None, None]], torch.tensor([0, 1, 1]), 3)
    assert score.auroc is None
    assert score.balanced_accuracy == pytest.approx((1 + 1 / 2) / 2)


@pytest.mark.parametrize(
    ("margins", "labels", "area"),
    [
        ([1.0, 1.0, 1.0], [0, 1, 1], 0.5),
        ([0.0, 1.0], [0, 1], 1.0),
        ([1.0, 0.0], [0, 1], 0.0),
        ([0.0, 0.0, 1.0, 1.0], [0, 1, 0, 1], 0.5),
        ([0.0, 1.0], [1, 1], None),
        ([0.0, 1.0], [0, 0], None),
        ([0.0, float("nan")], [0, 1], None),
    ],
)
def test_area_under_the_curve(margins, labels, area):
    assert auroc(torch.tensor(margins), torch.tensor(labels)) == area
