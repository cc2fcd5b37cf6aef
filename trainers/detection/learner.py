"""A detector that learns: a network whose last layer is a torchvision detector."""

from __future__ import annotations

import numpy as np
import torch

from trainers.canonical import key
from trainers.config import Training
from trainers.datasets.sets import Objects
from trainers.detection.average_precision import Detections
from trainers.detection.heads import DetectorHead, with_detector
from trainers.detection.scores import box_score
from trainers.evaluation import BoxScore
from trainers.learner import Learner
from trainers.networks import Network, Shape
from trainers.task_data import READERS, TaskData
from trainers.transfer import training_mode


class DetectorLearner(Learner):
    """One training's detector before its first step; `parent` is its base's checkpoint, if any.

    The label of an image is its number among the images of its set.
    """

    def __init__(
        self,
        training: Training,
        data: TaskData,
        parent: bytes | None,
        feature_bytes: int,
        readers: int = READERS,
    ):
        self.objects = {s: getattr(data, s).objects for s in ("train", "validation", "test")}
        self.width = data.view.seen[-1]
        super().__init__(training, data, parent, feature_bytes, readers)

    def replace_upper(self, network: Network, training: Training, shape: Shape) -> Network:
        """Return the network with a detector in place of the layers above its backbone."""
        detector = training.recipe.detector
        assert detector is not None
        return with_detector(network, detector, len(training.target.labels), shape)

    @property
    def head(self) -> DetectorHead:
        """The last layer."""
        head = self.network[-1]
        assert isinstance(head, DetectorHead)
        return head

    def loss(self, scores: torch.Tensor, labels: torch.Tensor, step: int) -> torch.Tensor:
        """Return the loss of features (B, C, H, W) of the images of a 0-based step."""
        objects = [self.objects["train"][index] for index in labels.tolist()]
        mirrored = self.batches.mirrored(step)
        if mirrored is not None:
            flags = mirrored.tolist()
            objects = [
                self._mirrored(x) if flag else x for x, flag in zip(objects, flags, strict=True)
            ]
        return self.head.loss(scores, objects)

    def _mirrored(self, objects: Objects) -> Objects:
        """Return the objects of an image whose left and right are exchanged."""
        left, top, right, bottom = objects.boxes.T
        boxes = np.stack([self.width - right, top, self.width - left, bottom], axis=1)
        return Objects(boxes, objects.labels, objects.difficult)

    @torch.no_grad()
    def score(self, subset: str) -> BoxScore:
        """Score the detector as it is now on the `train`, `validation` or `test` images.

        Training images are not augmented, and are a fixed sample if they outnumber the test images.
        """
        if subset == "train":
            labels, chunks = self.batches.training_sample(len(self.objects["test"]))
        else:
            labels, chunks = getattr(self.batches.data, subset).labels, self.batches.chunks(subset)
        objects = [self.objects[subset][index] for index in labels.tolist()]
        self.network.eval()
        torch.manual_seed(key(*self.mask_key, "score"))  # some losses draw a sample of boxes
        found: list[Detections] = []
        loss = 0.0
        for chunk in chunks:
            for images in torch.split(chunk, self.batches.order.batch):
                true = objects[len(found) : len(found) + len(images)]
                with self.autocast:
                    features = self.network[self.cached_layers :](images)
                    loss += float(self.head.loss(features, true)) * len(images)
                    found += self.head.detections(features)
        training_mode(self.network, self.frozen_now)
        return box_score(found, objects, self.classes, loss / len(objects))
