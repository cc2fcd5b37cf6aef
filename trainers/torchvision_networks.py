"""torchvision's classification networks as numbered layers: `torchvision:resnet18`.

A network is a list of the parts that its forward pass consists of. A part with weights begins a
layer; a part without weights, or one that only normalises, belongs to the layer before it. Layers
are stages of a ResNet, residual blocks of a MobileNet, encoder blocks of a vision transformer,
weight layers of VGG. Once per process and network, `_check` proves that the layers give the outputs
of torchvision's own network, to the last bit.

Weights are always fresh. Auxiliary heads, which torchvision trains with losses of their own, are
left out. Images may have any number of channels: see `_fit_channels`.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from trainers.canonical import ConfigError
from trainers.config import TORCHVISION
from trainers.spelling import hint
from trainers.torchvision_families import (
    ARGUMENTS,
    FORWARD,
    MORE_OPTIONS,
    NO_OPTIONS,
    SIZES,
    Shape,
    in_order,
)

NORMALISATION = (_NormBase, nn.LayerNorm, nn.GroupNorm)


class TorchvisionLayer(nn.Sequential):
    """Numbered layer with parts under torchvision's names; `rebuild` builds the network again."""

    def __init__(
        self,
        parts: OrderedDict[str, nn.Module],
        number: int,
        rebuild: Callable[[], list[TorchvisionLayer]],
    ):
        super().__init__(parts)
        self.number, self.rebuild = number, rebuild

    def fill_parameters(self) -> None:
        """Set the first weights of torchvision's constructor.

        torchvision fills a network as a whole. This layer takes its part of a new network, which is
        built from the current random state.
        """
        self.load_state_dict(self.rebuild()[self.number - 1].state_dict())


def find(name: str) -> Builder:
    """Return the builder of `torchvision:NAME`. Raises `ConfigError` with field `name`."""
    from torchvision import models

    known = models.list_models(module=models)
    short = name.removeprefix(TORCHVISION)
    if short not in known:
        way_out = hint(short, known, TORCHVISION) or f"; known: {', '.join(known)}"
        raise ConfigError("name", f"unknown torchvision network {short!r}{way_out}")
    return Builder(short)


class Builder:
    """Function from classes, the shape of an image and options to layers, like `conv8`.

    Its options are the numbers and strings with a default in torchvision's constructor. A given
    option is part of a trial's id even at that default, since torchvision may change the default.
    """

    def __init__(self, name: str):
        from torchvision import models

        self.name = name
        self.function = models.get_model_builder(name)
        self.network: type[nn.Module] = inspect.signature(
            self.function, eval_str=True
        ).return_annotation
        declared = {
            parameter.name: parameter.annotation
            for parameter in inspect.signature(self.network, eval_str=True).parameters.values()
            if parameter.default is not parameter.empty
            and _is_plain(parameter.annotation)
            and parameter.name not in NO_OPTIONS
        }
        self.__signature__ = inspect.Signature(
            [
                inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
                for option, annotation in (declared | MORE_OPTIONS.get(self.family, {})).items()
            ]
        )

    @property
    def family(self) -> str:
        """Name of the network's class, such as `ResNet`."""
        return self.network.__name__

    def __call__(self, *, classes: int, shape: Shape, **options: Any) -> list[nn.Module]:
        """Return the layers.

        Raises `ConfigError` for an option out of range or one that this network sets itself, and
        `ValueError` for images that it does not take.
        """
        _check(self.name, classes, shape, tuple(sorted(options.items())))
        return [*self.layers(classes, shape, options)]

    def layers(self, classes: int, shape: Shape, options: dict[str, Any]) -> list[TorchvisionLayer]:
        """Return the layers, without `_check`."""
        rebuild = functools.partial(self.layers, classes, shape, options)
        return _cut(self.construct(classes, shape, options), rebuild)

    def cut(self, network: nn.Module) -> list[TorchvisionLayer]:
        """Return a network of `construct` as layers, which hold the same modules."""
        return _cut(network, list)

    def construct(self, classes: int, shape: Shape, options: dict[str, Any]) -> nn.Module:
        """Return torchvision's own network, for images of this shape (C, H, W)."""
        options = {name: _as_lists(value) for name, value in options.items()}
        arguments: dict[str, Any] = {"num_classes": classes}
        if self.family in ARGUMENTS:
            arguments |= ARGUMENTS[self.family](shape)
        if self.family == "VisionTransformer":
            network = self._transformer(shape, arguments, options)
        else:
            try:
                network = self.function(weights=None, **arguments | options)
            except (TypeError, ValueError) as error:
                if field := next((name for name in options if f"'{name}'" in str(error)), None):
                    message = f"{TORCHVISION}{self.name} sets {field!r} itself: {error}"
                    raise ConfigError(field, message) from error
                raise
        _fit_channels(network, shape[0])
        return network

    def _transformer(
        self, shape: Shape, arguments: dict[str, Any], options: dict[str, Any]
    ) -> nn.Module:
        """Return a vision transformer with the sizes of the named one, except for options."""
        with torch.device("meta"):
            named = self.function(weights=None)
        blocks = named.encoder.layers
        defaults = (
            *(named.patch_size, len(blocks), blocks[0].num_heads),
            *(named.hidden_dim, named.mlp_dim),
        )
        sizes = dict(zip(SIZES, defaults, strict=True)) | options
        if field := next((name for name in SIZES if sizes[name] < 1), None):
            raise ConfigError(field, "expected x ≥ 1")
        if shape[1] != shape[2]:
            raise ValueError(f"expected square images, found {shape[1]}×{shape[2]}")
        if shape[1] % sizes["patch_size"]:
            message = f"expected a patch_size that divides {shape[1]}, the size of the images"
            raise ConfigError("patch_size", f"{message}, found {sizes['patch_size']}")
        if sizes["hidden_dim"] % sizes["num_heads"]:
            message = f"expected a divisor of hidden_dim, {sizes['hidden_dim']}"
            raise ConfigError("num_heads", f"{message}, found {sizes['num_heads']}")
        return self.network(**arguments | sizes)


def _cut(
    network: nn.Module, rebuild: Callable[[], list[TorchvisionLayer]]
) -> list[TorchvisionLayer]:
    """Return the network as layers, which in order make its forward pass."""
    parts = FORWARD.get(type(network).__name__, in_order)(network)
    names = {id(module): name.replace(".", "_") for name, module in network.named_modules()}
    layers: list[OrderedDict[str, nn.Module]] = []
    last_has_weights = False
    for part in parts:
        has_weights = _has_weights(part)
        if not layers or (has_weights and last_has_weights):
            layers.append(OrderedDict())
            last_has_weights = False
        last_has_weights = last_has_weights or has_weights
        layers[-1][names.get(id(part), type(part).__name__.lower())] = part
    return [TorchvisionLayer(layer, number, rebuild) for number, layer in enumerate(layers, 1)]


def _has_weights(part: nn.Module) -> bool:
    """Return whether a part has weights, those of normalisation not counted."""
    return any(
        list(module.parameters(recurse=False))
        for module in part.modules()
        if not isinstance(module, NORMALISATION)
    )


def _fit_channels(network: nn.Module, channels: int) -> None:
    """Give the first convolution another number of input channels than torchvision's three.

    The new filters are normal, with the deviation of the filters from torchvision's constructor.
    """
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    if channels != first.in_channels:
        old = first.weight.detach()
        weight = old.new_empty(len(old), channels, *old.shape[2:])
        first.weight = nn.Parameter(nn.init.normal_(weight, std=float(old.std())))
        first.in_channels = channels


@functools.lru_cache(maxsize=64)
@torch.no_grad()
def _check(name: str, classes: int, shape: Shape, options: tuple[tuple[str, Any], ...]) -> None:
    """Raise `ValueError` unless the layers give the outputs of torchvision's network.

    They are compared on a random image, with weights under which no difference is lost: some
    networks start with a head of zeros, scales of 1e-6 or filters too small to tell images apart.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Builder(name).construct(classes, shape, dict(options)).eval()
        for parameter in network.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=math.sqrt(2 / parameter[0].numel()))
        image = torch.randn(1, *shape)
        try:
            expected = network(image.clone())
        except (RuntimeError, ValueError) as error:
            size = "×".join(map(str, shape))
            first_line = str(error).partition("\n")[0]
            raise ValueError(f"it does not take images {size}: {first_line}") from error
        for layer in _cut(network, list):
            image = layer.eval()(image)
    if not torch.equal(image, expected):
        raise ValueError(
            "its layers one after the other do not give what torchvision's network gives; "
            f"this version's {type(network).__name__} is not known here"
        )


def _is_plain(annotation: Any) -> bool:
    """Return whether a sweep file can give such a value: a number, string, boolean, or a list."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, tuple):
        return all(map(_is_plain, typing.get_args(annotation)))
    return annotation in (int, float, bool, str, type(None), ...)


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value
