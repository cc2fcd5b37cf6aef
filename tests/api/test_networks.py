"""Trained networks from a store, and the outputs of their layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import layerwise as lw
from orchestrator.api.results import Results
from orchestrator.api.run import run
from orchestrator.api.sweeps import Sweep
from orchestrator.errors import LayerwiseError
from orchestrator.sweep.records import training_from
from tests.small import SMALL
from trainers.datasets import load
from trainers.tasks import members

Trained = tuple[Results, list[str]]


def test_a_network_gives_the_accuracy_of_its_row(trained: Trained) -> None:
    results, _ = trained
    for row in results.trials.arrow().to_pylist():
        network = results.load_network(row["id"])
        scores = results.features(row["id"], len(network), pool="none")
        training = training_from(row["training"])
        labels = load(training.target.dataset).test.labels
        wanted = members(training.target, "test", labels)[1]
        assert (scores.argmax(1) == wanted).sum() == row["correct"], row["name"]


def test_linear_classifiers_give_the_accuracy_of_their_rows(tmp_path: Path) -> None:
    changes = ["keep=all", "images_per_class=[all]"]
    sweep = lw.Sweep.load("extraction_vs_finetuning:tiny", changes)
    results = lw.run(sweep, tmp_path, inline=True)
    rows = results.trials.arrow().to_pylist()
    seen = set()
    for row in rows:
        training = training_from(row["training"])
        if (classifier := training.recipe.classifier) is None:
            continue
        if classifier.kind == "knn":
            with pytest.raises(LayerwiseError, match="looks for the nearest training images, and"):
                results.load_network(row["id"])
            continue
        seen.add((classifier.kind, row["treatment"]))
        network = results.load_network(row["id"])
        scores = results.features(row["id"], len(network), pool="none")
        labels = load(training.target.dataset).test.labels
        wanted = members(training.target, "test", labels)[1]
        assert (scores.argmax(1) == wanted).sum() == row["correct"], row["name"]
    assert seen == {
        *(("logistic", kind) for kind in ("transfer", "random", "pixels")),
        ("svm", "transfer"),
    }


def test_copied_layers_are_those_of_the_base(trained: Trained) -> None:
    results, _ = trained
    base, copy = (results.load_network(name) for name in ("B s0", "B2A s0"))
    assert [name for name, _ in base.named_children()] == [f"layer{n}" for n in range(1, 5)]
    for first, second in zip(base[:2].parameters(), copy[:2].parameters(), strict=True):
        assert torch.equal(first, second)
    assert not copy.training


def test_images_are_normalised_as_in_training(trained: Trained) -> None:
    results, _ = trained
    row = results.store.row(
        results.query("FROM trials WHERE name = 'A s0'").arrow()["id"][0].as_py()
    )
    assert row
    training = training_from(row["training"])
    test = load(training.target.dataset).test
    images = np.asarray(test.images)[members(training.target, "test", test.labels)[0]]
    own, given = results.features("A s0", 2), lw.features("A s0", 2, images, results)
    assert own.shape == given.shape == (len(images), 18)
    assert np.array_equal(own, given)


def test_images_that_are_normalised_already_stay(trained: Trained) -> None:
    images = np.zeros((3, 1, 12, 12), np.float32)
    outputs = lw.features("A s0", 1, images, trained[0], normalised=True)
    network = lw.load_network("A s0", trained[0], shape=(1, 12, 12))
    with torch.no_grad():
        wanted = network[:1](torch.zeros(3, 1, 12, 12)).mean((2, 3))
    assert np.array_equal(outputs, wanted.numpy())


@pytest.mark.parametrize(
    ("name", "layer", "images", "message"),
    [
        ("A s9", 1, None, "no trial 'A s9'; expected an id or a name such as"),
        ("A s0", 9, None, "A s0: there is no layer 9: expected 1..4"),
        ("A s0", 1, np.zeros((3, 12, 12)), "A s0: the images of digits are floats: expected an "),
        ("A s0", 1, np.zeros((3, 1, 5, 5), np.float32), "A s0: expected images "),
    ],
)
def test_mistakes_are_one_line(
    name: str, layer: int, images: np.ndarray | None, message: str, trained: Trained
) -> None:
    with pytest.raises(LayerwiseError) as error:
        trained[0].features(name, layer, images)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_an_unknown_rule_of_pooling_is_refused(trained: Trained) -> None:
    with pytest.raises(LayerwiseError) as error:
        trained[0].features("A s0", 1, pool="mean")  # type: ignore[arg-type]
    assert str(error.value) == "pool: expected one of average, maximum, none, found 'mean'"


def test_the_base_is_loaded_instead_of_its_nearest_neighbours(tmp_path: Path) -> None:
    sweep = SMALL.replace("name: small", "name: fitted")
    sweep = sweep.replace("[base, selffer, transfer]", "[base, transfer, pixels]")
    sweep = sweep.replace("batch: 8}", "batch: 8, classifier: {kind: knn, choices: [1]}}")
    results = run(Sweep.from_yaml(sweep), tmp_path, inline=True, progress=False)
    what = "looks for the nearest training images, and has no weights"
    with pytest.raises(LayerwiseError) as error:
        results.load_network("B1A s0")
    assert str(error.value) == f"B1A s0 {what}: load its base, 'B s0'"
    assert len(results.load_network("B s0")) == 4
    with pytest.raises(LayerwiseError) as error:
        results.load_network("A pixels s0")
    assert str(error.value) == f"A pixels s0 {what}: it has no base that could be loaded"


def test_weights_that_do_not_fit_or_are_gone_are_named(trained: Trained) -> None:
    results, _ = trained
    with pytest.raises(LayerwiseError, match=r"^A s0: the weights do not fit network conv8 for "):
        results.load_network("A s0", shape=(1, 40, 40))
    id = results.query("FROM trials WHERE name = 'A2B s0'").arrow()["id"][0].as_py()
    results.store.drop_checkpoints(id)
    with pytest.raises(LayerwiseError, match=r"^A2B s0: checkpoint .* is missing; `keep: all`"):
        results.load_network("A2B s0")
