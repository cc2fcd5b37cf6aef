"""How good a network is on a set of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Score:
    """A network on a set of images. `per_class` holds (correct, total) in the order of the task.

    `auroc`, the area under the receiver operating characteristic, is known of two classes only.
    """

    correct: int
    total: int
    loss: float
    top5: float | None
    per_class: tuple[tuple[int, int], ...]
    auroc: float | None = None

    @property
    def top1(self) -> float:
        return self.correct / self.total

    @property
    def balanced_accuracy(self) -> float:
        """The mean over the classes that have images of the share that is right."""
        shares = [correct / total for correct, total in self.per_class if total]
        return sum(shares) / len(shares)


@torch.no_grad()
def evaluate(
    network: nn.Module, chunks: Iterable[torch.Tensor], labels: torch.Tensor, classes: int
) -> Score:
    """Top-1, top-5 (where there are more than five classes), mean loss and each class's counts.

    `chunks` are images in the order of `labels` (N,), which the network may change in place. Leaves
    the network in evaluation mode.
    """
    network.eval()
    loss = torch.zeros((), dtype=torch.float64, device=labels.device)
    right5 = torch.zeros((), dtype=torch.int64, device=labels.device)
    hits, margins = [], []
    done = 0
    for images in chunks:
        y = labels[done : done + len(images)]
        done += len(images)
        scores = network(images)
        loss += F.cross_entropy(scores.double(), y, reduction="sum")
        hits.append(scores.argmax(1) == y)
        if classes == 2:
            margins.append((scores[:, 1] - scores[:, 0]).double())
        if classes > 5:
            right5 += (scores.topk(5).indices == y[:, None]).sum()
    hit = torch.cat(hits)
    correct = torch.bincount(labels[hit], minlength=classes).tolist()
    total = torch.bincount(labels, minlength=classes).tolist()
    return Score(
        correct=sum(correct),
        total=len(labels),
        loss=float(loss) / len(labels),
        top5=int(right5) / len(labels) if classes > 5 else None,
        per_class=tuple(zip(correct, total, strict=True)),
        auroc=auroc(torch.cat(margins), labels) if margins else None,
    )


def auroc(margins: torch.Tensor, labels: torch.Tensor) -> float | None:
    """How often an image of class 1 has a greater margin (N,) than one of class 0; ties count half.

    That is the area under the receiver operating characteristic (Hanley and McNeil 1982). None
    where one of the classes has no image, or a margin is not a number.
    """
    positive, negative = margins[labels == 1], margins[labels == 0].sort().values
    if not len(positive) or not len(negative) or not bool(margins.isfinite().all()):
        return None
    below = torch.searchsorted(negative, positive).sum()
    not_above = torch.searchsorted(negative, positive, right=True).sum()
    return int(below + not_above) / (2 * len(positive) * len(negative))


@torch.no_grad()
def features(layers: nn.Module, chunks: Iterable[torch.Tensor]) -> torch.Tensor:
    """What `layers` make of the images that `evaluate` takes in the same chunks."""
    return torch.cat([layers(images) for images in chunks])
