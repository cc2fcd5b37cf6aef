"""Classifiers on the outputs of frozen layers, against scikit-learn on the same outputs."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from tests.trainings import photo_training, result, training
from trainers import checkpoint, feature_classifier
from trainers.canonical import ConfigError
from trainers.classifier import Classifier
from trainers.config import Task, Training
from trainers.datasets import DataError
from trainers.feature_classifier import pool
from trainers.recipe import Recipe
from trainers.task_data import Whole, task_data
from trainers.transfer import starting_network

CPU = torch.device("cpu")


class Set(NamedTuple):
    features: np.ndarray
    labels: np.ndarray


@pytest.fixture(scope="module")
def parent() -> bytes:
    return result(training(target="A")).checkpoint


def fitted(kind: str, n: int = 3, *, origin: str = "transfer", **fields: Any) -> Training:
    classifier = Classifier(kind=kind, **fields)  # type: ignore[arg-type]
    return training(origin, n, steps=1, batch=10**6, evaluate_every=None, classifier=classifier)


def sets(one: Training, parent: bytes | None, rule: str = "average") -> dict[str, Set]:
    """The outputs of layer n as vectors, computed apart."""
    data = task_data(one, CPU)
    network = starting_network(one, data.view.seen, torch.float32, parent).eval()
    found = {}
    for name in ("train", "validation", "test"):
        part = getattr(data, name)
        assert isinstance(part, Whole)
        with torch.no_grad():
            outputs = network[: one.treatment.n](part.images)
        if outputs.ndim == 4:
            means, largest = outputs.mean((2, 3)), outputs.amax((2, 3))
            outputs = {"average": means, "maximum": largest, "none": outputs.flatten(1)}[rule]
        found[name] = Set(outputs.double().numpy(), part.labels.numpy())
    return found


def estimator(kind: str, value: float) -> Any:
    match kind:
        case "logistic":
            return LogisticRegression(C=value, max_iter=5000)
        case "svm":
            return LinearSVC(C=value, max_iter=5000, random_state=0)
    return KNeighborsClassifier(int(value))


def correct(pipeline: Any, part: Set) -> int:
    return int((pipeline.predict(part.features) == part.labels).sum())


@pytest.mark.parametrize(
    ("kind", "n", "rule", "choices"),
    [
        ("logistic", 2, "average", ()),
        ("logistic", 1, "maximum", (0.01, 0.1, 1.0)),
        ("logistic", 4, "none", (0.01, 1.0)),
        ("svm", 2, "none", (0.001, 0.1)),
        ("knn", 3, "average", (1, 4, 9, 10**6)),
    ],
)
def test_it_is_scikit_learns_with_the_value_that_validation_images_choose(
    kind: str, n: int, rule: str, choices: tuple[float, ...], parent: bytes
) -> None:
    one = fitted(kind, n, pool=rule, choices=choices)
    last, parts = result(one, parent), sets(one, parent, rule)
    classifier = one.recipe.classifier
    assert classifier is not None
    pipelines = {
        value: make_pipeline(StandardScaler(), estimator(kind, value)).fit(*parts["train"])
        for value in classifier.values
        if value <= len(parts["train"].labels)
    }
    scores = {v: correct(pipeline, parts["validation"]) for v, pipeline in pipelines.items()}
    assert last.choice == max(scores, key=lambda value: scores[value])
    chosen = pipelines[last.choice]
    assert last.test is not None
    for name, score in (("validation", last.validation), ("test", last.test)):
        assert score.correct == correct(chosen, parts[name])
    assert last.training.correct == correct(chosen, parts["train"])
    assert last.feature_values == parts["train"].features.shape[1]
    assert (last.steps, last.images) == (1, len(parts["train"].labels))
    if kind == "logistic":
        log = -chosen.predict_log_proba(parts["test"].features)
        expected = log[np.arange(len(log)), parts["test"].labels].mean()
        assert last.test.loss == pytest.approx(expected, rel=1e-6)


def test_frozen_layers_stay_and_a_linear_classifier_is_their_next_layer(parent: bytes) -> None:
    last = result(fitted("logistic"), parent)
    assert last.frozen_hash_start == last.frozen_hash_end != ""
    tensors, source = (checkpoint.unpack(x)[0] for x in (last.checkpoint, parent))
    copied = {name for name in tensors if name < "layer4"}
    assert all(torch.equal(tensors[name], source[name]) for name in copied)
    shapes = {name: tuple(x.shape) for name, x in tensors.items() if name not in copied}
    assert shapes == {
        "layer4.0.mean": (12,),
        "layer4.0.deviation": (12,),
        "layer4.0.classify.weight": (5, 12),
        "layer4.0.classify.bias": (5,),
    }
    assert set(checkpoint.unpack(result(fitted("knn"), parent).checkpoint)[0]) == copied


def test_the_same_again_is_the_same(parent: bytes) -> None:
    for kind in ("logistic", "svm", "knn"):
        first, second = (result(fitted(kind), parent) for _ in range(2))
        assert first.checkpoint == second.checkpoint
        assert first.test == second.test


def test_there_are_no_more_neighbours_than_images(parent: bytes) -> None:
    last = result(fitted("knn", choices=(10**6,)), parent)
    assert last.choice == last.images


@pytest.mark.parametrize("kind", ["logistic", "knn"])
def test_pixels_are_classified_without_a_network(kind: str) -> None:
    one = fitted(kind, 0, origin="pixels", pool="none", choices=(1.0,))
    data = task_data(one, CPU)
    train, test = (
        Set(part.images.flatten(1).double().numpy(), part.labels.numpy())  # type: ignore[union-attr]
        for part in (data.train, data.test)
    )
    last = result(one)
    expected = make_pipeline(StandardScaler(), estimator(kind, 1)).fit(*train)
    assert last.test is not None
    assert last.test.correct == correct(expected, test)
    assert last.training.correct == correct(expected, train)
    assert last.feature_values == data.view.shape[1] * data.view.shape[2]
    assert (last.frozen_hash_start, last.frozen_hash_end) == ("", "")
    stored = set(checkpoint.unpack(last.checkpoint)[0])
    names = ("mean", "deviation", "classify.weight", "classify.bias")
    assert stored == ({f"layer1.0.{name}" for name in names} if kind == "logistic" else set())


def test_random_filters_need_no_base() -> None:
    last = result(fitted("logistic", origin="random"))
    assert last.frozen_hash_start == last.frozen_hash_end != ""


def test_two_classes_have_a_curve(parent: bytes) -> None:
    one = fitted("svm")
    pair = Task(dataset=one.target.dataset, classes=(2, 4))
    last = result(dataclasses.replace(one, target=pair), parent)
    assert last.test is not None
    assert last.test.auroc is not None
    assert 0.5 < last.test.auroc <= 1


@pytest.mark.usefixtures("photo_data")
def test_streamed_images_have_the_same_features() -> None:
    def one() -> Training:
        recipe = {"steps": 1, "batch": 40, "classifier": Classifier(kind="logistic")}
        return photo_training("random", 1, **recipe)

    whole, streamed = (result(one(), whole_bytes=limit) for limit in (None, 0))
    assert whole.test == streamed.test
    assert whole.checkpoint == streamed.checkpoint


def test_pooling_by_hand() -> None:
    images = torch.arange(16.0).reshape(1, 2, 2, 4)
    assert pool(images, "average").tolist() == [[3.5, 11.5]]
    assert pool(images, "maximum").tolist() == [[7, 15]]
    assert pool(images, "none").tolist() == [list(range(16))]
    tokens = torch.arange(6.0).reshape(1, 3, 2)
    assert pool(tokens, "average").tolist() == [[2, 3]]
    assert pool(torch.ones(2, 3), "maximum").shape == (2, 3)


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No memory for features; the folder of temporary files, which is empty."""
    monkeypatch.setattr(feature_classifier, "MOST_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_neighbours_are_the_same_from_disk(
    parent: bytes, on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = fitted("knn", choices=(3.0, 5.0))
    last = result(one, parent)
    monkeypatch.setattr(feature_classifier, "ROWS", 7)
    in_parts = result(one, parent)
    monkeypatch.setattr(feature_classifier, "MOST_BYTES", 2**30)
    expected = result(one, parent)
    assert (last.features_in, expected.features_in) == ("disk", "memory")
    for some in (last, in_parts):
        assert (some.choice, some.test, some.training.correct) == (
            *(expected.choice, expected.test),
            expected.training.correct,
        )
    assert list(on_disk.iterdir()) == []


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_linear_classifiers_from_disk_are_nearly_those_from_memory(
    kind: str, parent: bytes, on_disk: Path
) -> None:
    one = fitted(kind, choices=(0.001, 0.01))
    last, again = result(one, parent), result(one, parent)
    assert (last.features_in, last.checkpoint) == ("disk", again.checkpoint)
    parts = sets(one, parent)
    assert last.choice is not None
    expected = make_pipeline(StandardScaler(), estimator(kind, last.choice)).fit(*parts["train"])
    assert last.test is not None
    assert abs(last.test.correct - correct(expected, parts["test"])) <= 0.02 * last.test.total
    assert list(on_disk.iterdir()) == []


@pytest.mark.usefixtures("on_disk")
def test_more_features_than_the_disk_holds_are_one_line(
    parent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(total=10**6, used=10**6 - 1000, free=1000)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    message = r"the outputs of layer 1 are 144 numbers per image, 0\.0 GB in all, and .* pool them"
    with pytest.raises(DataError, match=message):
        result(fitted("logistic", 1, pool="none"), parent)


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"kind": "knn", "choices": (1.5,)}, "choices", "expected numbers of neighbours"),
        ({"kind": "svm", "choices": (0.0,)}, "choices", "expected inverse strengths"),
        ({"kind": "svm", "choices": (float("nan"),)}, "choices", "expected inverse strengths"),
        ({"kind": "svm", "choices": (1, 1.0)}, "choices", "a value is given twice"),
    ],
)
def test_wrong_choices(fields: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as raised:
        Classifier(**fields)
    assert raised.value.field == field


def test_a_classifier_is_fitted_to_frozen_layers_only() -> None:
    for fields in ({"freeze": 2}, {"learn": (1,)}):
        with pytest.raises(ConfigError, match="leave out freeze and learn"):
            Recipe(classifier=Classifier(kind="knn"), **fields)


def test_labels_tell_classifiers_apart() -> None:
    assert Classifier(kind="knn").label == "knn (average)"
    assert Classifier(kind="svm", pool="none", choices=(1,)).label == "svm (none, 1)"
