"""`Sweep`: what a sweep file says, as frozen and strict models."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)

from orchestrator.search.declaration import Search
from orchestrator.yaml_source import shown
from trainers.config import (
    TORCHVISION,
    ConfigError,
    Options,
    Recipe,
    Treatment,
    freeze_options,
)

TreatmentName = Literal[
    "base", "base_long", "selffer", "selffer+", "transfer", "transfer+", "random"
]
ALL_TREATMENTS: tuple[TreatmentName, ...] = get_args(TreatmentName)
NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
A_NAME = "expected up to 64 letters, digits, _ and -, the first a letter or digit"
OWN = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
NETWORK = "conv8"
MOST_LAYERS = 10_000  # that a range such as 1..7 may stand for


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Component(_Model):
    """A dataset or a network: its name, or `package.module:function`, and its options."""

    name: str
    options: dict[str, Any] = {}

    @property
    def is_own(self) -> bool:
        """Whether it is the user's code and not the project's."""
        return ":" in self.name and not self.name.startswith(TORCHVISION)

    @property
    def frozen_options(self) -> Options:
        return freeze_options(self.options)


class Data(Component):
    """A dataset, and where it is: neither is part of an id.

    `root` is its folder, in which ~ and environment variables stand for what they are on each
    machine; `download` fetches it there first, where it is missing.
    """

    root: str | None = None
    download: bool = False


def _data(value: Any) -> Any:
    """As `_component`; a user's own function may have options of these names itself."""
    component = _component(value)
    if component.is_own:
        return Data(name=component.name, options=component.options)
    options = dict(component.options)
    root, download = options.pop("root", None), options.pop("download", False)
    if root is not None and not (isinstance(root, str) and root):
        raise ConfigError("root", f"expected a folder, found {shown(root)}")
    if not isinstance(download, bool):
        raise ConfigError("download", f"expected true or false, found {shown(download)}")
    return Data(name=component.name, options=options, root=root, download=download)


def _component(value: Any) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError("expected a name, package.module:function, or a mapping with a name")
    if ":" in value["name"] and not re.fullmatch(OWN, value["name"]):
        raise ValueError(f"expected package.module:function, found {shown(value['name'])}")
    options = {key: option for key, option in value.items() if key != "name"}
    for key, option in options.items():
        if not _is_option(option):
            raise ConfigError(key, "expected a finite number, a text, true or false, or a list")
    return Component(name=value["name"], options=options)


def _network(value: Any) -> Any:
    """As `_component`; options alone are those of the default network."""
    return _component({"name": NETWORK, **value} if isinstance(value, Mapping) else value)


class Target(Component):
    """The network of targets, where it is another than that of the sources that they copy from.

    Layers or modules that are `replaced` are not copied, those that are `widened` in part; whatever
    else differs is a mistake. See `trainers.config.Adaptation`.
    """

    replaced: tuple[int | str, ...] = ()
    widened: tuple[int | str, ...] = ()


def _target(value: Any) -> Any:
    """As `_network`, with the two lists beside the options."""
    if value is None:
        return None
    component = _network(value)
    options = dict(component.options)
    lists = {key: options.pop(key, []) for key in ("replaced", "widened")}
    for key, names in lists.items():
        if not isinstance(names, list) or any(type(name) not in (int, str) for name in names):
            raise ConfigError(
                key, f"expected layers such as [1, layer3.conv], found {shown(names)}"
            )
    return Target(name=component.name, options=options, **{k: tuple(v) for k, v in lists.items()})


def _is_option(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_option, value))
    is_infinite = isinstance(value, float) and not math.isfinite(value)
    return not isinstance(value, Mapping) and not is_infinite


class Halves(_Model):
    """Both halves of a split, by class index or class name."""

    A: tuple[Any, ...]
    B: tuple[Any, ...]

    def members(self, letter: str) -> tuple[int | str, ...]:
        half = self.A if letter == "A" else self.B
        for item in half:
            if isinstance(item, bool) or not isinstance(item, int | str):
                raise ConfigError(letter, f"expected class indices or names, found {item!r}")
        return half


Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Splits(_Model):
    """How the classes are divided.

    `random` are seeds of random halves, or of as many classes in A as `sizes` say; `known` names
    divisions that come with the classes; `named` lists the classes of each half; `whole` is one
    task of all classes. `reserved` images of each class stay out of a half for a lone other class.
    """

    random: tuple[Seed, ...] = ()
    sizes: tuple[Annotated[int, Field(ge=1)], ...] = ()
    known: tuple[str, ...] = ()
    named: dict[str, Halves] = {}
    whole: bool = False
    reserved: Annotated[int, Field(ge=1)] | None = None


def _layers(value: Any) -> Any:
    if value == "all":
        return ()
    if isinstance(value, str) and (match := re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", value)):
        first, last = map(int, match.groups())
        if first <= last < first + MOST_LAYERS:
            return tuple(range(first, last + 1))
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return tuple(value)
    raise ValueError(f"expected layers such as 1..7, [1, 3, 5] or all, found {shown(value)}")


def _images(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    return tuple(None if item == "all" else item for item in items)


def _gpus(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise ValueError(f"expected a fraction of one GPU or a whole number, found {value:g}")
    return value


def _accelerator(value: str, info: ValidationInfo) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        raise ValueError(f"expected a kind of GPU as Ray calls it, such as A100, found {value!r}")
    if not info.data.get("gpu"):
        raise ValueError("needs gpu: it says which kind of GPU")
    return value


class Resources(_Model):
    """What a trial asks of a node. `memory_gb` in 10⁹ bytes; `custom` as Ray's custom resources.

    `accelerator` is a kind of GPU as Ray calls it, such as A100, T4 or A10G.
    """

    cpu: Annotated[float, Field(gt=0)] = 1.0
    gpu: Annotated[float, Field(ge=0), AfterValidator(_gpus)] = 0.0
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    accelerator: Annotated[str, AfterValidator(_accelerator)] | None = None
    custom: dict[str, Annotated[float, Field(ge=0)]] = {}


class FineTune(_Model):
    """What is different for fine-tuned trials: keys of `recipe` that replace the sweep's own.

    With `search` their schedule is the best that a study finds, which begins with this recipe.
    """

    recipe: Recipe | None = None
    search: Search | None = None


class Grid(_Model):
    """Which networks to train, and how. `layers` is empty for "all".

    `images_per_class` keeps the first training images of each class of the target, none all of
    them; sources always learn all.
    """

    splits: Splits = Splits()
    targets: tuple[Literal["A", "B"], ...] = ("A", "B")
    treatments: tuple[TreatmentName, ...] = ALL_TREATMENTS
    layers: Annotated[tuple[int, ...], BeforeValidator(_layers)] = ()
    images_per_class: Annotated[
        tuple[Annotated[int, Field(ge=1)] | None, ...], BeforeValidator(_images)
    ] = (None,)
    seeds: tuple[Seed, ...] = (0,)
    recipe: Recipe
    fine_tune: FineTune = FineTune()


class Sweep(Grid):
    """One sweep file: a grid, or several `grids` that inherit what they do not say themselves.

    `reference` names published results that the report lays beside these.
    """

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    dataset: Annotated[Data, BeforeValidator(_data)]
    network: Annotated[Component, BeforeValidator(_network)] = Component(name=NETWORK)
    target_network: Annotated[Target | None, BeforeValidator(_target)] = None
    grids: dict[str, Grid] = {}
    reference: Literal["paper"] | None = None
    resources: dict[Literal["default", TreatmentName], Resources] = {}
    keep: Literal["bases", "all", "none"] = "bases"
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0

    @property
    def parts(self) -> dict[str, Grid]:
        """The grids by name; a sweep without grids is its own, without a name."""
        return dict(self.grids) or {"": self}

    def request(self, treatment: Treatment) -> Resources:
        """What a trial of this treatment asks for."""
        name = treatment.kind + "+" * treatment.fine_tuned
        default = self.resources.get("default", Resources())
        return self.resources.get(name, default)  # type: ignore[call-overload,no-any-return]
