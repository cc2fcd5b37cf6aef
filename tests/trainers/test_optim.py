"""Steps of each optimiser by hand, and its state by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainers.networks import Network
from trainers.optim import (
    CaffeSGD,
    load_optimiser_state,
    optimiser,
    optimiser_state,
    set_rate,
)
from trainers.recipe import Recipe, Schedule
from trainers.schedules import factor


def network() -> Network:
    torch.manual_seed(0)
    one = Network.of([nn.Conv2d(2, 3, 3), nn.Sequential(nn.Flatten(), nn.Linear(48, 2))])
    return one.double().to(memory_format=torch.channels_last)


def learning(one: Network) -> dict[str, nn.Parameter]:
    return {name: p for name, p in one.named_parameters() if p.requires_grad}


def take_steps(one: Network, update: torch.optim.Optimizer, rates: list[float]) -> None:
    """Take steps with gradients 1, 2, … in the first, 2, 4, … in the second, and so on."""
    for step, rate in enumerate(rates, start=1):
        for number, parameter in enumerate(one.parameters(), start=1):
            parameter.grad = torch.full_like(parameter, step * number)
        set_rate(update, rate)
        update.step()


FACTORS = {"copied_rate": 0.5, "layer_decay": 0.1}


@pytest.mark.parametrize("name", ["sgd", "caffe_sgd", "adam", "adamw"])
def test_copied_layers_have_rates_of_their_own(name: str) -> None:
    one = Network.of([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)])
    named = dict(one.named_parameters())
    copied = [name for name in named if not name.startswith("layer3.")]
    update = optimiser(Recipe(optimiser=name, **FACTORS), named, copied)  # type: ignore[arg-type]
    set_rate(update, 8.0)
    rates = {id(p): group["lr"] for group in update.param_groups for p in group["params"]}
    weights = {name: rates[id(p)] for name, p in named.items() if name.endswith("weight")}
    assert weights == {"layer1.weight": 0.4, "layer2.weight": 4.0, "layer3.weight": 8.0}
    assert len(rates) == len(named)


def test_without_copied_layers_there_is_one_rate() -> None:
    named = dict(network().named_parameters())
    first = [name for name in named if name.startswith("layer1.")]
    for recipe, copied in ((Recipe(**FACTORS), []), (Recipe(), first)):
        assert len(optimiser(recipe, named, copied).param_groups) == 1
    learns = {name: (name not in first, True) for name in named}  # momenta begin apart
    apart = optimiser(Recipe(fresh_first=0.5), named, first, learns)
    assert [len(group["params"]) for group in apart.param_groups] == [2, 2]


def test_two_steps_of_sgd() -> None:
    """v ← 0.9 v + (g + 0.1 w), w ← w − rate × v: the rate outside the momentum."""
    one, before = network(), list(network().parameters())
    recipe = Recipe(momentum=0.9, weight_decay=0.1)
    take_steps(one, optimiser(recipe, dict(one.named_parameters())), [0.5, 0.25])
    for number, (after, w) in enumerate(zip(one.parameters(), before, strict=True), start=1):
        v1 = number + 0.1 * w
        w1 = w - 0.5 * v1
        v2 = 0.9 * v1 + 2 * number + 0.1 * w1
        torch.testing.assert_close(after, w1 - 0.25 * v2, rtol=0, atol=1e-12)


def coast(update: torch.optim.Optimizer, weight: nn.Parameter, rates: list[float]) -> list[float]:
    """Return a weight after each step; all gradients are 1."""
    values = []
    for rate in rates:
        weight.grad = torch.ones_like(weight)
        set_rate(update, rate)
        update.step()
        values.append(weight.item())
    return values


def test_caffes_velocity_coasts_over_a_drop_of_the_rate() -> None:
    """By hand, with momentum 1/2, decay 1/4 and rates 1/2, 1/2, 1/8, 1/8; all exact in binary.

    weight: v = 1/2 (1 + 1/4 × 1)                    = 5/8        w = 1 − 5/8   = 3/8
            v = 5/16 + 1/2 (1 + 3/32)                = 55/64      w             = −31/64
            v = 55/128 + 1/8 (1 − 31/256)            = 1105/2048  w             = −2097/2048
            v = 1105/4096 + 1/8 (1 − 2097/8192)      = 23775/65536, w           = −90879/65536
    bias:   twice the rate and no decay: v = 1, 3/2, 1, 3/4
    """
    one = Network.of([nn.Linear(1, 1)]).double()
    [weight, bias] = one.parameters()
    nn.init.ones_(weight)
    nn.init.zeros_(bias)
    update = optimiser(
        Recipe(optimiser="caffe_sgd", momentum=0.5, weight_decay=0.25),
        dict(one.named_parameters()),
    )
    trace = []
    for rate in (0.5, 0.5, 0.125, 0.125):
        weight.grad, bias.grad = torch.ones_like(weight), torch.ones_like(bias)
        set_rate(update, rate)
        update.step()
        trace.append((weight.item(), bias.item()))
    assert trace == [
        (3 / 8, -1.0),
        (-31 / 64, -2.5),
        (-2097 / 2048, -3.5),
        (-90879 / 65536, -4.25),
    ]


def test_caffes_solver_over_a_drop_at_its_own_iteration_numbers() -> None:
    """Caffe's rate of iteration i = 1, 2, … is base × gamma^⌊i / stepsize⌋.

    By hand, with base 1/2, gamma 1/4 and stepsize 2: rates 1/2, 1/8, 1/8, 1/32; momentum 1/2, decay
    1/4, gradients 1; all exact in binary.
    weight: v = 1/2 (1 + 1/4 × 1)                        = 5/8             w = 3/8
            v = 5/16 + 1/8 (1 + 3/32)                    = 115/256         w = −19/256
            v = 115/512 + 1/8 (1 − 19/1024)              = 2845/8192       w = −3453/8192
            v = 2845/16384 + 1/32 (1 − 3453/32768)       = 211395/2²⁰      w = −653379/2²⁰
    bias:   twice the rate and no decay: v = 1, 3/4, 5/8, 3/8
    """
    schedule = Schedule(family="step", every=2, gamma=0.25, count_from=1)
    recipe = Recipe(
        optimiser="caffe_sgd", rate=0.5, momentum=0.5, weight_decay=0.25, schedule=schedule
    )
    one = Network.of([nn.Linear(1, 1)]).double()
    [weight, bias] = one.parameters()
    nn.init.ones_(weight)
    nn.init.zeros_(bias)
    update = optimiser(recipe, dict(one.named_parameters()))
    trace = []
    for step in range(4):
        weight.grad, bias.grad = torch.ones_like(weight), torch.ones_like(bias)
        set_rate(update, recipe.rate * factor(recipe.schedule, step, 4))
        update.step()
        trace.append((weight.item(), bias.item()))
    assert trace == [
        (3 / 8, -1.0),
        (-19 / 256, -1.75),
        (-3453 / 8192, -2.375),
        (-653379 / 2**20, -2.75),
    ]


def test_caffes_momentum_differs_from_torchs_where_the_rate_drops() -> None:
    """Rates 1, 1, 1/4 and momentum 1/2: the third step is 1/2 × 3/2 + 1/4 = 1, torch's 7/16."""
    start = {"lr": 1.0, "momentum": 0.5, "weight_decay": 0.0}
    mine, its = (nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in "ab")
    rates = [1.0, 1.0, 0.25]
    assert coast(CaffeSGD([mine], **start), mine, rates) == [-1.0, -2.5, -3.5]
    assert coast(torch.optim.SGD([its], **start), its, rates) == [-1.0, -2.5, -2.9375]


def test_caffes_sgd_is_torchs_at_a_constant_rate() -> None:
    """The factors of biases are left out."""
    mine, its = network(), network()
    start = {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.1}
    take_steps(mine, CaffeSGD(mine.parameters(), **start), [0.5] * 5)
    take_steps(its, torch.optim.SGD(its.parameters(), **start), [0.5] * 5)
    for a, b in zip(mine.parameters(), its.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_caffes_sgd_knows_biases_by_name() -> None:
    """Normalisation has one-dimensional weights, which are no biases."""
    one = Network.of([nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), nn.Linear(2, 2)])
    named = dict(one.named_parameters())
    update = optimiser(Recipe(optimiser="caffe_sgd"), named)
    factors = {
        id(p): (group["rate_factor"], group["decay_factor"])
        for group in update.param_groups
        for p in group["params"]
    }
    assert {name: factors[id(p)] for name, p in named.items()} == {
        "layer1.0.weight": (1, 1),
        "layer1.0.bias": (2, 0),
        "layer1.1.weight": (1, 1),
        "layer1.1.bias": (2, 0),
        "layer2.weight": (1, 1),
        "layer2.bias": (2, 0),
    }
    alone = optimiser(Recipe(optimiser="caffe_sgd"), {"scale": nn.Parameter(torch.ones(1))})
    assert [group["rate_factor"] for group in alone.param_groups] == [1]


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_two_steps_of_adam(name: str) -> None:
    """AdamW decays the weights themselves, Adam their gradients."""
    one, before = network(), list(network().parameters())
    recipe = Recipe(optimiser=name, weight_decay=0.1)  # type: ignore[arg-type]
    take_steps(one, optimiser(recipe, dict(one.named_parameters())), [0.5, 0.25])
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
    "caffe_sgd": ["velocity"],
    "adam": ["exp_avg", "exp_avg_sq", "step"],
    "adamw": ["exp_avg", "exp_avg_sq", "step"],
}


@pytest.mark.parametrize("name", STATE)
def test_state_by_name_is_saved_and_loaded(name: str) -> None:
    """A loaded optimiser takes the third step to the same bits."""
    recipe = Recipe(optimiser=name, weight_decay=0.1)  # type: ignore[arg-type]
    one = network()
    one[0].requires_grad_(False)
    update = optimiser(recipe, learning(one))
    assert optimiser_state(update, one) == {}
    take_steps(one, update, [0.5, 0.25])
    state = {name: tensor.clone() for name, tensor in optimiser_state(update, one).items()}
    assert sorted(state) == sorted(
        f"layer2.1.{parameter}/{entry}" for parameter in ("weight", "bias") for entry in STATE[name]
    )

    again = network()
    again[0].requires_grad_(False)
    again.load_state_dict(one.state_dict())
    resumed = optimiser(recipe, learning(again))
    load_optimiser_state(resumed, again, {n: t.contiguous() for n, t in state.items()})
    if "sgd" not in name:
        assert float(state["layer2.1.bias/step"]) == 2
        assert state["layer2.1.bias/step"].dtype == torch.float32
    take_steps(one, update, [0.125])
    take_steps(again, resumed, [0.125])
    for mine, its in zip(one.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_state_takes_the_memory_format_of_its_weights() -> None:
    one = network()
    update = optimiser(Recipe(), dict(one.named_parameters()))
    state = {"layer1.weight/momentum_buffer": torch.randn(3, 2, 3, 3, dtype=torch.float64)}
    load_optimiser_state(update, one, state)
    [buffer] = update.state[one[0].weight].values()
    assert torch.equal(buffer, state["layer1.weight/momentum_buffer"])
    assert buffer.stride() == one[0].weight.stride()


def test_without_momentum_there_is_no_state() -> None:
    one = network()
    update = optimiser(Recipe(momentum=0), dict(one.named_parameters()))
    take_steps(one, update, [0.5])
    assert optimiser_state(update, one) == {}
