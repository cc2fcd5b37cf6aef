"""Losses and penalties of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from trainers.recipe import Recipe


def mean_loss(recipe: Recipe, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean training loss of scores (B, C) for labels (B,).

    Label smoothing mixes the targets with equal shares of all classes (Szegedy et al. 2016).
    """
    smoothing = recipe.label_smoothing
    if recipe.loss == "cross_entropy":
        return F.cross_entropy(scores, labels, label_smoothing=smoothing)
    return _squared_errors(scores, labels, smoothing).mean()


def losses_of_lanes(recipe: Recipe, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean training losses (K,) of scores (K, B, C) for labels (K, B)."""
    smoothing, lanes = recipe.label_smoothing, len(scores)
    flat, y = scores.flatten(0, 1), labels.flatten()
    if recipe.loss == "cross_entropy":
        losses = F.cross_entropy(flat, y, label_smoothing=smoothing, reduction="none")
    else:
        losses = _squared_errors(flat, y, smoothing)
    return losses.view(lanes, -1).mean(1)


def total_loss(recipe: Recipe, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the sum of the losses of scores (B, C) for labels (B,), without label smoothing."""
    if recipe.loss == "cross_entropy":
        return F.cross_entropy(scores, labels, reduction="sum")
    return _squared_errors(scores, labels, 0.0).sum()


def _squared_errors(scores: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return the squared differences from one-hot targets, summed over classes (B,)."""
    classes = scores.shape[1]
    targets = F.one_hot(labels, classes).to(scores.dtype)
    return (scores - targets * (1 - smoothing) - smoothing / classes).square().sum(1)


def chance_loss(recipe: Recipe, classes: int) -> float:
    """Return the lowest training loss of scores that are the same for all images.

    All classes are taken to have the same number of images.
    """
    if recipe.loss == "cross_entropy":
        return math.log(classes)
    return (1 - recipe.label_smoothing) ** 2 * (1 - 1 / classes)


def distance(
    parameters: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Return half the squared distance of parameters from where they started: L2-SP.

    Its gradient is the difference, as that of weight decay is the weight (Li et al. 2018).
    """
    parts = [(parameters[name] - start[name]).square().sum() for name in start]
    return torch.stack(parts).sum() / 2
