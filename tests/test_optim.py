"""One and two steps of each optimiser by hand, and its state by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainers.config import Recipe
from trainers.networks import Network
from trainers.optim import load_optimiser_state, optimiser, optimiser_state, set_rate


def network() -> Network:
    torch.manual_seed(0)
    one = Network.of([nn.Conv2d(2, 3, 3), nn.Sequential(nn.Flatten(), nn.Linear(48, 2))])
    return one.double().to(memory_format=torch.channels_last)


def take_steps(one: Network, update: torch.optim.Optimizer, rates: list[float]) -> None:
    """Gradients are 1, 2, … in the first step, 2, 4, … in the second."""
    for step, rate in enumerate(rates, start=1):
        for number, parameter in enumerate(one.parameters(), start=1):
            parameter.grad = torch.full_like(parameter, step * number)
        set_rate(update, rate)
        update.step()


def test_two_steps_of_sgd() -> None:
    """v ← 0.9 v + (g + 0.1 w), w ← w − rate × v: the rate outside the momentum."""
    one, before = network(), list(network().parameters())
    recipe = Recipe(momentum=0.9, weight_decay=0.1)
    take_steps(one, optimiser(recipe, list(one.parameters())), [0.5, 0.25])
    for number, (after, w) in enumerate(zip(one.parameters(), before, strict=True), start=1):
        v1 = number + 0.1 * w
        w1 = w - 0.5 * v1
        v2 = 0.9 * v1 + 2 * number + 0.1 * w1
        torch.testing.assert_close(after, w1 - 0.25 * v2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_two_steps_of_adam(name: str) -> None:
    """AdamW decays the weights themselves, Adam their gradients."""
    one, before = network(), list(network().parameters())
    recipe = Recipe(optimiser=name, weight_decay=0.1)  # type: ignore[arg-type]
    take_steps(one, optimiser(recipe, list(one.parameters())), [0.5, 0.25])
    for number, (after, w) in enumerate(zip(one.parameters(), before, strict=True), start=1):
        expected, m, v = w, torch.zeros_like(w), torch.zeros_like(w)
        for step, rate in ((1, 0.5), (2, 0.25)):
            g = torch.full_like(w, step * number)
            if name == "adam":
                g = g + 0.1 * expected
            else:
                expected = expected - rate * 0.1 * expected
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            mean, square = m / (1 - 0.9**step), v / (1 - 0.999**step)
            expected = expected - rate * mean / (square.sqrt() + 1e-8)
        torch.testing.assert_close(after, expected, rtol=0, atol=1e-12)


STATE = {
    "sgd": ["momentum_buffer"],
    "adam": ["exp_avg", "exp_avg_sq", "step"],
    "adamw": ["exp_avg", "exp_avg_sq", "step"],
}


@pytest.mark.parametrize("name", STATE)
def test_state_by_name_goes_and_comes_back(name: str) -> None:
    """A loaded optimiser takes the third step to the same bits."""
    recipe = Recipe(optimiser=name, weight_decay=0.1)  # type: ignore[arg-type]
    one = network()
    one[0].requires_grad_(False)
    update = optimiser(recipe, list(one[1].parameters()))
    assert optimiser_state(update, one) == {}
    take_steps(one, update, [0.5, 0.25])
    state = {name: tensor.clone() for name, tensor in optimiser_state(update, one).items()}
    assert sorted(state) == sorted(
        f"layer2.1.{parameter}/{entry}" for parameter in ("weight", "bias") for entry in STATE[name]
    )

    again = network()
    again.load_state_dict(one.state_dict())
    resumed = optimiser(recipe, list(again[1].parameters()))
    load_optimiser_state(resumed, again, {n: t.contiguous() for n, t in state.items()})
    if name != "sgd":
        assert float(state["layer2.1.bias/step"]) == 2
        assert state["layer2.1.bias/step"].dtype == torch.float32
    take_steps(one, update, [0.125])
    take_steps(again, resumed, [0.125])
    for mine, its in zip(one.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_state_takes_the_memory_format_of_its_weights() -> None:
    one = network()
    update = optimiser(Recipe(), list(one.parameters()))
    state = {"layer1.weight/momentum_buffer": torch.randn(3, 2, 3, 3, dtype=torch.float64)}
    load_optimiser_state(update, one, state)
    [buffer] = update.state[one[0].weight].values()
    assert torch.equal(buffer, state["layer1.weight/momentum_buffer"])
    assert buffer.stride() == one[0].weight.stride()


def test_without_momentum_there_is_no_state() -> None:
    one = network()
    update = optimiser(Recipe(momentum=0), list(one.parameters()))
    take_steps(one, update, [0.5])
    assert optimiser_state(update, one) == {}
