"""Average precision on cases worked out by hand, and beside the evaluator of COCO."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainers.datasets.sets import Objects
from trainers.detection.average_precision import (
    Detections,
    all_points,
    curve,
    eleven_points,
    overlap,
)
from trainers.detection.scores import box_score, coco

Box = tuple[float, float, float, float]
HERE: Box = (0, 0, 10, 10)
THERE: Box = (20, 20, 40, 40)
NOWHERE: Box = (60, 60, 70, 70)


def objects(*boxes: Box, labels: list[int] | None = None, difficult: int = 0) -> Objects:
    """Return objects, the last ones of which are `difficult`."""
    flags = np.arange(len(boxes)) >= len(boxes) - difficult
    edges = np.array(boxes, np.float32).reshape(-1, 4)
    return Objects(edges, np.array(labels or [0] * len(boxes), np.int64), flags)


def found(*pairs: tuple[Box, float], labels: list[int] | None = None) -> Detections:
    """Return detections of pairs of box and score."""
    boxes = np.array([box for box, _ in pairs], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in pairs], np.float32)
    return Detections(boxes, scores, np.array(labels or [0] * len(pairs), np.int64))


def test_the_overlap_of_a_half_and_of_a_quarter() -> None:
    boxes = np.array([(0, 0, 10, 10), (0, 0, 10, 5), (5, 5, 15, 15), (10, 0, 20, 10)], float)
    overlaps = overlap(np.array(HERE, float), boxes)
    assert overlaps.tolist() == [1, 0.5, 25 / 175, 0]


def test_both_rules_on_a_curve_by_hand() -> None:
    """Three objects; right, wrong, right: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3.

    The eleven recalls see 1 at 0 to 0.3, 2/3 at 0.4 to 0.6 and 0 above: (4 + 3 · 2/3) / 11. The
    area is 1/3 · 1 + 1/3 · 2/3.
    """
    true = [objects(HERE, THERE), objects(HERE)]
    given = [found((HERE, 0.9), (NOWHERE, 0.8)), found((HERE, 0.7))]
    of = curve(given, true, 0)
    assert of is not None
    assert of.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert of.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert eleven_points(of) == pytest.approx(6 / 11)
    assert all_points(of) == pytest.approx(5 / 9)


def test_a_recall_that_is_one_of_the_eleven_counts() -> None:
    """One of ten objects is found: recall 0.1 exactly, precision 1 at the recalls 0 and 0.1."""
    of = curve([found((HERE, 0.5))] + [found()] * 9, [objects(HERE)] * 10, 0)
    assert of is not None
    assert (eleven_points(of), all_points(of)) == pytest.approx((2 / 11, 0.1))


def test_the_second_detection_of_an_object_is_wrong() -> None:
    of = curve([found((HERE, 0.9), ((0, 0, 10, 9), 0.8))], [objects(HERE)], 0)
    assert of is not None
    assert (of.precision.tolist(), of.recall.tolist()) == ([1, 0.5], [1, 1])
    assert all_points(of) == 1


def test_an_overlap_of_one_half_is_enough_and_less_is_not() -> None:
    half, less = (0, 0, 10, 5), (0, 0, 10, 4.9)
    for box, average in ((half, 1), (less, 0)):
        of = curve([found((box, 0.9))], [objects(HERE)], 0)
        assert of is not None
        assert all_points(of) == eleven_points(of) == average


def test_difficult_objects_and_their_detections_do_not_count() -> None:
    """Found or not, a difficult object is neither a hit nor a miss; twice found it is no error."""
    true = [objects(HERE, THERE, difficult=1)]
    without = curve([found((HERE, 0.5))], true, 0)
    with_it = curve([found((THERE, 0.9), (THERE, 0.8), (HERE, 0.5))], true, 0)
    assert without is not None
    assert with_it is not None
    assert all_points(without) == all_points(with_it) == 1
    assert with_it.recall.tolist() == [0, 0, 1]
    assert curve([found((THERE, 0.9))], [objects(THERE, difficult=1)], 0) is None


def test_classes_are_apart_and_those_without_objects_are_left_out() -> None:
    true = [objects(HERE, THERE, labels=[0, 2])]
    score = box_score([found((HERE, 0.9), (THERE, 0.8), labels=[0, 0])], true, 3, loss=1.5)
    assert (score.map50_voc07, score.map50_voc10) == (0.5, 0.5)
    assert score.per_class == (1.0, None, 0.0)
    assert (score.total, score.loss, score.goal) == (1, 1.5, pytest.approx(0.5))
    assert (score.top1, score.top5) == (None, None)


def test_nothing_found_is_a_score_of_zero() -> None:
    score = box_score([found()], [objects(HERE)], 2, loss=0.0)
    assert (score.map, score.map50, score.map50_voc07, score.map50_voc10) == (0, 0, 0, 0)
    assert score.per_class == (0.0, None)


def test_coco_on_the_same_curve_by_hand() -> None:
    """At 101 recalls: 1 at 0 to 0.33, 2/3 at 0.34 to 0.66, 0 above. All overlaps are 1."""
    true = [objects(HERE, THERE), objects(HERE)]
    given = [found((HERE, 0.9), (NOWHERE, 0.8)), found((HERE, 0.7))]
    expected = (34 + 33 * 2 / 3) / 101
    assert coco(given, true) == pytest.approx((expected, expected), abs=1e-6)


def test_coco_averages_over_overlaps() -> None:
    """An overlap of 0.72 is enough at 0.5, 0.55, 0.6, 0.65 and 0.7: five of ten."""
    assert coco([found(((0, 0, 10, 7.2), 0.9))], [objects(HERE)]) == pytest.approx((0.5, 1))


def test_coco_ignores_difficult_objects() -> None:
    true = [objects(HERE, THERE, difficult=1)]
    assert coco([found((THERE, 0.9), (HERE, 0.5))], true) == pytest.approx((1, 1))


def test_the_area_is_that_of_coco_but_for_its_sampling() -> None:
    """On random detections both rules of an overlap of 0.5 agree to the width of a recall step."""
    random = np.random.RandomState(0)
    true, given = [], []
    for _ in range(40):
        corners = random.uniform(0, 50, (3, 2))
        boxes = np.concatenate([corners, corners + random.uniform(5, 30, (3, 2))], 1)
        moved = boxes + random.normal(0, 2.5, boxes.shape)
        labels = random.randint(2, size=3)
        true.append(Objects(boxes.astype(np.float32), labels, np.zeros(3, bool)))
        scores = random.uniform(size=3).astype(np.float32)
        given.append(Detections(moved.astype(np.float32), scores, labels))
    score = box_score(given, true, 2, loss=0.0)
    assert 0.3 < score.map50 < 0.95
    assert math.isclose(score.map50, score.map50_voc10, abs_tol=0.01)
    assert score.map < score.map50
