"""Average precision by the rules of PASCAL VOC, of 2007 and of 2010.

Everingham and others, The PASCAL Visual Object Classes (VOC) Challenge, IJCV 2010, section 4.2;
`VOCevaldet.m` of the development kits of 2007 and 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trainers.datasets.sets import Objects

LEAST_OVERLAP = 0.5  # intersection over union at which a detection finds an object


class Detections(NamedTuple):
    """Boxes that a detector gives for one image."""

    boxes: np.ndarray
    """Left, top, right and bottom edge: (K, 4)."""
    scores: np.ndarray
    """Confidences (K,)."""
    labels: np.ndarray
    """Class indices (K,)."""


class Curve(NamedTuple):
    """Precision and recall of one class after each detection, the most confident first."""

    precision: np.ndarray
    recall: np.ndarray


def curve(found: Sequence[Detections], objects: Sequence[Objects], label: int) -> Curve | None:
    """Return the curve of a class over images; None if no object of it counts.

    A detection is right if it overlaps an object of its class by at least one half, and is the
    first to do so: the second one is wrong. Of several objects the one of the largest overlap
    decides. Difficult objects do not count, and neither do detections of them.
    """
    rows = [
        (-score, image, box)
        for image, (boxes, scores, labels) in enumerate(found)
        for box, score in zip(boxes[labels == label], scores[labels == label], strict=True)
    ]
    rows.sort(key=lambda row: row[0])
    true = [x.boxes[x.labels == label] for x in objects]
    difficult = [x.difficult[x.labels == label] for x in objects]
    taken = [np.zeros(len(boxes), bool) for boxes in true]
    positives = sum(int((~flags).sum()) for flags in difficult)
    if not positives:
        return None
    right, wrong = np.zeros(len(rows)), np.zeros(len(rows))
    for row, (_, image, box) in enumerate(rows):
        overlaps = overlap(box, true[image])
        best = int(np.argmax(overlaps)) if len(overlaps) else -1
        if best < 0 or overlaps[best] < LEAST_OVERLAP:
            wrong[row] = 1
        elif not difficult[image][best]:
            right[row], wrong[row] = not taken[image][best], taken[image][best]
            taken[image][best] = True
    right, wrong = np.cumsum(right), np.cumsum(wrong)
    return Curve(right / np.maximum(right + wrong, 1), right / positives)


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union (K,) of a box (4,) with boxes (K, 4)."""
    first, last = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.clip(last - first, 0, None).prod(1)
    area, areas = (box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(1)
    overlaps: np.ndarray = common / (area + areas - common)
    return overlaps


def eleven_points(of: Curve) -> float:
    """Return the average precision of VOC 2007.

    It is the mean over the recalls 0, 0.1, …, 1 of the highest precision at that recall or above.
    """
    highest = [of.precision[of.recall >= tenth / 10].max(initial=0.0) for tenth in range(11)]
    return float(np.mean(highest))


def all_points(of: Curve) -> float:
    """Return the average precision of VOC 2010: the area below the falling hull of the curve."""
    recall = np.concatenate([[0.0], of.recall])
    hull = np.maximum.accumulate(of.precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * hull))
