"""Networks that never left chance: neither their loss nor their accuracy shows learning."""

from __future__ import annotations

import math

LEAST_LOSS = 0.98  # of the loss at chance: a training loss that was never lower shows no learning
LEAST_MAP = 0.01  # mAP at an overlap of 0.5 below which a detector shows no learning
Z = 1.959964  # 97.5 % of the normal distribution lie below


def at_chance(loss: float, chance: float, correct: int, total: int, guess: float) -> bool:
    """Return whether loss and accuracy are both at chance.

    `loss` is the lowest training loss, `chance` that of equal scores for all images, ln(classes)
    for cross-entropy. `correct` of `total` images were right. `guess` is the accuracy of naming the
    most frequent class. The 95 % interval of the accuracy decides, so that two networks of nearly
    one accuracy are judged alike.
    """
    return loss > LEAST_LOSS * chance and least_share(correct, total) <= guess


def least_share(correct: int, total: int) -> float:
    """Return the lower bound of the 95 % interval of a share (Wilson 1927)."""
    share, z2 = correct / total, Z * Z / total
    return (share + z2 / 2 - math.sqrt(z2 * (share * (1 - share) + z2 / 4))) / (1 + z2)
