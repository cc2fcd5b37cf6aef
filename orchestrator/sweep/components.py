"""Datasets and networks as a sweep file names them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from orchestrator.sweep.fields import StrictModel
from orchestrator.sweep.source import shown
from trainers.canonical import ConfigError, Options, freeze_options
from trainers.config import is_own

OWN_CODE = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
DEFAULT_NETWORK = "conv8"


class Component(StrictModel):
    """A dataset or a network by name, with its options."""

    name: str
    """Name of a dataset or network, such as `digits`, `conv8` or `torchvision:resnet18`, or the
    user's own function, written `package.module:function`."""

    options: dict[str, Any] = {}
    """Arguments of the dataset or network. A sweep file writes them beside the name:
    `{name: digits, canvas: 12}`."""

    @property
    def is_own(self) -> bool:
        """True if the name is a function of the user."""
        return is_own(self.name)

    @property
    def frozen_options(self) -> Options:
        """The options in a form that can be hashed."""
        return freeze_options(self.options)


class Data(Component):
    """A dataset and the place of its files. The place is not part of any id."""

    root: str | None = None
    """Folder of the files. Each machine expands `~` and environment variables itself. Default: the
    folder of the dataset's name in `LAYERWISE_DATA`, else in `~/.cache/layerwise/data`."""

    download: bool = False
    """Download the files first if they are missing. mnist, fashion_mnist, cifar10 and cifar100 can
    be downloaded."""


class Target(Component):
    """A network of targets that differs from the network of the sources.

    Every difference must be declared. See `trainers.config.Adaptation`.
    """

    replaced: tuple[int | str, ...] = ()
    """Layers or modules that are not copied from the source, such as `[1, layer3.conv]`."""

    widened: tuple[int | str, ...] = ()
    """Layers or modules that are larger than in the source. The part that both have is copied."""


def parse_component(value: Any) -> Component:
    """Return the component that a name or a mapping describes."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError("expected a name, package.module:function, or a mapping with a name")
    if ":" in value["name"] and not re.fullmatch(OWN_CODE, value["name"]):
        raise ValueError(f"expected package.module:function, found {shown(value['name'])}")
    options = {key: option for key, option in value.items() if key != "name"}
    for key, option in options.items():
        if not _is_option(option):
            raise ConfigError(key, "expected a finite number, a string, true or false, or a list")
    return Component(name=value["name"], options=options)


def _is_option(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_option, value))
    is_infinite = isinstance(value, float) and not math.isfinite(value)
    return not isinstance(value, Mapping) and not is_infinite


def parse_data(value: Any) -> Data:
    """Return the dataset. `root` and `download` are options of an own function, if it is one."""
    component = parse_component(value)
    if component.is_own:
        return Data(name=component.name, options=component.options)
    options = dict(component.options)
    root, download = options.pop("root", None), options.pop("download", False)
    if root is not None and not (isinstance(root, str) and root):
        raise ConfigError("root", f"expected a folder, found {shown(root)}")
    if not isinstance(download, bool):
        raise ConfigError("download", f"expected true or false, found {shown(download)}")
    return Data(name=component.name, options=options, root=root, download=download)


def parse_network(value: Any) -> Component:
    """Return the network. A mapping without a name holds options of the default network."""
    named = {"name": DEFAULT_NETWORK, **value} if isinstance(value, Mapping) else value
    return parse_component(named)


def parse_target(value: Any) -> Target | None:
    """Return the network of targets, if there is one; `replaced` and `widened` are not options."""
    if value is None:
        return None
    component = parse_network(value)
    options = dict(component.options)
    declared = {key: options.pop(key, []) for key in ("replaced", "widened")}
    for key, names in declared.items():
        if not isinstance(names, list) or any(type(name) not in (int, str) for name in names):
            message = f"expected layers such as [1, layer3.conv], found {shown(names)}"
            raise ConfigError(key, message)
    lists = {key: tuple(names) for key, names in declared.items()}
    return Target(name=component.name, options=options, **lists)


DataField = Annotated[Data, BeforeValidator(parse_data)]
NetworkField = Annotated[Component, BeforeValidator(parse_network)]
TargetField = Annotated[Target | None, BeforeValidator(parse_target)]
