"""Linear classifiers by minibatches, for features that do not fit in memory.

The objectives are those of scikit-learn's `LogisticRegression` and `LinearSVC`, divided by C times
the number of images. All strengths of the penalty are fitted in the same passes over the features.
Adam with a rate that falls to 0 replaces L-BFGS and LIBLINEAR, which take hundreds of passes for
each strength. Where the penalty matters, the objective ends within 1 % of scikit-learn's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

PASSES = 50  # over all training images, at least
STEPS = 4000  # at least
BATCH = 128

Standardise = Callable[[torch.Tensor], torch.Tensor]


def fit_by_minibatches(
    kind: str,
    features: torch.Tensor,
    labels: torch.Tensor,
    standardise: Standardise,
    strengths: Sequence[float],
    generator: torch.Generator,
) -> list[nn.Linear]:
    """Return a linear classifier for each inverse strength C of the penalty, as float64.

    `features` (N, F) may be mapped from a file: a block of rows is read at a time, in the order
    that `generator` draws, so the rows themselves must be in random order. `labels` (N,) count from
    0 without gaps. With two classes there is one score, that of class 1.
    """
    classes = int(labels.max()) + 1
    outputs = 1 if classes == 2 else classes
    weight = torch.zeros(len(strengths), outputs, features.shape[1], dtype=torch.float64)
    bias = torch.zeros(len(strengths), 1, outputs, dtype=torch.float64)
    penalty = 1 / (torch.tensor(strengths, dtype=torch.float64) * len(labels))
    blocks = math.ceil(len(labels) / BATCH)
    passes = max(PASSES, math.ceil(STEPS / blocks))
    rate = 1 / math.sqrt(features.shape[1])  # scores of standardised features move by about 1
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    adam = torch.optim.Adam(parameters, rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, passes * blocks)
    for _ in range(passes):
        for block in torch.randperm(blocks, generator=generator).tolist():
            rows = slice(block * BATCH, (block + 1) * BATCH)
            seen, y = standardise(features[rows].double()), labels[rows]
            scores = torch.einsum("nf,vkf->vnk", seen, weight) + bias
            loss = _loss(kind, scores, y).mean(1)
            squares = weight.square().sum((1, 2))
            if kind == "svm":  # LIBLINEAR penalises the bias too
                squares = squares + bias.square().sum((1, 2))
            adam.zero_grad()
            (loss + penalty / 2 * squares).sum().backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
    return [_layer(w, b[0]) for w, b in zip(weight.detach(), bias.detach(), strict=True)]


def _loss(kind: str, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the losses (V, N) of scores (V, N, K): cross-entropy, or squared hinges, summed."""
    if kind == "logistic":
        if scores.shape[2] == 1:
            scores = torch.cat([torch.zeros_like(scores), scores], 2)
        several = labels.expand(len(scores), -1)
        return F.cross_entropy(scores.transpose(1, 2), several, reduction="none")
    if scores.shape[2] == 1:
        signs = (2 * labels - 1)[:, None]
    else:
        signs = 2 * F.one_hot(labels, scores.shape[2]) - 1
    return (1 - signs * scores).clamp(min=0).square().sum(2)


def _layer(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], len(weight), dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return linear
