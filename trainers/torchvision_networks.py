"""torchvision's classification networks as numbered layers: `torchvision:resnet18`.

A network is written here as the list of what its forward pass goes through. What has weights of its
own begins a layer, and what has none, or only normalises, belongs to the layer before it: stages of
a ResNet, residual blocks of a MobileNet, encoder blocks of a vision transformer, weight layers of
VGG. That the list gives what torchvision's own network gives, to the last bit, is checked once a
process for each network that is built.

Always fresh weights. Auxiliary heads, which torchvision trains with losses of their own, are left
out. Images of any number of channels: see `_fit_channels`.
"""

from __future__ import annotations

import difflib
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

from trainers.config import TORCHVISION, ConfigError
from trainers.torchvision_families import (
    FORWARD,
    MORE_OPTIONS,
    NO_OPTIONS,
    SIZES,
    TOLD,
    Shape,
    in_order,
)

NORMALISATION = (_NormBase, nn.LayerNorm, nn.GroupNorm)


class TorchvisionLayer(nn.Sequential):
    """A numbered layer, its parts under torchvision's names, that knows its first weights."""

    def __init__(
        self,
        parts: OrderedDict[str, nn.Module],
        number: int,
        again: Callable[[], list[TorchvisionLayer]],
    ):
        super().__init__(parts)
        self.number, self.again = number, again

    def fill_parameters(self) -> None:
        """The first weights of torchvision's constructor.

        It starts a network as a whole; of one made from the current random state, this layer.
        """
        self.load_state_dict(self.again()[self.number - 1].state_dict())


def find(name: str) -> Builder:
    """The network `torchvision:NAME`. Raises `ConfigError` with field `name`."""
    from torchvision import models

    known = models.list_models(module=models)
    short = name.removeprefix(TORCHVISION)
    if short not in known:
        near = difflib.get_close_matches(short, known, 1)
        hint = f"did you mean '{TORCHVISION}{near[0]}'?" if near else f"known: {', '.join(known)}"
        raise ConfigError("name", f"unknown torchvision network {short!r}; {hint}")
    return Builder(short)


class Builder:
    """A function from classes, the shape of an image and options to layers, as `conv8` is one.

    Its options are the numbers and texts that torchvision's constructor has a default for. Those
    given are part of a trial's id even at that default, which is torchvision's to change.
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
        return self.network.__name__

    def __call__(self, *, classes: int, shape: Shape, **options: Any) -> list[nn.Module]:
        """The layers. Raises `ConfigError` for an option that this network sets itself."""
        _check(self.name, classes, shape, tuple(sorted(options.items())))
        return [*self.layers(classes, shape, options)]

    def layers(self, classes: int, shape: Shape, options: dict[str, Any]) -> list[TorchvisionLayer]:
        again = functools.partial(self.layers, classes, shape, options)
        return _cut(self.construct(classes, shape, options), again)

    def construct(self, classes: int, shape: Shape, options: dict[str, Any]) -> nn.Module:
        """torchvision's own network, for images of this many channels."""
        given = {name: _as_lists(value) for name, value in options.items()}
        told: dict[str, Any] = {"num_classes": classes}
        if self.family in TOLD:
            told |= TOLD[self.family](shape)
        if self.family == "VisionTransformer":
            network = self._transformer(shape, told, given)
        else:
            try:
                network = self.function(weights=None, **told | given)
            except (TypeError, ValueError) as error:
                if field := next((option for option in given if f"'{option}'" in str(error)), None):
                    message = f"{TORCHVISION}{self.name} sets {field!r} itself: {error}"
                    raise ConfigError(field, message) from error
                raise
        _fit_channels(network, shape[0])
        return network

    def _transformer(self, shape: Shape, told: dict[str, Any], given: dict[str, Any]) -> nn.Module:
        """A vision transformer with the named one's sizes, except for those given."""
        with torch.device("meta"):
            named = self.function(weights=None)
        blocks = named.encoder.layers
        own = named.patch_size, len(blocks), blocks[0].num_heads, named.hidden_dim, named.mlp_dim
        sizes = dict(zip(SIZES, own, strict=True)) | given
        if wrong := next((name for name in SIZES if sizes[name] < 1), None):
            raise ConfigError(wrong, "expected x ≥ 1")
        if shape[1] != shape[2]:
            raise ValueError(f"expected square images, found {shape[1]}×{shape[2]}")
        if shape[1] % sizes["patch_size"]:
            message = f"expected a patch_size that divides {shape[1]}, the size of the images"
            raise ConfigError("patch_size", f"{message}, found {sizes['patch_size']}")
        if sizes["hidden_dim"] % sizes["num_heads"]:
            message = f"expected a divisor of hidden_dim, {sizes['hidden_dim']}"
            raise ConfigError("num_heads", f"{message}, found {sizes['num_heads']}")
        return self.network(**told | sizes)


def _cut(network: nn.Module, again: Callable[[], list[TorchvisionLayer]]) -> list[TorchvisionLayer]:
    """The network as layers; its forward pass is theirs, one after the other."""
    parts = FORWARD.get(type(network).__name__, in_order)(network)
    names = {id(module): name.replace(".", "_") for name, module in network.named_modules()}
    layers: list[OrderedDict[str, nn.Module]] = []
    begun = False  # whether the last layer has weights
    for part in parts:
        weighted = _has_weights(part)
        if not layers or (weighted and begun):
            layers.append(OrderedDict())
            begun = False
        begun = begun or weighted
        layers[-1][names.get(id(part), type(part).__name__.lower())] = part
    return [TorchvisionLayer(parts, number, again) for number, parts in enumerate(layers, start=1)]


def _has_weights(part: nn.Module) -> bool:
    """Whether a part does more than normalise."""
    return any(
        list(module.parameters(recurse=False))
        for module in part.modules()
        if not isinstance(module, NORMALISATION)
    )


def _fit_channels(network: nn.Module, channels: int) -> None:
    """Build the first convolution, which torchvision makes for three channels, for another number.

    Its filters are normal, with the deviation of those that torchvision's constructor gave it.
    """
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    if channels != first.in_channels:
        kept = first.weight.detach()
        weight = kept.new_empty(len(kept), channels, *kept.shape[2:])
        first.weight = nn.Parameter(nn.init.normal_(weight, std=float(kept.std())))
        first.in_channels = channels


@functools.lru_cache(maxsize=64)
@torch.no_grad()
def _check(name: str, classes: int, shape: Shape, options: tuple[tuple[str, Any], ...]) -> None:
    """Raise `ValueError` unless the layers give what torchvision's network gives.

    On a random image, and with weights under which no difference is lost: some networks start with
    a head of zeros, scales of 1e-6 or filters too small for two images to differ.
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
    """Whether a parameter can be given in a sweep file: numbers, texts, booleans, lists of them."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, tuple):
        return all(map(_is_plain, typing.get_args(annotation)))
    return annotation in (int, float, bool, str, type(None), ...)


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value
