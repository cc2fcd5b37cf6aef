"""How good a network is on a set of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from trainers.batches import Batch

CHUNK = 1024  # images of one forward pass without gradients


@dataclass(frozen=True, kw_only=True)
class Score:
    """A network on a set of images. `per_class` holds (correct, total) in the order of the task."""

    correct: int
    total: int
    loss: float
    top5: float | None
    per_class: tuple[tuple[int, int], ...]

    @property
    def top1(self) -> float:
        return self.correct / self.total


@torch.no_grad()
def evaluate(network: nn.Module, batch: Batch, classes: int) -> Score:
    """Top-1, top-5 (where there are more than five classes), mean loss and each class's counts.

    Leaves the network in evaluation mode.
    """
    network.eval()
    images, labels = batch
    loss = torch.zeros((), dtype=torch.float64, device=labels.device)
    right5 = torch.zeros((), dtype=torch.int64, device=labels.device)
    hits = []
    for x, y in zip(torch.split(images, CHUNK), torch.split(labels, CHUNK), strict=True):
        scores = network(x.clone())  # a user's network may begin with an operation in place
        loss += F.cross_entropy(scores.double(), y, reduction="sum")
        hits.append(scores.argmax(1) == y)
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
    )


@torch.no_grad()
def features(layers: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What `layers` make of images, in the chunks in which `evaluate` takes them."""
    return torch.cat([layers(chunk.clone()) for chunk in torch.split(images, CHUNK)])
