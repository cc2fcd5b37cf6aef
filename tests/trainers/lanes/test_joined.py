"""Kinds of layers in lanes: the numbers of each layer alone, and the same bits in every pack."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from trainers.lanes.blocks import BLOCKS, is_block
from trainers.lanes.forward import Joined, unjoined
from trainers.lanes.values import LAST, Values
from trainers.networks import Network
from trainers.torchvision_networks import find

LANES, IMAGES = 6, 8

Make = Callable[[], nn.Module]
Shape = tuple[int, ...]


# As trials do: with more threads, sums depend on the number of lanes.
pytestmark = pytest.mark.usefixtures("one_thread")


def bottleneck() -> nn.Module:
    down = nn.Sequential(nn.Conv2d(6, 12, 1, stride=2, bias=False), nn.BatchNorm2d(12))
    return Bottleneck(6, 3, stride=2, downsample=down)


def layer(name: str, number: int, width: float | None = None) -> nn.Module:
    """A layer of one of torchvision's networks, for images 1×32×32."""
    return copy.deepcopy(_layer(name, number, width, torch.initial_seed()))


@functools.cache
def _layer(name: str, number: int, width: float | None, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    options = {} if width is None else {"width_mult": width}
    return find(f"torchvision:{name}")(classes=5, shape=(1, 32, 32), **options)[number].train()


JOINED: dict[str, tuple[Make, Shape]] = {
    "batch_norm": (lambda: nn.BatchNorm2d(5), (5, 6, 6)),
    "batch_norm_of_one_place": (lambda: nn.BatchNorm2d(5), (5, 1, 1)),
    "batch_norm_without_affine": (lambda: nn.BatchNorm2d(8, affine=False), (8, 3, 3)),
    "batch_norm_of_vectors": (lambda: nn.BatchNorm1d(5), (5,)),
    "group_norm": (lambda: nn.GroupNorm(2, 6), (6, 4, 4)),
    "group_norm_of_one_place": (lambda: nn.GroupNorm(2, 6), (6, 1, 1)),
    "mean": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (5, 6, 6)),
    "basic_block": (lambda: BasicBlock(5, 5), (5, 6, 6)),
    "bottleneck": (bottleneck, (6, 6, 6)),
    "mobilenet_v2": (lambda: layer("mobilenet_v2", 3, 0.25), (8, 8, 8)),
    "mobilenet_v3": (lambda: layer("mobilenet_v3_small", 2, 0.25), (8, 8, 8)),
    "mobilenet_v2_of_one_place": (lambda: layer("mobilenet_v2", 15, 0.25), (40, 1, 1)),
}
APART: dict[str, tuple[Make, Shape]] = {
    "pooling_to_two": (lambda: nn.AdaptiveAvgPool2d(2), (5, 6, 6)),
    "cumulative": (lambda: nn.BatchNorm2d(5, momentum=None), (5, 6, 6)),
    "untracked": (lambda: nn.BatchNorm2d(5, track_running_stats=False), (5, 6, 6)),
    "layer_norm": (lambda: nn.LayerNorm(5), (5,)),
    "batch_norm_of_many_values": (lambda: nn.BatchNorm2d(8), (8, 56, 56)),
}


def join(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join the tensors of lanes as a stack does."""
    joined = torch.cat([tensor.detach() for tensor in tensors])
    if joined.dim() == 4:
        joined = joined.contiguous(memory_format=LAST)
    if not isinstance(tensors[0], nn.Parameter):
        for number, tensor in enumerate(tensors):
            tensor.data = joined[number * len(tensor) : (number + 1) * len(tensor)]
        return joined
    joined = nn.Parameter(joined)
    for parameter, part in zip(tensors, joined.detach().split(len(tensors[0])), strict=True):
        parameter.data = part
    shared.append((joined, tensors))
    return joined


shared: list[tuple[nn.Parameter, Sequence[Any]]] = []


def modules(make: Make, dtype: torch.dtype) -> list[nn.Module]:
    made = []
    for seed in range(LANES):
        torch.manual_seed(seed)
        made.append(make().to(dtype).to(memory_format=LAST))
    return made


def passed(
    make: Make, shape: Shape, lanes: Sequence[int], dtype: torch.dtype, *, joined: bool = True
) -> list[list[torch.Tensor]]:
    """Outputs, gradients and buffers of these lanes after a pass, together or one by one."""
    chosen = [modules(make, dtype)[lane] for lane in lanes]
    inputs = [torch.empty(0)] * len(lanes)
    for number, lane in enumerate(lanes):
        generator = torch.Generator().manual_seed(lane)
        inputs[number] = torch.randn(IMAGES, *shape, generator=generator, dtype=dtype)
        if len(shape) == 3:
            inputs[number] = inputs[number].contiguous(memory_format=LAST)
        inputs[number].requires_grad_()
    shared.clear()
    if joined:
        scaled = [one * 1.0 for one in inputs]
        if len(shape) == 3:
            together = Values.of_channels(Values.of(scaled).channels(), len(lanes))
        else:
            together = Values.of_rows(torch.stack(scaled))
        outputs = list(Joined(chosen, join)(together, None).apart())
    else:
        outputs = [one(x * 1.0) for one, x in zip(chosen, inputs, strict=True)]
    losses = []
    for lane, output in zip(lanes, outputs, strict=True):
        generator = torch.Generator().manual_seed(100 + lane)
        losses.append((output * torch.randn(output.shape, generator=generator, dtype=dtype)).sum())
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    for weights, parameters in shared:
        assert weights.grad is not None
        for parameter, part in zip(parameters, weights.grad.split(len(parameters[0])), strict=True):
            parameter.grad = part
    gradients = [[p.grad for p in one.parameters()] for one in chosen]
    buffers = [list(one.buffers()) for one in chosen]
    return [
        [output, x.grad, *gradient, *buffer]  # type: ignore[list-item]
        for output, x, gradient, buffer in zip(outputs, inputs, gradients, buffers, strict=True)
    ]


@pytest.mark.parametrize("name", [*JOINED, *APART])
def test_a_lane_gives_the_numbers_of_its_layer_alone(name: str) -> None:
    make, shape = (JOINED | APART)[name]
    for one, other in zip(
        passed(make, shape, range(LANES), torch.float64),
        passed(make, shape, range(LANES), torch.float64, joined=False),
        strict=True,
    ):
        for mine, its in zip(one, other, strict=True):
            assert torch.allclose(mine, its, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", JOINED)
def test_the_bits_of_a_layer_do_not_depend_on_other_lanes(name: str, dtype: torch.dtype) -> None:
    make, shape = JOINED[name]
    expected = passed(make, shape, range(LANES), dtype)
    for lanes in ([0], [4], [1, 3], [5, 2, 0], [3, 1, 2, 4, 0], range(LANES)[::-1]):
        for lane, values in zip(lanes, passed(make, shape, lanes, dtype), strict=True):
            assert all(map(torch.equal, values, expected[lane]))


@pytest.mark.parametrize("name", JOINED)
def test_a_lane_keeps_what_is_not_a_number_to_itself(name: str) -> None:
    make, shape = JOINED[name]

    def broken() -> nn.Module:
        module = make()
        for parameter in [*module.parameters()] if torch.initial_seed() == 2 else []:
            nn.init.constant_(parameter, torch.nan)
        return module

    expected = passed(make, shape, range(LANES), torch.float32)
    for lane, values in enumerate(passed(broken, shape, range(LANES), torch.float32)):
        if lane != 2:
            assert all(map(torch.equal, values, expected[lane]))


def test_lanes_whose_statistics_are_frozen_use_them_beside_others_that_measure() -> None:
    def mixed() -> nn.Module:
        return nn.BatchNorm2d(5).train(torch.initial_seed() % 2 == 0)

    expected = passed(mixed, (5, 4, 4), range(LANES), torch.float32)
    counts = [int(values[-1]) for values in expected]
    assert counts == [1, 0, 1, 0, 1, 0]
    for lanes in ([0], [1], [0, 2], [1, 2, 3]):
        for lane, values in zip(lanes, passed(mixed, (5, 4, 4), lanes, torch.float32), strict=True):
            assert all(map(torch.equal, values, expected[lane]))


def test_statistics_of_a_lane_are_a_view_of_the_joined_ones() -> None:
    chosen = modules(lambda: nn.BatchNorm2d(5), torch.float32)
    joined = Joined(chosen, join)
    joined(Values.of([torch.randn(IMAGES, 5, 4, 4) for _ in chosen]), None)
    storages = {one.running_mean.untyped_storage().data_ptr() for one in chosen}  # type: ignore[operator, union-attr]
    assert len(storages) == 1
    kept = copy.deepcopy(chosen[1].state_dict())
    joined(Values.of([torch.randn(IMAGES, 5, 4, 4) for _ in chosen]), None)
    assert not torch.equal(kept["running_mean"], chosen[1].running_mean)  # type: ignore[arg-type]


def test_kinds_that_run_lane_by_lane_are_named() -> None:
    layers = [make() for make, _ in JOINED.values()]
    assert unjoined(Network.of(layers)) == []
    others = [make() for make, _ in list(APART.values())[:4]]
    expected = ["AdaptiveAvgPool2d", "BatchNorm2d", "LayerNorm"]
    assert unjoined(Network.of(others)) == expected
    assert unjoined(layer("mobilenet_v3_small", 1)) == ["SqueezeExcitation"]


def test_the_known_blocks_are_torchvisions() -> None:
    from torchvision import models

    networks = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small")
    kinds = set()
    with torch.device("meta"):
        for name in networks:
            kinds |= {type(m) for m in models.get_model(name).modules() if is_block(m)}
    assert len(kinds) == len(BLOCKS)
