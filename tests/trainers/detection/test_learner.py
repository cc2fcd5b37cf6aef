"""Detectors that are trained: exact resumes with sampled boxes, mirrored boxes, random filters."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from trainers import datasets
from trainers.canonical import freeze_options
from trainers.config import DatasetRef, NetworkRef, Task, Training, Treatment
from trainers.datasets.sets import Objects
from trainers.detection.learner import DetectorLearner
from trainers.detector import Detector
from trainers.loop import train
from trainers.recipe import Recipe, Schedule
from trainers.results import Result, Snapshot
from trainers.task_data import task_data

CLASSES = ("circle", "square", "triangle", "cross")
NETWORK = NetworkRef(
    name="conv8", options=freeze_options({"conv": (16, 32, 32, 32, 32), "fc": (32,)})
)
RECIPE = Recipe(
    optimiser="adam",
    rate=0.002,
    schedule=Schedule(family="cosine", warmup=0.1),
    batch=8,
    steps=150,
    evaluate_every=150,
    mirror=True,
    detector=Detector(width=32),
)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Draw the images of this module into a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERWISE_DATA", str(tmp_path_factory.mktemp("data")))
        yield


def scenes() -> Task:
    options = {"classes": CLASSES, "size": 48, "most": 3, "images": 8, "held_out": 4, "test": 4}
    given = datasets.options_of("shapes", freeze_options(options))
    info = datasets.describe("shapes", given)
    ref = DatasetRef(name="shapes", options=given, fingerprint=info.fingerprint)
    return Task(dataset=ref, classes=(0, 1, 2, 3))


def run(training: Training, resume: bytes | None = None) -> Result:
    last = list(train(training, resume=resume))[-1]
    assert isinstance(last, Result)
    return last


def detector(kind: str = "base", n: int = 0, **recipe: Any) -> Training:
    return Training(
        target=scenes(),
        network=NETWORK,
        treatment=Treatment(kind=kind, n=n),  # type: ignore[arg-type]
        recipe=dataclasses.replace(RECIPE, **recipe),
    )


def test_a_resumed_training_is_equal_bit_for_bit() -> None:
    """Also of the detector that draws a sample of boxes at every step."""
    for kind in ("fcos", "faster_rcnn"):
        settings = Detector(kind=kind, width=8)  # type: ignore[arg-type]
        training = detector(steps=4, evaluate_every=2, batch=4, detector=settings)
        whole = run(training)
        stops = iter([True])
        rows = list(train(training, stop=lambda stops=stops: next(stops, False)))  # type: ignore[misc]
        assert isinstance(rows[-1], Snapshot)
        again = run(training, resume=rows[-1].data)
        assert (again.resumes, again.exact) == (1, True)
        assert again.checkpoint_sha256 == whole.checkpoint_sha256
        assert (again.test, again.validation) == (whole.test, whole.validation)
        assert [(x.train_loss, x.val_map50) for x in again.curve] == [
            (x.train_loss, x.val_map50) for x in whole.curve
        ]
        assert all(x.val_top1 is None for x in whole.curve)


def test_random_filters_stay_as_they_are() -> None:
    last = run(detector("random", 2, steps=2, evaluate_every=2))
    assert last.frozen_hash_start == last.frozen_hash_end != ""


def test_boxes_are_mirrored_with_their_image() -> None:
    learner = DetectorLearner.__new__(DetectorLearner)
    learner.width = 48
    objects = Objects(np.array([[2.0, 3, 10, 20]]), np.array([1]), np.array([False]))
    mirrored = learner._mirrored(objects)
    assert mirrored.boxes.tolist() == [[38, 3, 46, 20]]
    assert learner._mirrored(mirrored).boxes.tolist() == objects.boxes.tolist()


def test_the_data_of_a_detector_has_numbers_for_labels() -> None:
    learner = DetectorLearner(detector(), task_data(detector(), torch.device("cpu")), None, 0)
    try:
        images, labels = learner.batches(0)
        assert labels.tolist() == learner.batches.order(0).tolist()
        mirrored = learner.batches.mirrored(0)
        assert mirrored is not None
        assert (images.shape, mirrored.shape) == ((8, 3, 48, 48), (8,))
    finally:
        learner.close()
