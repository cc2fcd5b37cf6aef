"""Score of a detector on a set of images, by the evaluators of COCO and PASCAL VOC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from trainers.datasets.sets import Objects
from trainers.detection.average_precision import Detections, all_points, curve, eleven_points
from trainers.evaluation import BoxScore

MOST_DETECTIONS = 100  # per image, the most that COCO's evaluator takes


def box_score(
    found: Sequence[Detections], objects: Sequence[Objects], classes: int, loss: float
) -> BoxScore:
    """Return the score of detections on images with objects, in the same order."""
    curves = [curve(found, objects, label) for label in range(classes)]
    average, average50 = coco(found, objects)
    by_class = tuple(None if of is None else all_points(of) for of in curves)
    counted = [of for of in curves if of is not None]
    return BoxScore(
        total=len(objects),
        loss=loss,
        map=average,
        map50=average50,
        map50_voc07=float(np.mean([eleven_points(of) for of in counted])) if counted else 0.0,
        map50_voc10=float(np.mean([all_points(of) for of in counted])) if counted else 0.0,
        per_class=by_class,
    )


def coco(found: Sequence[Detections], objects: Sequence[Objects]) -> tuple[float, float]:
    """Return COCO's mAP over overlaps of 0.5 to 0.95, and at 0.5 alone.

    COCO knows no difficult objects. They are given as crowds, which do not count either. Classes
    without objects are left out of the means; without any object both are 0.
    """
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(box_format="xyxy", iou_type="bbox", backend="pycocotools")
    predictions = [
        {
            "boxes": torch.from_numpy(boxes).double(),
            "scores": torch.from_numpy(scores).double(),
            "labels": torch.from_numpy(labels),
        }
        for boxes, scores, labels in found
    ]
    targets = [
        {
            "boxes": torch.from_numpy(x.boxes).double(),
            "labels": torch.from_numpy(x.labels),
            "iscrowd": torch.from_numpy(x.difficult).long(),
        }
        for x in objects
    ]
    metric.update(predictions, targets)
    values = metric.compute()
    average, average50 = (max(0.0, float(values[name])) for name in ("map", "map_50"))
    return average, average50
