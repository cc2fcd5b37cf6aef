"""`Sweep`: what a sweep file says, validated; every mistake is one line with file, line and key."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib.resources
import json
import math
import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from orchestrator import yaml_source
from orchestrator.errors import SweepError
from orchestrator.yaml_source import Source
from trainers.config import (
    ConfigError,
    DatasetInfo,
    DatasetRef,
    NetworkInfo,
    NetworkRef,
    Options,
    Recipe,
    Schedule,
    Treatment,
    freeze_options,
)
from trainers.splits import Split, named_split, random_split

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
        return ":" in self.name

    @property
    def frozen_options(self) -> Options:
        return freeze_options(self.options)


def _component(value: Any) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError("expected a name, package.module:function, or a mapping with a name")
    if ":" in value["name"] and not re.fullmatch(OWN, value["name"]):
        raise ValueError(f"expected package.module:function, found {_shown(value['name'])}")
    options = {key: option for key, option in value.items() if key != "name"}
    for key, option in options.items():
        if not _is_option(option):
            raise ConfigError(key, "expected a finite number, a text, true or false, or a list")
    return Component(name=value["name"], options=options)


def _network(value: Any) -> Any:
    """As `_component`; options alone are those of the default network."""
    return _component({"name": NETWORK, **value} if isinstance(value, Mapping) else value)


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


class Splits(_Model):
    """How the classes are divided: random halves by seed, named ones by their classes."""

    random: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = ()
    named: dict[str, Halves] = {}


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
    raise ValueError(f"expected layers such as 1..7, [1, 3, 5] or all, found {_shown(value)}")


def _gpus(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise ValueError(f"expected a fraction of one GPU or a whole number, found {value:g}")
    return value


class Resources(_Model):
    """What a trial asks of a node. `memory_gb` in 10⁹ bytes; `custom` as Ray's custom resources."""

    cpu: Annotated[float, Field(gt=0)] = 1.0
    gpu: Annotated[float, Field(ge=0), AfterValidator(_gpus)] = 0.0
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    custom: dict[str, Annotated[float, Field(ge=0)]] = {}


class FineTune(_Model):
    """What is different for fine-tuned trials: keys of `recipe` that replace the sweep's own."""

    recipe: Recipe | None = None


class Sweep(_Model):
    """One sweep file. `layers` is empty for "all"."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    dataset: Annotated[Component, BeforeValidator(_component)]
    network: Annotated[Component, BeforeValidator(_network)] = Component(name=NETWORK)
    splits: Splits
    treatments: tuple[TreatmentName, ...] = ALL_TREATMENTS
    layers: Annotated[tuple[int, ...], BeforeValidator(_layers)] = ()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = (0,)
    recipe: Recipe
    fine_tune: FineTune = FineTune()
    resources: dict[Literal["default", TreatmentName], Resources] = {}
    keep: Literal["bases", "all", "none"] = "bases"
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0

    def request(self, treatment: Treatment) -> Resources:
        """What a trial of this treatment asks for."""
        name = treatment.kind + "+" * treatment.fine_tuned
        default = self.resources.get("default", Resources())
        return self.resources.get(name, default)  # type: ignore[call-overload,no-any-return]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A sweep and what planning must know of its data and its network."""

    sweep: Sweep
    dataset: DatasetRef
    network: NetworkRef
    data: DatasetInfo
    layers: NetworkInfo
    splits: tuple[Split, ...]
    text: str


def bundled() -> list[str]:
    """Names of the sweeps that come with the project."""
    folder = importlib.resources.files("sweeps")
    names = (entry.name for entry in folder.iterdir())
    return sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml"))


def read(name: str) -> tuple[str, str]:
    """Text and display name of a sweep: the name of a bundled one, or a file's path."""
    if name in bundled():
        resource = importlib.resources.files("sweeps") / f"{name}.yaml"
        return resource.read_text(encoding="utf-8"), f"{name}.yaml"
    path = Path(name)
    try:
        if path.suffix not in (".yaml", ".yml") and not path.exists():
            hint = _hint(name, bundled()) or f"; bundled sweeps: {', '.join(bundled())}"
            expected = "expected a YAML file or a bundled sweep"
            raise SweepError([f"no sweep {name!r}: {expected}{hint}"])
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SweepError([f"{path}:1: this is not a text file (UTF-8)"]) from error
    except OSError as error:
        raise SweepError([f"{path}: cannot read the sweep file: {error.strerror}"]) from error
    for folder in (Path.cwd(), path.resolve().parent):  # a user's own dataset and network
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    return text, str(path)


def load(name: str, overrides: Sequence[str] = ()) -> tuple[Sweep, Source]:
    """The sweep called `name`, with `key.path=value` overrides. Raises `SweepError`."""
    text, shown = read(name)
    data, source = yaml_source.parse(text, shown)
    if not isinstance(data, dict):
        raise SweepError([source.mistake((), "expected a mapping with keys such as name, dataset")])
    for override in overrides:
        _override(data, override, source)
    return validate(data, source), source


def validate(data: dict[str, Any], source: Source) -> Sweep:
    """Check the data of a sweep file. Raises `SweepError` with a line for each mistake."""
    data = _with_fine_tune_recipe(data)
    try:
        sweep = Sweep.model_validate_json(json.dumps(data))
    except ValidationError as error:
        mistakes = [_explain(item, data, source) for item in error.errors()]
        raise SweepError(list(dict.fromkeys(m for m in mistakes if m))) from error
    if found := _contradictions(sweep):
        raise SweepError([source.mistake(path, message) for path, message in found])
    return sweep


def shorten(sweep: Sweep, steps: int) -> Sweep:
    """The sweep with so few steps that it only shows whether it works."""

    def short(recipe: Recipe) -> Recipe:
        return dataclasses.replace(recipe, steps=steps, epochs=None, evaluate_every=steps)

    own = short(sweep.fine_tune.recipe) if sweep.fine_tune.recipe else None
    return sweep.model_copy(
        update={"recipe": short(sweep.recipe), "fine_tune": FineTune(recipe=own)}
    )


def own_modules(sweep: Sweep) -> list[str]:
    """Folders and files of the user's code that a sweep names, for the workers of a cluster.

    A package travels whole, a module of its own as one file.
    """
    found = []
    for component in (sweep.dataset, sweep.network):
        if component.is_own:
            top = sys.modules[component.name.partition(":")[0].partition(".")[0]]
            file = Path(top.__file__ or next(iter(top.__path__)))
            found.append(str(file.parent if hasattr(top, "__path__") and file.is_file() else file))
    return list(dict.fromkeys(found))


def examine(sweep: Sweep, source: Source) -> Experiment:
    """Look at the data and the network that a sweep names, and check the sweep against them.

    Raises `SweepError` for what does not fit: options, classes, layers, batch size.
    """
    from trainers import datasets, networks

    for field, registry in (("dataset", datasets.DATASETS), ("network", networks.NETWORKS)):
        component: Component = getattr(sweep, field)
        if not component.is_own and component.name not in registry:
            hint = _hint(component.name, registry) or f"; known: {', '.join(registry)}"
            message = f"unknown {field} {component.name!r}{hint}"
            raise SweepError([source.mistake(source.known((field, "name")), message)])
    with _describing("dataset", sweep.dataset, source):
        data = datasets.describe(sweep.dataset.name, sweep.dataset.frozen_options)
    splits = _splits(sweep, data, source)
    with _describing("network", sweep.network, source):
        network = NetworkRef(
            name=sweep.network.name,
            options=sweep.network.frozen_options,
            fingerprint=networks.fingerprint(sweep.network.name),
        )
        layers = networks.describe(network, max(len(s.a) for s in splits), data.shape)
    if misfits := _misfits(sweep, layers):
        raise SweepError([source.mistake(source.known(path), text) for path, text in misfits])
    dataset = DatasetRef(
        name=sweep.dataset.name, options=sweep.dataset.frozen_options, fingerprint=data.fingerprint
    )
    return Experiment(sweep, dataset, network, data, layers, splits, source.text)


@contextlib.contextmanager
def _describing(field: str, component: Component, source: Source) -> Iterator[None]:
    """Turns what is wrong with a dataset or a network into a mistake of the sweep.

    A user's own code may raise anything; the mistake then names the place in it.
    """
    from trainers.datasets import DataError
    from trainers.networks import NetworkError

    def mistake(message: str, *key: str) -> SweepError:
        return SweepError([source.mistake(source.known((field, *key)), message)])

    try:
        yield
    except ConfigError as error:
        raise mistake(str(error), error.field) from error
    except (DataError, NetworkError) as error:
        raise mistake(str(error)) from error
    except Exception as error:
        if not component.is_own:
            raise
        raise mistake(f"{component.name} raised {_raised(error, component.name)}") from error


def _raised(error: Exception, name: str) -> str:
    """`RuntimeError: no such disk (/home/me/mine.py:8)`: the last line in the user's own module."""
    text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if isinstance(error, SyntaxError):
        return text  # which names file and line itself
    own = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename[0] != "<"]
    place = ([f for f in frames if f.filename == own] or frames)[-1]
    return f"{text} ({place.filename}:{place.lineno})"


def _misfits(sweep: Sweep, layers: NetworkInfo) -> list[tuple[yaml_source.Path, str]]:
    """Layers that the network does not have, or that cannot be copied."""
    if layers.depth < 2:
        name, found = sweep.network.name, layers.depth
        return [(("network",), f"network {name}: expected at least two layers, found {found}")]
    return [
        (
            ("layers", index),
            f"layer {n} is out of range: the network has layers 1..{layers.depth}, "
            f"of which 1..{layers.depth - 1} can be copied",
        )
        for index, n in enumerate(sweep.layers)
        if not 1 <= n < layers.depth
    ]


def _splits(sweep: Sweep, data: DatasetInfo, source: Source) -> tuple[Split, ...]:
    classes = data.classes
    if len(classes) < 2:
        raise SweepError([source.mistake(("dataset",), "expected at least two classes")])
    splits = [random_split(seed, len(classes)) for seed in sweep.splits.random]
    for name, halves in sweep.splits.named.items():
        try:
            splits.append(named_split(name, halves.members("A"), halves.members("B"), classes))
        except ConfigError as error:
            path = ("splits", "named", name, *([error.field] if error.field else []))
            raise SweepError([source.mistake(path, str(error))]) from error
    for split in splits:
        for letter in "AB":
            for subset in ("validation", "test"):
                if not sum(getattr(data, subset)[index] for index in split.half(letter)):
                    message = f"half {letter} of {split.name} has no {subset} images"
                    raise SweepError([source.mistake(("dataset",), message)])
            images = sum(data.train[index] for index in split.half(letter))
            for field in ("recipe", "fine_tune"):
                recipe = sweep.recipe if field == "recipe" else sweep.fine_tune.recipe
                if recipe is not None and recipe.batch > images:
                    path = (field, "batch") if field == "recipe" else (field, "recipe", "batch")
                    half = f"half {letter} of {split.name}"
                    message = f"expected at most {images}, the training images of {half}"
                    raise SweepError([source.mistake(path, message)])
    return tuple(splits)


def _contradictions(sweep: Sweep) -> list[tuple[yaml_source.Path, str]]:
    """What each key alone cannot show."""
    found: list[tuple[yaml_source.Path, str]] = []
    names = [f"s{seed}" for seed in sweep.splits.random] + list(sweep.splits.named)
    if not names:
        found.append(
            (("splits",), "the grid is empty: expected seeds under random, or named splits")
        )
    for name in sweep.splits.named:
        if not re.fullmatch(NAME, name):
            found.append((("splits", "named", name), A_NAME))
    for name in _repeated(names):
        found.append((("splits",), f"two splits are called {name}"))
    for field in ("treatments", "seeds"):
        values = getattr(sweep, field)
        if not values:
            found.append(((field,), "the grid is empty: expected at least one"))
    for field in ("treatments", "layers", "seeds"):
        for value in _repeated(getattr(sweep, field)):
            found.append(((field,), f"{value} is given twice"))
    for index, treatment in enumerate(sweep.treatments):
        if treatment.startswith(("selffer", "transfer")) and "base" not in sweep.treatments:
            found.append((("treatments", index), f"{treatment} copies layers of base: add base"))
    for path, recipe in (
        (("recipe",), sweep.recipe),
        (("fine_tune", "recipe"), sweep.fine_tune.recipe),
    ):
        if recipe is not None and (recipe.steps is None) == (recipe.epochs is None):
            count = "neither" if recipe.steps is None else "both"
            found.append((path, f"expected steps or epochs, found {count}"))
            break  # what fine-tuned trials inherit is said once
    return found


def _repeated(values: Sequence[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def _with_fine_tune_recipe(data: dict[str, Any]) -> dict[str, Any]:
    """The data with `fine_tune.recipe` completed by `recipe`; steps there replace epochs here."""
    recipe, fine_tune = data.get("recipe"), data.get("fine_tune")
    if not isinstance(fine_tune, dict) or not isinstance(recipe, dict):
        return data
    own = fine_tune.get("recipe")
    if not isinstance(own, dict):
        return data
    inherited = dict(recipe)
    if {"steps", "epochs"} & set(own):
        inherited = {k: v for k, v in recipe.items() if k not in ("steps", "epochs")}
    return {**data, "fine_tune": {**fine_tune, "recipe": {**inherited, **own}}}


def _override(data: dict[str, Any], override: str, source: Source) -> None:
    """Apply one `key.path=value` to the data of a sweep file; the value is YAML."""
    dotted, equals, text = override.partition("=")
    path = tuple(dotted.strip().split("."))
    if not equals or not all(path):
        raise SweepError([f"--set {override}: expected key=value, such as recipe.steps=100"])
    value = yaml_source.parse(text, f"--set {dotted}")[0] if text.strip() else None
    parent = data
    for part in path[:-1]:
        if isinstance(parent.get(part), str) and part in ("dataset", "network"):
            parent[part] = {"name": parent[part]}
        parent = parent.setdefault(part, {})
        if not isinstance(parent, dict):
            raise SweepError([f"--set {override}: {part} is not a mapping"])
    parent[path[-1]] = value
    source.override(path)


EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "dataclass_exact_type": "a mapping",
}


def _explain(item: Any, data: dict[str, Any], source: Source) -> str | None:
    """pydantic's account of a mistake in our words; none for one that is told elsewhere."""
    path: yaml_source.Path = tuple(part for part in item["loc"] if part != "[key]")
    if isinstance(error := item.get("ctx", {}).get("error"), ConfigError) and error.field:
        path = (*path, error.field)
    if path[:2] == ("fine_tune", "recipe") and len(path) > 2:
        inherited = path not in source.lines and path not in source.overrides
        if inherited and path[2] in data.get("recipe", {}):
            return None  # said of recipe itself
    kind, found, context = item["type"], item["input"], item.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        key, known = str(path[-1]), _known_keys(path[:-1])
        return source.mistake(
            path, f"unknown key {key!r}{_hint(key, known) or '; known: ' + ', '.join(known)}"
        )
    if kind in ("missing", "missing_argument"):
        return source.mistake(path, "the key is missing")
    if kind == "literal_error":
        choices = re.findall(r"'([^']+)'", context["expected"])
        hint = _hint(str(found), choices)
        return source.mistake(
            path, f"expected one of {', '.join(choices)}, found {_shown(found)}{hint}"
        )
    if kind == "value_error":
        return source.mistake(path, str(context["error"]))
    if kind == "string_pattern_mismatch":
        return source.mistake(path, f"{A_NAME}, found {_shown(found)}")
    if kind in EXPECTED:
        return source.mistake(path, f"expected {EXPECTED[kind]}, found {_shown(found)}")
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = [
        f"x {signs[name]} {_shown(value)}" for name, value in context.items() if name in signs
    ]
    message = f"expected {' and '.join(bounds)}" if bounds else item["msg"]
    return source.mistake(path, f"{message}, found {_shown(found)}")


def _known_keys(path: yaml_source.Path) -> list[str]:
    """The keys that a mapping at this path may have."""
    if path and path[-1] == "schedule":
        return [field.name for field in dataclasses.fields(Schedule)]
    if path and path[-1] == "recipe":
        return [field.name for field in dataclasses.fields(Recipe)]
    models: dict[yaml_source.Path, type[BaseModel]] = {
        (): Sweep,
        ("splits",): Splits,
        ("fine_tune",): FineTune,
    }
    inner: dict[str, type[BaseModel]] = {"resources": Resources, "splits": Halves}
    model = models.get(path) or inner[str(path[0])]
    return list(model.model_fields)


def _hint(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _shown(value: Any) -> str:
    """A value as YAML would have it, cut short."""
    if isinstance(value, float):
        return f".{value}" if not math.isfinite(value) else f"{value:g}"
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "…"
