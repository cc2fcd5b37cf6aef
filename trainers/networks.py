"""Networks as ordered lists of numbered layers, so that "the first n layers" is a slice.

A user's own network is a function `package.module:function` with the signature of `conv8`. It takes
the number of classes, the shape of an image and options, and returns a list of modules, each with
weights of its own. The last layer gives one score per class. With an option `outputs` it gives that
number of scores; scores beyond the classes are never a label. `torchvision:NAME` is a network of
torchvision.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from trainers.caffenet import AcrossChannels, FilledLayer, caffenet
from trainers.canonical import ConfigError, Options
from trainers.config import TORCHVISION, NetworkInfo, NetworkRef, is_own
from trainers.config import NetworkError as NetworkError  # noqa: PLC0414 - exported
from trainers.frames import message
from trainers.layer_rules import broken_rule
from trainers.multiply_adds import multiply_adds
from trainers.own_code import fit_options, resolve
from trainers.probes import (
    PROBLEMS,
    MisfitError,
    check_evaluation,
    check_training,
    output_shapes,
)
from trainers.seeds import seeded
from trainers.torchvision_families import ClassToken, Mean, Tokens
from trainers.torchvision_networks import TorchvisionLayer, find

Shape = tuple[int, int, int]


class Network(nn.Sequential):
    """Layers 1..N, named `layer1` … `layerN`; `network[:n]` is the first n, with the same names."""

    @classmethod
    def of(cls, layers: Sequence[nn.Module]) -> Network:
        """Return the network of layers 1..N."""
        return cls(OrderedDict((f"layer{i}", layer) for i, layer in enumerate(layers, 1)))


def tensors_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers by name, as the forward pass reads them.

    `state_dict` leaves out buffers with `persistent=False`.
    """
    buffers = network.named_buffers(remove_duplicate=False)
    return network.state_dict() | {name: buffer.detach() for name, buffer in buffers}


def load_tensors(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load what `tensors_of` returned. Raises `RuntimeError` for other names or shapes."""
    named = dict(network.named_buffers(remove_duplicate=False))
    buffers = named.keys() - network.state_dict().keys()
    if lacking := sorted(buffers - tensors.keys()):
        raise RuntimeError(f"buffers {lacking} are missing")
    for name in buffers:
        named[name].copy_(tensors[name])
    others = {name: tensor for name, tensor in tensors.items() if name not in buffers}
    network.load_state_dict(others, strict=True)


def conv8(
    *,
    classes: int,
    shape: Shape,
    conv: tuple[int, ...] = (8, 16, 16, 16, 16),
    pool: tuple[int, ...] = (1, 3),
    fc: tuple[int, ...] = (32, 32),
    kernel: int = 3,
    dropout: float = 0.0,
) -> list[nn.Module]:
    """Return convolutions with ReLU, 2×2 max-pooling after those in `pool`, then `fc` layers.

    `conv` and `fc` are widths. `kernel` is the side of the convolutions, whose outputs are as large
    as their inputs. Dropout follows each hidden fully connected layer; the recipe's `dropout`
    replaces its rate. There are eight layers by default, as in the paper's network. Raises
    `ConfigError` for options out of range.
    """
    if not conv:
        raise ConfigError("conv", "expected at least one width")
    for name, widths in (("conv", conv), ("fc", fc)):
        if any(width < 1 for width in widths):
            raise ConfigError(name, "expected widths, each x ≥ 1")
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError("kernel", "expected an odd number of pixels")
    if any(not 1 <= number <= len(conv) for number in pool):
        raise ConfigError("pool", f"expected numbers of convolutions, 1..{len(conv)}")
    if not 0 <= dropout < 1:
        raise ConfigError("dropout", "expected 0 ≤ x < 1")
    channels, height, width = shape
    layers: list[nn.Module] = []
    for number, out in enumerate(conv, start=1):
        parts: list[tuple[str, nn.Module]] = [
            ("conv", nn.Conv2d(channels, out, kernel, padding=kernel // 2)),
            ("relu", nn.ReLU(inplace=True)),
        ]
        if number in pool:
            parts.append(("pool", nn.MaxPool2d(2)))
            height, width = height // 2, width // 2
        if number == len(conv):
            parts.append(("flatten", nn.Flatten()))
        layers.append(nn.Sequential(OrderedDict(parts)))
        channels = out
    if not height * width:
        raise ConfigError("pool", f"pooling leaves nothing of images {shape[1]}×{shape[2]}")
    features = channels * height * width
    for out in fc:
        parts = [("fc", nn.Linear(features, out)), ("relu", nn.ReLU(inplace=True))]
        layers.append(nn.Sequential(OrderedDict([*parts, ("dropout", nn.Dropout(dropout))])))
        features = out
    return [*layers, nn.Sequential(OrderedDict(fc=nn.Linear(features, classes)))]


NETWORKS: dict[str, Callable[..., list[nn.Module]]] = {"conv8": conv8, "caffenet": caffenet}

# Modules whose forward pass draws no random numbers. Any other module is assumed to draw some.
DETERMINISTIC = {
    *(Network, FilledLayer, nn.Sequential, nn.Identity, nn.Flatten),
    *(TorchvisionLayer, Tokens, ClassToken, Mean),
    *(nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh),
    *(nn.Hardswish, nn.Hardsigmoid, NonDynamicallyQuantizableLinear),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm),
    *(nn.LocalResponseNorm, AcrossChannels),
}
# Attributes in which torchvision's own modules and torch's attention keep their dropout rates.
RATES = ("p", "dropout", "attention_dropout", "drop_rate")


def find_builder(name: str, options: Options = ()) -> tuple[Callable[..., list[nn.Module]], str]:
    """Return the function that builds network `name`, and a hash of a user's code, else "".

    torchvision's networks have no hash: their published weights fix what they compute, and an id
    must not change with each release. Raises `ConfigError` with field `name`.
    """
    if name in NETWORKS:
        return NETWORKS[name], ""
    return (find(name), "") if name.startswith(TORCHVISION) else resolve(name, options)


def fingerprint(name: str, options: Options = ()) -> str:
    """Return a hash of the code and data files of a user's network, or "" for all others.

    `options` are those that differ from their default, as in a `NetworkRef`.
    """
    return find_builder(name, options)[1]


def options_of(name: str, options: Options) -> Options:
    """Return a network's options without those at their default. Raises `ConfigError`."""
    return fit_options(find_builder(name)[0], options)


def build(ref: NetworkRef, classes: int, shape: Shape, seed: int = 0) -> Network:
    """Return the network that `ref` names, before its first weights.

    A user's function draws from global generators with this `seed`. Raises `ConfigError` for an
    option that does not fit. Raises `NetworkError` for a bad list of layers, or if the code has
    changed since the plan was made.
    """
    builder, source = find_builder(ref.name, ref.options)
    if ref.fingerprint and source != ref.fingerprint:
        raise NetworkError(
            f"network {ref.name}: the code has changed since the plan was made (now {source}, "
            f"then {ref.fingerprint}); restore it, or plan again"
        )
    with seeded(seed) if is_own(ref.name) else contextlib.nullcontext():
        layers = builder(classes=classes, shape=shape, **dict(fit_options(builder, ref.options)))
    if not isinstance(layers, list) or not all(isinstance(layer, nn.Module) for layer in layers):
        raise NetworkError(f"network {ref.name}: expected a list of torch modules, one per layer")
    if not layers:
        raise NetworkError(f"network {ref.name}: the list of layers is empty")
    if not ref.name.startswith(TORCHVISION) and (problem := broken_rule(layers)):
        raise NetworkError(f"network {ref.name}: {problem}")
    return Network.of(layers)


def describe(ref: NetworkRef, classes: int, shape: Shape, batch: int = 2) -> NetworkInfo:
    """Return the multiply-adds, parameters and output shapes of each layer for an image (C, H, W).

    `batch` is the smallest batch that the network is trained with. Raises as `build` does, and
    `NetworkError` if the layers fit neither each other nor the images, or cannot be trained.
    """
    try:
        network = build(ref, classes, shape)
    except PROBLEMS as error:
        if isinstance(error, ConfigError):
            raise
        problem = f"cannot be built: {message(error, [ref.name])}"
        raise NetworkError(f"network {ref.name} {problem}") from error
    try:
        shapes = output_shapes(network, shape, ref.name)
        if is_own(ref.name):
            check_evaluation(network, shape, ref.name)
        macs = multiply_adds(network, shape)
        if is_own(ref.name):
            check_training(network, shape, batch, ref.name)
    except MisfitError as error:
        raise NetworkError(f"network {ref.name}{error}") from error
    outputs = dict(ref.options).get("outputs")
    scores = max(classes, outputs) if isinstance(outputs, int) else classes
    if shapes[-1] not in ((classes,), (scores,)):
        raise NetworkError(
            f"network {ref.name}: the last layer gives {shapes[-1]} per image; "
            f"expected one score for each of {classes} classes, ({classes},)"
        )
    return NetworkInfo(
        macs=macs,
        parameters=tuple(sum(p.numel() for p in layer.parameters()) for layer in network),
        shapes=tuple(shapes),
        state_bytes=sum(t.numel() * t.element_size() for t in tensors_of(network).values()),
    )


def tensor_shapes(ref: NetworkRef, classes: int, shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter and buffer by name. Raises as `build` does."""
    state = tensors_of(build(ref, classes, shape))
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def set_dropout(network: Network, probability: float) -> None:
    """Set the probability of all dropout modules. Raises `NetworkError` if there are none."""
    modules = [m for m in network.modules() if isinstance(m, _DropoutNd)]
    if probability and not modules:
        raise NetworkError(
            f"recipe.dropout is {probability}, and the network has no dropout modules; "
            "add them to the network, or leave dropout out of the recipe"
        )
    for module in modules:
        module.p = probability


def is_random(network: nn.Module) -> bool:
    """Return whether a forward pass in training mode may draw random numbers."""
    return any(map(_draws_random_numbers, network.modules()))


def has_modes(network: nn.Module) -> bool:
    """Return whether a forward pass may differ between training and evaluation mode."""
    return is_random(network) or any(isinstance(m, _NormBase) for m in network.modules())


def _draws_random_numbers(module: nn.Module) -> bool:
    has_rate = isinstance(module, _DropoutNd | nn.MultiheadAttention)
    if has_rate or type(module).__module__.startswith("torchvision."):
        rates = [getattr(module, name, 0) for name in RATES]
        return any(rate > 0 for rate in rates if isinstance(rate, int | float))
    return type(module) not in DETERMINISTIC
