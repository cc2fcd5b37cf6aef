"""Scores of a network on a set of images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Score:
    """Score of a network on a set of images."""

    correct: int
    """Images whose class has the highest score."""
    total: int
    """Images."""
    loss: float
    """Mean of the recipe's loss, without label smoothing and penalties."""
    top5: float | None
    """Share of images whose class is among the five highest; None up to five classes."""
    per_class: tuple[tuple[int, int], ...]
    """Pairs (correct, total) in the order of the task's labels."""
    auroc: float | None = None
    """Area under the receiver operating characteristic; of two classes only."""
    map50: ClassVar[None] = None

    @property
    def goal(self) -> float:
        """Number by which validation images choose, the higher the better: top-1."""
        return self.top1

    @property
    def top1(self) -> float:
        """Share of images whose class has the highest score."""
        return self.correct / self.total

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the classes' shares of correct images, over classes that have images."""
        shares = [correct / total for correct, total in self.per_class if total]
        return sum(shares) / len(shares)


@dataclass(frozen=True, kw_only=True)
class BoxScore:
    """Score of a detector on a set of images.

    mAP is the mean of the average precision over the classes that have objects in the set. Objects
    marked as difficult do not count.
    """

    total: int
    """Images."""
    loss: float
    """Mean over images of the sum of the detector's losses."""
    map: float
    """COCO's mAP: the mean over overlaps of 0.5, 0.55, …, 0.95."""
    map50: float
    """COCO's mAP at an overlap of 0.5."""
    map50_voc07: float
    """mAP by the rule of PASCAL VOC 2007: precision at eleven recalls."""
    map50_voc10: float
    """mAP by the rule of PASCAL VOC 2010: the area below the whole curve."""
    per_class: tuple[float | None, ...]
    """Average precision of each class by the rule of 2010; None without objects in the set."""
    top1: ClassVar[None] = None
    top5: ClassVar[None] = None

    @property
    def goal(self) -> float:
        """Number by which validation images choose, the higher the better: COCO's mAP at 0.5."""
        return self.map50


Scored = Score | BoxScore

cross_entropy = functools.partial(F.cross_entropy, reduction="sum")


class Tally:
    """Scores of the images of a set, chunk by chunk, until the score of the set is known."""

    def __init__(
        self,
        labels: torch.Tensor,
        classes: int,
        total_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = cross_entropy,
    ):
        """`labels` (N,) are below `classes`; `total_loss` sums the losses of scores for labels."""
        self.labels, self.classes, self.total_loss = labels, classes, total_loss
        self.loss = torch.zeros((), dtype=torch.float64, device=labels.device)
        self.correct5 = torch.zeros((), dtype=torch.int64, device=labels.device)
        self.hits: list[torch.Tensor] = []
        self.margins: list[torch.Tensor] = []
        self.done = 0

    def add(self, scores: torch.Tensor) -> None:
        """Add the scores (B, C) of the next images, in the order of the labels."""
        y = self.labels[self.done : self.done + len(scores)]
        self.done += len(scores)
        self.loss += self.total_loss(scores.double(), y)
        self.hits.append(scores.argmax(1) == y)
        if self.classes == 2:
            self.margins.append((scores[:, 1] - scores[:, 0]).double())
        if self.classes > 5:
            self.correct5 += (scores.topk(5).indices == y[:, None]).sum()

    def score(self) -> Score:
        """Return the score of the set, once all of its images are added."""
        labels, classes = self.labels, self.classes
        correct = torch.bincount(labels[torch.cat(self.hits)], minlength=classes).tolist()
        total = torch.bincount(labels, minlength=classes).tolist()
        return Score(
            correct=sum(correct),
            total=len(labels),
            loss=float(self.loss) / len(labels),
            top5=int(self.correct5) / len(labels) if classes > 5 else None,
            per_class=tuple(zip(correct, total, strict=True)),
            auroc=auroc(torch.cat(self.margins), labels) if self.margins else None,
        )


@torch.no_grad()
def evaluate(
    network: nn.Module,
    chunks: Iterable[torch.Tensor],
    labels: torch.Tensor,
    classes: int,
    total_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = cross_entropy,
) -> Score:
    """Return the score of a network on images whose labels (N,) are below `classes`.

    `chunks` are the images (B, C, H, W) in the order of the labels; the network may change them in
    place. `total_loss` sums the losses of scores (B, C) for labels (B,). The network stays in
    evaluation mode.
    """
    network.eval()
    tally = Tally(labels, classes, total_loss)
    for images in chunks:
        tally.add(network(images))
    return tally.score()


def auroc(margins: torch.Tensor, labels: torch.Tensor) -> float | None:
    """Return how often an image of class 1 has a greater margin (N,) than one of class 0.

    Ties count half. This is the area under the receiver operating characteristic (Hanley and McNeil
    1982). None if a class has no image, or a margin is not finite.
    """
    positive, negative = margins[labels == 1], margins[labels == 0].sort().values
    if not len(positive) or not len(negative) or not bool(margins.isfinite().all()):
        return None
    below = torch.searchsorted(negative, positive).sum()
    not_above = torch.searchsorted(negative, positive, right=True).sum()
    return int(below + not_above) / (2 * len(positive) * len(negative))
