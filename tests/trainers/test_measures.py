"""Measures of trained networks, against the same numbers computed apart."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import pytest
import torch
from torch import nn

from tests.trainings import BATCH_NORM, result, training
from trainers import checkpoint, measures
from trainers.canonical import freeze_options
from trainers.classifier import Classifier
from trainers.config import Training
from trainers.measures import Subject, Value, measure
from trainers.networks import Network, build, load_tensors
from trainers.predictors import h_score, leep, logme, nce
from trainers.results import Result
from trainers.similarity import cka, debiased_cka
from trainers.task_data import Whole, task_data
from trainers.transfer import starting_network

CPU = torch.device("cpu")


class Trained(NamedTuple):
    training: Training
    result: Result

    def seen(self, by: Training | None = None) -> Subject:
        """Return the network, which sees the images of its own training, or of another."""
        return Subject(
            training=self.training, weights=self.result.checkpoint, seen=by or self.training
        )

    @property
    def network(self) -> Network:
        """The network in evaluation mode, for images as its task has them."""
        one = self.training
        shape = task_data(one, CPU).view.seen
        network = build(one.network, len(one.target.labels), shape)
        load_tensors(network, checkpoint.unpack(self.result.checkpoint)[0])
        return network.eval()


@pytest.fixture(scope="module")
def source() -> Trained:
    return Trained(one := training(target="A"), result(one))


@pytest.fixture(scope="module")
def target() -> Trained:
    return Trained(one := training(target="B"), result(one))


@pytest.fixture(scope="module")
def copy(source: Trained) -> Trained:
    return Trained(one := training("transfer", 2), result(one, source.result.checkpoint))


def images(one: Training, subset: str) -> Whole:
    part = getattr(task_data(one, CPU), subset)
    assert isinstance(part, Whole)
    return part


def by_place(values: list[Value]) -> dict[tuple[str, float | None], float]:
    """Return the values by quantity and layer, or place on the line."""
    return {(x.quantity, x.position if x.layer is None else x.layer): x.value for x in values}


def test_weights_are_compared_with_the_first_ones(source: Trained, copy: Trained) -> None:
    parent = Subject(training=None, weights=source.result.checkpoint)
    found = by_place(measure("weights", [copy.seen(), parent], ()))
    assert set(found) == {(q, n) for q in ("distance", "norm", "cosine") for n in range(1, 6)}
    start = starting_network(
        copy.training, images(copy.training, "train").view.seen, torch.float32, parent.weights
    )
    for n, (before, after) in enumerate(zip(start, copy.network, strict=True), start=1):
        first, last = (
            torch.cat([p.detach().double().flatten() for p in layer.parameters()])
            for layer in (before, after)
        )
        assert found["distance", n] == pytest.approx(float((last - first).norm()), rel=1e-9)
        assert found["norm", n] == pytest.approx(float(first.norm()), rel=1e-9)
        assert (found["distance", n] == 0) == (n <= 2)


def test_a_line_goes_from_the_base_to_the_network(target: Trained, copy: Trained) -> None:
    values = measure("interpolation", [copy.seen(), target.seen()], ())
    found = by_place(values)
    for position, end in ((0.0, target), (1.0, copy)):
        score = end.result.validation
        assert found["loss", position] == pytest.approx(score.loss, rel=1e-6)
        assert found["top1", position] == score.top1
    losses = [x.value for x in values if x.quantity == "loss"]
    line = [losses[0] + i / 10 * (losses[-1] - losses[0]) for i in range(11)]
    heights = [loss - height for loss, height in zip(losses, line, strict=True)]
    assert found["barrier", None] == pytest.approx(max(0.0, *heights[1:-1]))
    assert {x.images for x in values} == {30}


def test_statistics_between_two_networks_are_measured_on_training_images() -> None:
    """Both ends are one network. Between them are its weights, with statistics of their own."""
    network = dataclasses.replace(BATCH_NORM, options=freeze_options({"width": 3}))
    one = Trained(t := training(network=network), result(t))
    found = by_place(measure("interpolation", [one.seen(), one.seen()], ()))
    anew = one.network.train()
    for module in anew.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics are those of the last batch
    part = images(t, "validation")
    with torch.no_grad():
        anew(images(t, "train").images.clone())
        scores = anew.eval()(part.images.clone())
    loss = float(nn.functional.cross_entropy(scores.double(), part.labels))
    assert found["loss", 0.0] == found["loss", 1.0] == pytest.approx(one.result.validation.loss)
    between = [found["loss", i / 10] for i in range(1, 10)]
    assert between == pytest.approx([loss] * 9, rel=1e-5)
    assert loss != pytest.approx(one.result.validation.loss, rel=1e-3)


def test_layers_are_compared_on_the_same_images(
    source: Trained, target: Trained, copy: Trained
) -> None:
    part = images(copy.training, "validation")
    for other in (source, target):
        seen = other.seen(copy.training if other is source else None)
        found = by_place(measure("similarity", [copy.seen(), seen], ()))
        x = y = part.images
        for n, (left, right) in enumerate(zip(copy.network, other.network, strict=True), start=1):
            with torch.no_grad():
                x, y = left(x.clone()), right(y.clone())
            assert found["cka", n] == pytest.approx(cka(x.flatten(1), y.flatten(1)), rel=1e-5)
            debiased = debiased_cka(x.flatten(1), y.flatten(1))
            assert found["debiased_cka", n] == pytest.approx(debiased, rel=1e-5, abs=1e-7)
        if other is source:
            assert [found["cka", n] for n in (1, 2)] == pytest.approx([1, 1], abs=1e-9)


def test_many_images_are_sampled_alike_for_both_networks(
    target: Trained, copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "SIMILAR_IMAGES", 12)
    values = measure("similarity", [copy.seen(), copy.seen()], ())
    assert {x.images for x in values} == {12}
    assert by_place(values)["cka", 1] == pytest.approx(1, abs=1e-9)
    values = measure("similarity", [copy.seen(), target.seen()], ())
    one = sum(x.nbytes for x in measures._outputs(copy.network, _first(copy.training)))
    monkeypatch.setattr(measures, "SIMILAR_BYTES", 7 * one)
    values = measure("similarity", [copy.seen(), target.seen()], ())
    assert {x.images for x in values} == {7}


def _first(one: Training) -> list[torch.Tensor]:
    return [images(one, "validation").images[:1].clone()]


def probe(n: int) -> Training:
    fields = {"steps": 1, "batch": 1, "evaluate_every": None}
    return training("transfer", n, classifier=Classifier(kind="logistic"), **fields)


def test_predictors_score_the_source_at_every_layer(source: Trained) -> None:
    subject = source.seen(probe(3))
    values = measure("predictors", [subject], (1, 3))
    found = by_place(values)
    part, network = images(probe(3), "train"), source.network
    with torch.no_grad():
        for n in (1, 3):
            outputs = network[:n](part.images.clone())
            features = (outputs.mean((2, 3)) if outputs.ndim == 4 else outputs).double()
            assert found["logme", n] == pytest.approx(logme(features, part.labels), rel=1e-5)
            assert found["h_score", n] == pytest.approx(h_score(features, part.labels), rel=1e-5)
            fitted = result(probe(n), source.result.checkpoint)
            assert found["probe", n] == fitted.validation.top1
        scores = network(part.images.clone()).double()
    expected = leep(scores.softmax(1), part.labels), nce(scores.argmax(1), part.labels)
    assert (found["leep", None], found["nce", None]) == pytest.approx(expected, rel=1e-5)
    assert {x.images for x in values} == {80}


def test_a_file_of_weights_has_no_classes_of_its_own(
    source: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "PREDICTOR_IMAGES", 20)
    subject = dataclasses.replace(source.seen(probe(1)), training=None)
    values = measure("predictors", [subject], (1,))
    assert {x.quantity: x.images for x in values} == {
        "logme": 20,
        "h_score": 20,
        "regularised_h_score": 20,
        "parc": 20,
        "knn_accuracy": 20,
        "probe": 80,
    }
