"""Networks as an ordered list of numbered layers, so that "the first n layers" is a slice.

A network of one's own is a function `package.module:function` with the signature of `conv8`: it
takes the number of classes, the shape of an image and options, and returns a list of modules, each
with weights of its own. Its last layer scores the classes; where there is an option `outputs`, that
many, and those above the classes are never a label. `torchvision:NAME` is one of torchvision's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from trainers.caffenet import AcrossChannels, FilledLayer, caffenet
from trainers.config import TORCHVISION, ConfigError, NetworkInfo, NetworkRef, Options
from trainers.multiply_adds import count
from trainers.own_code import fit_options, resolve
from trainers.torchvision_families import ClassToken, Mean, Tokens
from trainers.torchvision_networks import TorchvisionLayer, find

Shape = tuple[int, int, int]


class NetworkError(Exception):
    """A network cannot be built, or its weights do not fit."""


class Network(nn.Sequential):
    """Layers 1..N, named `layer1` … `layerN`; `network[:n]` is the first n, with the same names."""

    @classmethod
    def of(cls, layers: Sequence[nn.Module]) -> Network:
        return cls(OrderedDict((f"layer{i}", layer) for i, layer in enumerate(layers, 1)))


def conv8(
    *,
    classes: int,
    shape: Shape,
    conv: tuple[int, ...] = (8, 16, 16, 16, 16),
    pool: tuple[int, ...] = (1, 3),
    fc: tuple[int, ...] = (32, 32),
    dropout: float = 0.0,
) -> list[nn.Module]:
    """Convolutions 3×3 with ReLU, 2×2 max-pooling after the layers in `pool`, then fully connected.

    `conv` and `fc` are widths. Dropout follows each hidden fully connected layer, if `dropout` or
    the recipe's own asks for it. Eight layers by default, as the paper's network has.
    """
    if not conv:
        raise ConfigError("conv", "expected at least one width")
    for name, widths in (("conv", conv), ("fc", fc)):
        if any(width < 1 for width in widths):
            raise ConfigError(name, "expected widths, each x ≥ 1")
    if any(not 1 <= number <= len(conv) for number in pool):
        raise ConfigError("pool", f"expected numbers of convolutions, 1..{len(conv)}")
    if not 0 <= dropout < 1:
        raise ConfigError("dropout", "expected 0 ≤ x < 1")
    channels, height, width = shape
    layers: list[nn.Module] = []
    for number, out in enumerate(conv, start=1):
        parts: list[tuple[str, nn.Module]] = [
            ("conv", nn.Conv2d(channels, out, 3, padding=1)),
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

# Modules whose forward pass draws no random numbers; of any other it is assumed that it does.
DETERMINISTIC = {
    *(Network, FilledLayer, nn.Sequential, nn.Identity, nn.Flatten),
    *(TorchvisionLayer, Tokens, ClassToken, Mean),
    *(nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh),
    *(nn.Hardswish, nn.Hardsigmoid, NonDynamicallyQuantizableLinear),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm),
    *(nn.LocalResponseNorm, AcrossChannels),
}
# Where torchvision's own modules and torch's attention keep the rate at which they drop something.
RATES = ("p", "dropout", "attention_dropout", "drop_rate")


def find_builder(name: str) -> tuple[Callable[..., list[nn.Module]], str]:
    """What makes the network `name`, and a hash of the source of a user's own, else nothing.

    torchvision's networks have none: what they compute is fixed by their published weights, and an
    id does not change with each of its releases. Raises `ConfigError` with field `name`.
    """
    if name in NETWORKS:
        return NETWORKS[name], ""
    return (find(name), "") if name.startswith(TORCHVISION) else resolve(name)


def fingerprint(name: str) -> str:
    """A hash of the source of a user's network; empty for all others."""
    return find_builder(name)[1]


def options_of(name: str, options: Options) -> Options:
    """The options of a network, those at their default left out. Raises `ConfigError`."""
    return fit_options(find_builder(name)[0], options)


def build(ref: NetworkRef, classes: int, shape: Shape) -> Network:
    """The network that `ref` names, its weights not yet set.

    Raises `ConfigError` for an option that does not fit, `NetworkError` for a bad list of layers or
    for code that is not what the plan was made with.
    """
    builder, source = find_builder(ref.name)
    if ref.fingerprint and source != ref.fingerprint:
        raise NetworkError(
            f"network {ref.name}: the code differs from what the plan was made with (now {source}, "
            f"then {ref.fingerprint}); make them equal, or plan again"
        )
    layers = builder(classes=classes, shape=shape, **dict(fit_options(builder, ref.options)))
    if not isinstance(layers, list) or not all(isinstance(layer, nn.Module) for layer in layers):
        raise NetworkError(f"network {ref.name}: expected a list of torch modules, one a layer")
    if not layers:
        raise NetworkError(f"network {ref.name}: the list of layers is empty")
    if empty := [i for i, layer in enumerate(layers, 1) if not list(layer.parameters())]:
        raise NetworkError(
            f"network {ref.name}: layers {empty} have no weights; "
            "put them into the same nn.Sequential as the layer that they follow"
        )
    return Network.of(layers)


def describe(ref: NetworkRef, classes: int, shape: Shape) -> NetworkInfo:
    """Multiply-adds of one image and parameters, layer by layer, from one forward pass.

    Raises as `build` does, and `NetworkError` if the layers do not fit together or the images.
    """
    try:
        network = build(ref, classes, shape)
    except (RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        message = str(error).partition("\n")[0]
        raise NetworkError(f"network {ref.name} cannot be built: {message}") from error
    macs = [0] * len(network)
    shapes: list[tuple[int, ...]] = []

    def adder(number: int) -> Callable[[int], None]:
        def add(found: int) -> None:
            macs[number] += found

        return add

    for number, layer in enumerate(network):
        layer.register_forward_hook(
            lambda _layer, _inputs, out: shapes.append(tuple(out.shape[1:]))
        )
        count(layer, adder(number))
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(2, *shape))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        message = str(error).partition("\n")[0]
        raise NetworkError(f"network {ref.name} does not take images {shape}: {message}") from error
    declared = dict(ref.options).get("outputs")
    wanted = max(classes, declared) if isinstance(declared, int) else classes
    if shapes[-1] not in ((classes,), (wanted,)):
        raise NetworkError(
            f"network {ref.name}: the last layer gives {shapes[-1]} an image; "
            f"expected one score for each of {classes} classes, ({classes},)"
        )
    return NetworkInfo(
        macs=tuple(macs),
        parameters=tuple(sum(p.numel() for p in layer.parameters()) for layer in network),
        shapes=tuple(shapes),
        state_bytes=sum(t.numel() * t.element_size() for t in network.state_dict().values()),
    )


def tensor_shapes(ref: NetworkRef, classes: int, shape: Shape) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter and buffer by name. Raises as `build` does."""
    state = build(ref, classes, shape).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def set_dropout(network: Network, probability: float) -> None:
    """Replace the network's own dropout. Raises `NetworkError` if it has none to replace."""
    modules = [m for m in network.modules() if isinstance(m, _DropoutNd)]
    if probability and not modules:
        raise NetworkError(
            f"recipe.dropout is {probability}, and the network has no dropout modules; "
            "add them to the network, or leave dropout out of the recipe"
        )
    for module in modules:
        module.p = probability


def is_random(network: nn.Module) -> bool:
    """Whether a forward pass in training mode may draw random numbers."""
    return any(map(_draws, network.modules()))


def _draws(module: nn.Module) -> bool:
    known = isinstance(module, _DropoutNd | nn.MultiheadAttention)
    if known or type(module).__module__.startswith("torchvision."):
        rates = [getattr(module, name, 0) for name in RATES]
        return any(rate > 0 for rate in rates if isinstance(rate, int | float))
    return type(module) not in DETERMINISTIC
