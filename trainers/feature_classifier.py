"""A classifier on the outputs of frozen layers: the network is run once, and no gradient is taken.

It is a training of one step on all training images, so that it has all that a training has: rows,
scores, a proof that the frozen layers stay as they are.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from trainers.canonical import key
from trainers.classifier import Classifier
from trainers.config import Training
from trainers.datasets import DataError
from trainers.evaluation import Score, evaluate
from trainers.frozen_features import in_file
from trainers.learner import Learner
from trainers.linear_fit import fit_by_minibatches
from trainers.losses import total_loss
from trainers.networks import Network
from trainers.task_data import READERS, TaskData

MOST_BYTES = 2**30  # of the features of all images together; larger ones are kept on disk
DISTANCES = 2**24  # distances between images that are computed at once
ROWS = 1024  # of features that are standardised at once
MOST_ITERATIONS = 5000


class FeatureClassifier(Learner):
    """One training's classifier before its fit; `parent` is the base's checkpoint, if any.

    Features of more than `MOST_BYTES` are kept in a temporary file, which is read again and again:
    that is faster than to run the network for each pass. Linear classifiers are then fitted by
    minibatches (`linear_fit`). Raises `DataError` if the disk is too small for the features.
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
        self.head: _Head | None = None
        self.images = sum(len(part.labels) for part in data.parts)
        self._features: dict[str, torch.Tensor] = {}
        self._nearest: dict[str, torch.Tensor] = {}
        generator = torch.Generator().manual_seed(key("rows of features", self.seed))
        self.order = torch.randperm(len(data.train.labels), generator=generator)
        """Order of the training images in a file: a block of rows has images of all classes."""

    def step(self, step: int, rate: float) -> torch.Tensor:  # noqa: ARG002
        """Fit the classifier, and return its mean loss on the training images.

        Of the values that the recipe names, the validation images choose.
        """
        rule, whole = self.classifier.pool, self.features_in == "memory"
        head = _Head(self.features("train"), rule, whole=whole)
        best = -1
        for value, classify in self._candidates(head):
            head.classify = classify
            if (correct := self._scored(head, "validation").correct) > best:
                best, self.choice, chosen = correct, float(value), classify
        head.classify = chosen
        self.head = head
        if isinstance(chosen, nn.Linear):
            self.network = Network.of([*self.layers, nn.Sequential(head)])
        return torch.tensor(self._scored(head, "train").loss)

    def score(self, subset: str) -> Score:
        assert self.head is not None
        return self._scored(self.head, subset)

    def features(self, subset: str) -> torch.Tensor:
        """Return the pooled outputs (N, F) of layer n for all images of a set, as float32.

        Training images in a file are in the order `order`.
        """
        if subset not in self._features:
            if subset == "train":
                _, chunks = self.batches.training_sample(self.images)
            else:
                chunks = self.batches.chunks(subset)
            self._features[subset] = self._outputs(subset, chunks)
        return self._features[subset]

    def labels(self, subset: str) -> torch.Tensor:
        """Return the labels (N,) of a set in the order of `features`."""
        labels: torch.Tensor = getattr(self.batches.data, subset).labels.cpu()
        is_shuffled = subset == "train" and self.features_in == "disk"
        return labels[self.order] if is_shuffled else labels

    @torch.no_grad()
    def _outputs(self, subset: str, chunks: Iterable[torch.Tensor]) -> torch.Tensor:
        outputs: torch.Tensor | None = None
        images = len(getattr(self.batches.data, subset).labels)
        places, done = torch.arange(images), 0
        for some in chunks:
            with self.autocast:
                pooled = pool(self.layers(some), self.classifier.pool).float().cpu()
            if outputs is None:
                outputs = self._room(images, pooled.shape[1])
                if subset == "train" and self.features_in == "disk":
                    places = self.order.argsort()
            outputs[places[done : done + len(pooled)]] = pooled
            done += len(pooled)
        assert outputs is not None
        return outputs

    def _room(self, images: int, size: int) -> torch.Tensor:
        """Return a tensor (images, size), in memory or in a file that is gone with it."""
        self.feature_values, needed = size, size * 4 * self.images
        self.features_in = "memory" if needed <= MOST_BYTES else "disk"
        if self.features_in == "memory":
            return torch.empty(images, size)
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free + 4 * size * sum(map(len, self._features.values()))
        values = in_file((images, size), torch.float32) if needed <= free else None
        if values is None:
            what = f"outputs of layer {len(self.layers)}" if len(self.layers) else "pixels"
            raise DataError(
                f"the {what} are {size} numbers per image, {needed / 1e9:.1f} GB in all, and "
                f"{folder} has {free / 1e9:.1f} GB free: pool them (recipe.classifier.pool), "
                "choose another layer, or set TMPDIR to a larger disk"
            )
        return values

    def _candidates(self, head: _Head) -> Iterator[tuple[float, nn.Module]]:
        """Yield the values of the recipe, each with the classifier that is fitted with it."""
        labels, values = self.labels("train"), list(self.classifier.values)
        if self.classifier.kind == "knn":
            some = [int(x) for x in values if x <= len(labels)] or [len(labels)]
            self.neighbours = max(some)
            yield from ((k, _Votes(labels, k, self.classes)) for k in some)
        elif self.features_in == "memory":
            standard = head.standardised(self.features("train").double())
            for value in values:
                yield value, _linear(self._estimator(value), standard, labels, self.classes)
        else:
            known, numbers = torch.unique(labels, return_inverse=True)
            generator = torch.Generator().manual_seed(key("minibatches", self.seed))
            fitted = fit_by_minibatches(
                self.classifier.kind,
                self.features("train"),
                numbers,
                head.standardised,
                values,
                generator,
            )
            for value, layer in zip(values, fitted, strict=True):
                yield value, _spread(layer.weight, layer.bias, known, self.classes)

    def _estimator(self, value: float) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import LinearSVC

        if self.classifier.kind == "logistic":
            return LogisticRegression(C=value, max_iter=MOST_ITERATIONS)
        state = key("svm", self.seed) % 2**31
        return LinearSVC(C=value, max_iter=MOST_ITERATIONS, random_state=state)

    def _scored(self, head: _Head, subset: str) -> Score:
        if self.classifier.kind == "knn":
            network, inputs = head.classify, torch.split(self._neighbours_of(head, subset), ROWS)
        else:
            network = head
            inputs = tuple(torch.split(self.features(subset), ROWS))
        chunks = (some if some.dtype == torch.int64 else some.double() for some in inputs)
        loss = partial(total_loss, self.recipe)
        return evaluate(network, chunks, self.labels(subset), self.classes, loss)

    def _neighbours_of(self, head: _Head, subset: str) -> torch.Tensor:
        """Return the places (N, k) of each image's nearest training images, the nearest first."""
        if subset not in self._nearest:
            training = self.features("train")
            rows = max(1, DISTANCES // min(len(training), ROWS))
            self._nearest[subset] = torch.cat(
                [
                    nearest(head.standardised(some.double()), training, head, self.neighbours)
                    for some in torch.split(self.features(subset), rows)
                ]
            )
        return self._nearest[subset]


def nearest(features: torch.Tensor, training: torch.Tensor, head: _Head, k: int) -> torch.Tensor:
    """Return the places (B, k) of the nearest training images; only `ROWS` are read at once."""
    distances = torch.empty(len(features), 0, dtype=torch.float64)
    places = torch.empty(len(features), 0, dtype=torch.int64)
    for number, some in enumerate(torch.split(training, ROWS)):
        there = torch.cdist(features, head.standardised(some.double()))
        here = torch.arange(len(some)).expand(len(features), -1) + number * ROWS
        both, which = torch.cat([distances, there], 1), torch.cat([places, here], 1)
        distances, best = both.topk(min(k, both.shape[1]), largest=False)
        places = which.gather(1, best)
    return places


def pool(outputs: torch.Tensor, rule: str) -> torch.Tensor:
    """Return vectors (B, F) of outputs (B, C, H, W), (B, T, C) or (B, F).

    `rule` is one of `none`, `average` and `maximum`.
    """
    places = {4: (2, 3), 3: (1,)}.get(outputs.ndim)
    if rule == "none" or places is None:
        return outputs.flatten(1)
    if rule == "average":
        return outputs.mean(places)
    assert rule == "maximum", rule
    return outputs.amax(places)


class _Head(nn.Module):
    """Pool outputs by a rule, standardise them by those of the training images, classify them.

    `whole` says that the training features are in memory; others are read in chunks, twice.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    classify: nn.Module

    def __init__(self, training: torch.Tensor, rule: str, *, whole: bool):
        super().__init__()
        self.rule = rule
        if whole:
            values = training.double()
            mean, deviation = values.mean(0), values.std(0, correction=0)
        else:
            mean, deviation = moments(training)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", torch.where(deviation > 1e-8, deviation, 1.0))

    def standardised(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (B, F) less the mean of the training images, over their deviation."""
        return (features - self.mean) / self.deviation

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        vectors = pool(features, self.rule).float().double()
        scores: torch.Tensor = self.classify(self.standardised(vectors))
        return scores


def with_linear(layers: Sequence[nn.Module], rule: str, values: int, classes: int) -> Network:
    """Return layers below a linear classifier on so many values of theirs, pooled by a rule.

    Its weights are to be loaded. Its scores are float64.
    """
    head = _Head(torch.zeros(1, values), rule, whole=True)
    head.classify = nn.Linear(values, classes, dtype=torch.float64)
    return Network.of([*layers, nn.Sequential(head)])


def moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation (F,) of features (N, F) as float64, of which `ROWS` are read."""
    chunks = torch.split(features, ROWS)
    mean = sum((some.double().sum(0) for some in chunks), torch.zeros(())) / len(features)
    squares = ((some.double() - mean).square().sum(0) for some in chunks)
    return mean, (sum(squares, torch.zeros(())) / len(features)).sqrt()


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
    weight, bias = map(torch.from_numpy, (estimator.coef_, estimator.intercept_))
    return _spread(weight, bias, torch.from_numpy(estimator.classes_), classes)


def _spread(
    weight: torch.Tensor, bias: torch.Tensor, known: torch.Tensor, classes: int
) -> nn.Linear:
    """Return the layer of all classes; `known` are those with training images."""
    linear = nn.Linear(weight.shape[1], classes, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.fill_(-torch.inf)  # a class without training images
        if len(known) == 2:
            weight = torch.cat([torch.zeros_like(weight), weight])
            bias = torch.cat([torch.zeros_like(bias), bias])
        linear.weight[known] = weight
        linear.bias[known] = bias
    return linear


class _Votes(nn.Module):
    """Scores (B, C) of neighbours: logarithms of the shares of the first k, with 1/C added to each.

    Of classes with equally many votes, the first one wins.
    """

    def __init__(self, labels: torch.Tensor, k: int, classes: int):
        super().__init__()
        self.labels, self.k, self.classes = labels, k, classes

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        chosen = self.labels[places[:, : self.k]]
        votes = nn.functional.one_hot(chosen, self.classes).sum(1).double()
        return ((votes + 1 / self.classes) / (self.k + 1)).log()
