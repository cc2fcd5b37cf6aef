"""Measures of trained networks: each yields values of layers, of places on a line, or of a whole.

Nothing is trained but probes, and no test image is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch.optim.swa_utils import update_bn

from trainers import checkpoint, streams
from trainers.batches import chunks_at
from trainers.canonical import digest, key
from trainers.config import Training
from trainers.evaluation import evaluate
from trainers.feature_classifier import FeatureClassifier
from trainers.losses import total_loss
from trainers.networks import Network, build, load_tensors, tensors_of
from trainers.predictors import PREDICTORS
from trainers.results import Runtime
from trainers.similarity import cka, debiased_cka
from trainers.task_data import READERS, Streamed, TaskData, Whole, task_data
from trainers.transfer import starting_network
from trainers.views import View
from trainers.weight_changes import Change, barrier, interpolated, layer_changes

POINTS = 11  # places on the line between two networks, both ends included
STATISTICS_IMAGES = 2000  # training images that normalisation is measured on, at most
PREDICTOR_IMAGES = 2000  # training images that predictors see, at most
SIMILAR_IMAGES = 1000  # validation images whose features are compared, at most
SIMILAR_BYTES = 2**29  # of all layers' features of one network for them, at most


class Value(NamedTuple):
    """One number of a measure."""

    quantity: str
    value: float
    layer: int | None = None
    position: float | None = None
    """Place on the line between two networks, 0..1."""
    images: int | None = None
    """Images that it is computed from."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained network."""

    training: Training | None
    """Training of the network; None for a file of weights, which has no last layer."""
    weights: bytes
    """Its checkpoint."""
    seen: Training | None = None
    """Training whose images it sees, in the form in which that training sees them."""


Subjects = Sequence[Subject]
Measure = Callable[[Subjects, Sequence[int], Runtime], Iterator[Value]]


def weights(subjects: Subjects, layers: Sequence[int], on: Runtime) -> Iterator[Value]:  # noqa: ARG001
    """Yield how far each layer's weights are from where they started.

    `subjects` are the network and what it copied layers of. `distance` is the norm of the change,
    `norm` that of the weights at the start, `cosine` that of the angle between both.
    """
    network, parent = subjects
    assert network.training is not None
    view = _data(network.training, on).view
    start = starting_network(network.training, _shape(view), view.dtype, parent.weights)
    end = checkpoint.unpack(network.weights)[0]
    for layer, change in layer_changes(tensors_of(start), end).items():
        for quantity in Change._fields:
            yield Value(quantity, getattr(change, quantity), layer)


def interpolation(subjects: Subjects, layers: Sequence[int], on: Runtime) -> Iterator[Value]:  # noqa: ARG001
    """Yield loss and accuracy on validation images on the line from a base to a network.

    `subjects` are the network and the base, which has the same shapes. Running statistics of
    normalisation between the ends are those of training images (Izmailov et al. 2018, section 3.2),
    since interpolated ones belong to no network; both ends have their own. `barrier` is the largest
    loss above the straight line between the losses of the ends.
    """
    end, start = subjects
    assert end.training is not None
    assert end.seen is not None
    data, training = _data(end.seen, on), end.training
    network = _network(training, data.view, end.weights, on)
    states = [checkpoint.unpack(x.weights)[0] for x in (start, end)]
    labels = data.validation.labels
    losses = []
    for point in range(POINTS):
        alpha = point / (POINTS - 1)
        load_tensors(network, interpolated(states[0], states[1], alpha))
        with _threads() as readers:
            if 0 < alpha < 1:
                rows = _sample(data.train, STATISTICS_IMAGES, training)
                update_bn(chunks_at(data.train, rows, readers), network)
            score = evaluate(
                network,
                chunks_at(data.validation, torch.arange(len(labels)), readers),
                labels,
                len(training.target.labels),
                partial(total_loss, training.recipe),
            )
        losses.append(score.loss)
        yield Value("loss", score.loss, None, alpha, score.total)
        yield Value("top1", score.top1, None, alpha, score.total)
    yield Value("barrier", barrier(losses), images=len(labels))


def similarity(subjects: Subjects, layers: Sequence[int], on: Runtime) -> Iterator[Value]:  # noqa: ARG001
    """Yield the similarity of two networks' outputs, layer by layer, on validation images.

    Features are all values of a layer's output. The images are a fixed sample of a task with more
    than `SIMILAR_IMAGES`, or with features of more than `SIMILAR_BYTES`.
    """
    networks, sets, most = [], [], SIMILAR_IMAGES
    for subject in subjects:
        assert subject.training is not None
        assert subject.seen is not None
        data = _data(subject.seen, on)
        network = _network(subject.training, data.view, subject.weights, on)
        with _threads() as readers:
            one = _outputs(network, chunks_at(data.validation, torch.arange(1), readers))
        most = min(most, SIMILAR_BYTES // sum(x.nbytes for x in one))
        networks.append(network)
        sets.append(data.validation)
    seen = subjects[0].seen
    assert seen is not None
    rows = _sample(sets[0], most, seen)
    outputs = []
    for network, part in zip(networks, sets, strict=True):
        with _threads() as readers:
            outputs.append(_outputs(network, chunks_at(part, rows, readers)))
    for layer, (x, y) in enumerate(zip(*outputs, strict=False), start=1):
        yield Value("cka", cka(x, y), layer, images=len(rows))
        yield Value("debiased_cka", debiased_cka(x, y), layer, images=len(rows))


def predictors(subjects: Subjects, layers: Sequence[int], on: Runtime) -> Iterator[Value]:
    """Yield scores that predict how well a target learns from a source, by the layers copied.

    The only subject is the source; it sees the training images of a probe, a classifier on its
    first layers. `PREDICTORS` take the mean of each channel, on a fixed sample of a task with more
    than `PREDICTOR_IMAGES`. `probe` is the validation top-1 of a logistic regression on all
    training images, the best over the strengths of its penalty. Scores that take the source's own
    classes have no layer, and a file of weights has none.
    """
    [source] = subjects
    assert source.seen is not None
    data = _data(source.seen, on)
    rows = _sample(data.train, PREDICTOR_IMAGES, source.seen)
    labels, all_images = data.train.labels.cpu()[rows], len(data.train.labels)
    for n in layers:
        training = dataclasses.replace(
            source.seen,
            treatment=dataclasses.replace(source.seen.treatment, n=n),
            adapt=source.seen.adapt.within(n),
        )
        with contextlib.closing(FeatureClassifier(training, data, source.weights)) as probe:
            features = probe.features("train")[rows]
            yield from _predictions("features", features, labels, n)
            probe.step(0, 0.0)
            yield Value("probe", probe.score("validation").top1, n, images=all_images)
    if source.training is not None:
        network = _network(source.training, data.view, source.weights, on)
        with _threads() as readers:
            scores = _outputs(network, chunks_at(data.train, rows, readers))[-1].double()
        yield from _predictions("probabilities", scores.softmax(1), labels)
        yield from _predictions("classes", scores.argmax(1), labels)


def _predictions(
    of: str, outputs: torch.Tensor, labels: torch.Tensor, layer: int | None = None
) -> Iterator[Value]:
    """Yield the predictors that take these outputs of a source."""
    for name, predictor in PREDICTORS.items():
        if predictor.of == of:
            yield Value(name, predictor.score(outputs, labels), layer, images=len(labels))


MEASURES: dict[str, Measure] = {
    "weights": weights,
    "interpolation": interpolation,
    "similarity": similarity,
    "predictors": predictors,
}


def measure(
    name: str,
    subjects: Subjects,
    layers: Sequence[int],
    on: Runtime = Runtime(),
    stop: Callable[[], bool] = lambda: False,
) -> list[Value] | None:
    """Return the values of a measure; None once `stop` returns True, which each value asks.

    Raises `NetworkError`, `DataError`, `CheckpointError`.
    """
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(on.threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    with threadpool_limits(on.threads):  # of numpy and scikit-learn
        values = []
        for value in MEASURES[name](subjects, layers, on):
            if stop():
                return None
            values.append(value)
        return values


def _data(training: Training, on: Runtime) -> TaskData:
    return task_data(
        training,
        torch.device(on.device),
        whole_bytes=on.whole_bytes,
        data_root=on.data_root,
        source_root=on.source_root,
    )


def _shape(view: View) -> tuple[int, int, int]:
    c, h, w = view.seen
    return c, h, w


def _network(training: Training, view: View, weights: bytes, on: Runtime) -> Network:
    """Return a training's network with these weights, in evaluation mode, on the device."""
    network = build(training.network, len(training.target.labels), _shape(view))
    network.to(view.dtype)
    load_tensors(network, checkpoint.unpack(weights)[0])
    return network.to(torch.device(on.device)).to(memory_format=torch.channels_last).eval()


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READERS, streams.READERS)


def _sample(part: Whole | Streamed, most: int, training: Training) -> torch.Tensor:
    """Return the rows of all images of a set, or of `most` of them drawn by a key of the task."""
    images = len(part.labels)
    if images <= most:
        return torch.arange(images)
    generator = torch.Generator().manual_seed(key("measured", digest(training.target)))
    return torch.randperm(images, generator=generator)[:most].sort().values


@torch.no_grad()
def _outputs(network: Network, chunks: Iterator[torch.Tensor]) -> list[torch.Tensor]:
    """Return the outputs (N, F) of every layer, on the CPU."""
    parts: list[list[torch.Tensor]] = [[] for _ in network]
    for images in chunks:
        outputs = images
        for layer, part in zip(network, parts, strict=True):
            outputs = layer(outputs)
            part.append(outputs.flatten(1).cpu().clone())  # the next layer may work in place
    return [torch.cat(of_layer) for of_layer in parts]
