"""A classifier on the outputs of frozen layers: the network is run once, and no gradient is taken.

It is a training of one step on all training images, so that it has all that a training has: rows,
scores, a proof that the frozen layers stay as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from trainers.canonical import key
from trainers.classifier import Classifier
from trainers.config import Training
from trainers.datasets import DataError
from trainers.evaluation import Score, evaluate
from trainers.learner import Learner
from trainers.losses import total_loss
from trainers.networks import Network
from trainers.task_data import READERS, TaskData

MOST_BYTES = 2**30  # of the features of all images together, which are kept in memory
DISTANCES = 2**24  # distances between images that are computed at once
MOST_ITERATIONS = 5000


class FeatureClassifier(Learner):
    """One training's classifier before its fit; `parent` is the base's checkpoint, if any.

    Raises `DataError` if the features of all images exceed `MOST_BYTES`.
    """

    def __init__(
        self,
        training: Training,
        data: TaskData,
        parent: bytes | None,
        readers: int = READERS,
    ):
        super().__init__(training, data, parent, feature_bytes=0, readers=readers)
        assert training.recipe.classifier is not None
        self.classifier: Classifier = training.recipe.classifier
        self.layers = self.network[: training.treatment.n].eval()
        self.network = Network.of(list(self.layers))
        self.seed = training.seed
        self.head: nn.Module | None = None
        self.images = sum(len(part.labels) for part in data.parts)
        self._features: dict[str, torch.Tensor] = {}

    def step(self, step: int, rate: float) -> torch.Tensor:  # noqa: ARG002
        """Fit the classifier, and return its mean loss on the training images.

        Of the values that the recipe names, the validation images choose.
        """
        labels = self.batches.data.train.labels
        head = _Head(self.features("train"))
        best = -1
        values = list(self.classifier.values)
        if self.classifier.kind == "knn":
            values = [x for x in values if x <= len(labels)] or [float(len(labels))]
        for value in values:
            head.classify = self._fitted(head.standard, labels, value)
            if (correct := self._scored(head, "validation").correct) > best:
                best, self.choice, chosen = correct, float(value), head.classify
        head.classify = chosen
        self.head = head
        if isinstance(chosen, nn.Linear):
            self.network = Network.of([*self.layers, nn.Sequential(head)])
        return torch.tensor(self._scored(head, "train").loss)

    def score(self, subset: str) -> Score:
        assert self.head is not None
        return self._scored(self.head, subset)

    def features(self, subset: str) -> torch.Tensor:
        """Return the pooled outputs (N, F) of layer n for all images of a set, as float64."""
        if subset not in self._features:
            if subset == "train":
                _, chunks = self.batches.training_sample(self.images)
            else:
                chunks = self.batches.chunks(subset)
            self._features[subset] = self._outputs(chunks)
        return self._features[subset].double()

    @torch.no_grad()
    def _outputs(self, chunks: Iterable[torch.Tensor]) -> torch.Tensor:
        outputs = []
        for images in chunks:
            with self.autocast:
                pooled = pool(self.layers(images), self.classifier.pool).float().cpu()
            self.feature_values = pooled.shape[1]
            if self.feature_values * 4 * self.images > MOST_BYTES:
                raise DataError(
                    f"the outputs of layer {len(self.layers)} are {self.feature_values} numbers "
                    f"per image, {self.feature_values * 4 * self.images / 1e9:.1f} GB in all: "
                    "pool them (recipe.classifier.pool), or choose another layer"
                )
            outputs.append(pooled)
        return torch.cat(outputs)

    def _fitted(self, standard: torch.Tensor, labels: torch.Tensor, value: float) -> nn.Module:
        """Return the classifier of standardised features (N, F) for one of the values."""
        if self.classifier.kind == "knn":
            return _Neighbours(standard, labels.cpu(), int(value), self.classes)
        return _linear(self._estimator(value), standard, labels.cpu(), self.classes)

    def _estimator(self, value: float) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import LinearSVC

        if self.classifier.kind == "logistic":
            return LogisticRegression(C=value, max_iter=MOST_ITERATIONS)
        state = key("svm", self.seed) % 2**31
        return LinearSVC(C=value, max_iter=MOST_ITERATIONS, random_state=state)

    def _scored(self, head: nn.Module, subset: str) -> Score:
        labels = getattr(self.batches.data, subset).labels.cpu()
        chunks = torch.split(self.features(subset), 1024)
        loss = partial(total_loss, self.recipe)
        return evaluate(head, chunks, labels, self.classes, loss)


def pool(outputs: torch.Tensor, rule: str) -> torch.Tensor:
    """Return vectors (B, F) of outputs (B, C, H, W), (B, T, C) or (B, F)."""
    places = {4: (2, 3), 3: (1,)}.get(outputs.ndim)
    if rule == "none" or places is None:
        return outputs.flatten(1)
    return outputs.mean(places) if rule == "average" else outputs.amax(places)


class _Head(nn.Module):
    """Standardise features by those of the training images, then classify them."""

    mean: torch.Tensor
    deviation: torch.Tensor
    classify: nn.Module

    def __init__(self, training: torch.Tensor):
        super().__init__()
        deviation = training.std(0, correction=0)
        self.register_buffer("mean", training.mean(0))
        self.register_buffer("deviation", torch.where(deviation > 1e-8, deviation, 1.0))
        self.standard = (training - self.mean) / self.deviation

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.classify((features - self.mean) / self.deviation)
        return scores


def _linear(
    estimator: Any, features: torch.Tensor, labels: torch.Tensor, classes: int
) -> nn.Linear:
    """Return the fitted linear classifier of scikit-learn as a layer.

    Scores are the logits of the regression, or the decision values of the machines. With two
    classes scikit-learn has one score, that of class 1.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(torch.get_num_threads()):
        # Where the penalty is weak it may not converge; the validation images choose all the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(features.numpy(), labels.numpy())
    linear = nn.Linear(features.shape[1], classes, dtype=torch.float64)
    weight, bias = map(torch.from_numpy, (estimator.coef_, estimator.intercept_))
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.fill_(-torch.inf)  # a class without training images
        if len(estimator.classes_) == 2:
            weight = torch.cat([torch.zeros_like(weight), weight])
            bias = torch.cat([torch.zeros_like(bias), bias])
        linear.weight[estimator.classes_] = weight
        linear.bias[estimator.classes_] = bias
    return linear


class _Neighbours(nn.Module):
    """Scores (B, C): logarithms of the shares of votes, with 1/C of a vote added to each class.

    Of classes with equally many votes, the first one wins.
    """

    def __init__(self, features: torch.Tensor, labels: torch.Tensor, k: int, classes: int):
        super().__init__()
        self.features, self.labels, self.k, self.classes = features, labels, k, classes

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        rows = max(1, DISTANCES // len(self.features))
        parts = [
            torch.cdist(some, self.features).topk(self.k, largest=False).indices
            for some in torch.split(features, rows)
        ]
        chosen = self.labels[torch.cat(parts)]
        votes = nn.functional.one_hot(chosen, self.classes).sum(1).double()
        return ((votes + 1 / self.classes) / (self.k + 1)).log()
