"""Tests of losses and penalties: exact values."""

from __future__ import annotations

import math

import pytest
import torch

from tests.trainings import result, training
from trainers.learner import Learner
from trainers.losses import chance_loss, distance, mean_loss, total_loss
from trainers.recipe import Recipe
from trainers.task_data import task_data

SCORES = torch.tensor([[0.0, 1.0], [3.0, 0.0]])
LABELS = torch.tensor([1, 1])


def test_losses_of_two_images() -> None:
    """The errors of the first are (0, 0), of the second (3, −1)."""
    squared = Recipe(loss="squared_error")
    assert float(mean_loss(squared, SCORES, LABELS)) == 5.0
    assert float(total_loss(squared, SCORES, LABELS)) == 10.0
    entropies = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(3))]
    assert float(mean_loss(Recipe(), SCORES, LABELS)) == pytest.approx(sum(entropies) / 2)
    assert float(total_loss(Recipe(), SCORES, LABELS)) == pytest.approx(sum(entropies))


def test_label_smoothing_is_in_training_only() -> None:
    """A share of 0.2 makes targets of 0.9 and 0.1."""
    squared = Recipe(loss="squared_error", label_smoothing=0.2)
    assert float(mean_loss(squared, SCORES[:1], LABELS[:1])) == pytest.approx(2 * 0.1**2)
    assert float(total_loss(squared, SCORES[:1], LABELS[:1])) == 0.0
    wrong, right = math.log(1 + math.exp(1)), math.log(1 + math.exp(-1))
    smooth = Recipe(label_smoothing=0.2)
    expected = 0.9 * right + 0.1 * wrong
    assert float(mean_loss(smooth, SCORES[:1], LABELS[:1])) == pytest.approx(expected)
    assert float(total_loss(smooth, SCORES[:1], LABELS[:1])) == pytest.approx(right)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_no_equal_scores_are_better_than_chance(loss: str, smoothing: float) -> None:
    recipe = Recipe(loss=loss, label_smoothing=smoothing)  # type: ignore[arg-type]
    labels = torch.arange(4)
    best = chance_loss(recipe, 4)
    losses = [
        float(mean_loss(recipe, torch.full((4, 4), share).double(), labels))
        for share in (0.2, 0.25, 0.3)
    ]
    assert losses[1] == pytest.approx(best)
    assert min(losses) == pytest.approx(best)


def test_the_distance_pulls_copied_weights_back_instead_of_decay() -> None:
    start = {"w": torch.tensor([1.0, 2.0])}
    w = torch.tensor([1.0, 5.0], requires_grad=True)
    value = distance({"w": w, "other": torch.ones(3)}, start)
    value.backward()  # type: ignore[no-untyped-call]
    assert (float(value.detach()), w.grad is not None and w.grad.tolist()) == (4.5, [0.0, 3.0])

    parent = result(training(target="A")).checkpoint
    one = training("transfer", 2, fine_tuned=True, l2_sp=0.5, weight_decay=0.1)
    learner = Learner(one, task_data(one, torch.device("cpu")), parent, 0)
    decays = {len(g["params"]): g["weight_decay"] for g in learner.optimiser.param_groups}
    assert decays == {4: 0.0, 6: 0.1}  # two copied layers, three fresh ones


def test_penalties_keep_features_small_and_weights_near() -> None:
    parent = result(training(target="A")).checkpoint

    def after(**recipe: float) -> tuple[float, float]:
        """The distance of copied weights from their start, and the mean square of features."""
        one = training("transfer", 2, fine_tuned=True, weight_decay=0.0, **recipe)
        data = task_data(one, torch.device("cpu"))
        learner = Learner(one, data, parent, 0)
        names = ("layer1.conv.weight", "layer2.conv.weight")
        start = {name: learner.network.state_dict()[name].clone() for name in names}
        for step in range(20):
            learner.step(step, 0.05)
        features = learner.network[:2](next(data.validation.chunks()))
        return (
            float(distance(learner.network.state_dict(), start)),
            float(features.detach().square().mean()),
        )

    plain, near, small = after(), after(l2_sp=10.0), after(feature_l2=1.0)
    assert near[0] < 0.1 * plain[0]
    assert small[1] < 0.5 * plain[1]


def test_squared_error_learns_and_is_at_chance_by_its_own_measure() -> None:
    chance = chance_loss(Recipe(loss="squared_error"), 5)
    short, long = (
        result(training(loss="squared_error", rate=0.01, steps=steps)) for steps in (20, 800)
    )
    assert long.train_loss < 0.9 * chance < short.train_loss
    assert (short.at_chance, long.at_chance) == (True, False)
