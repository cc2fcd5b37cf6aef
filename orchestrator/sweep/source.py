"""A YAML file as plain data, with the line of every value. Hostile files are refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from orchestrator.errors import SweepError

Path = tuple[str | int, ...]  # keys and indices from the top: ("splits", "random", 0)

MOST_VALUES = 20_000  # counted at each alias: nine lines of aliases can stand for a billion values
MOST_BYTES = 1_000_000
MOST_DEPTH = 30

CHANGED = "# changed by: --set "  # begins a line of `Source.record`

TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = {TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map")}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with the numbers of YAML 1.2.

    `5e-4` is a number. `1:30`, `010` and dates are strings.
    """

    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]
        first: [r for r in resolvers if r[0] in (TAG + "null", TAG + "bool")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(TAG + "int", re.compile(r"[-+]?(0|[1-9]\d*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    TAG + "float",
    re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(?=e))(e[-+]?\d+)?$|[-+]?\.inf$|\.nan$", re.IGNORECASE),
    list("-+0123456789."),
)


@dataclass
class Source:
    """The content of a sweep file and the places of its values."""

    name: str
    """File name, for messages."""
    text: str = ""
    """Content of the file."""
    command: str = ""
    """The sweep as other commands name it: the user's argument and the `--set` options, quoted."""
    forms: list[str] = field(default_factory=list)
    """Names of the forms that are laid over the sweep."""
    changes: list[str] = field(default_factory=list)
    """Changes `key=value` of the command line."""
    lines: dict[Path, int] = field(default_factory=dict)
    """Line of each value, from 1."""
    overrides: set[Path] = field(default_factory=set)
    """Paths whose value was given on the command line."""

    def record(self) -> str:
        """Return the content of the file, with the changes as comments below it."""
        changed = [f"{CHANGED}{change}\n" for change in self.changes]
        return "".join([self.text.rstrip("\n") + "\n", *changed])

    def override(self, path: Path) -> None:
        """Note that the value at `path` comes from the command line."""
        self.lines = {p: line for p, line in self.lines.items() if p[: len(path)] != path}
        self.overrides.add(path)

    def move(self, origin: Path, path: Path) -> None:
        """Note that the value written at `origin` replaces the value at `path`."""
        moved = {
            (*path, *p[len(origin) :]): line
            for p, line in self.lines.items()
            if p[: len(origin)] == origin
        }
        self.lines = {p: n for p, n in self.lines.items() if p[: len(path)] != path} | moved

    def nearest(self, path: Path) -> Path:
        """Return `path` if it was written, else the nearest path above it that was."""
        while path and path not in self.lines and path not in self.overrides:
            path = path[:-1]
        return path

    def mistake(self, path: Path, message: str) -> str:
        """Return one line: file, line number, key, message.

        The line number is that of the nearest key that was written.
        """
        near = self.nearest(path)
        if path not in self.lines:  # the key may exist only because of a longer change
            near = next((change for change in self.overrides if change[: len(path)] == path), near)
        if near in self.overrides:
            where = f"--set {dotted(near)}"
            is_all = path == near[: len(path)]
            return f"{where}: {message}" if is_all else f"{where}: {dotted(path)}: {message}"
        where = f"{self.name}:{self.lines.get(near, 1)}"
        return f"{where}: {dotted(path)}: {message}" if path else f"{where}: {message}"


def dotted(path: Path) -> str:
    """Return a path as a user writes it: `splits.named.x.A[2]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def parse(
    text: str,
    name: str,
    command: str = "",
    forms: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> tuple[Any, Source]:
    """Return the data of a YAML string and the line of each value.

    The other arguments are fields of `Source`. Raises `SweepError` for a string that is not YAML, a
    key that is given twice, an alias that contains itself, a tag, and for more than `MOST_VALUES`
    values.
    """
    source = Source(name, text, command, list(forms), list(changes))
    if len(text) > MOST_BYTES:
        message = f"expected a sweep file, found {len(text)} characters"
        raise SweepError([source.mistake((), message)])
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise SweepError([source.mistake((), "the file is empty; `layerwise init` writes one")])
        return _Builder(loader, source).build(node, ()), source
    except (yaml.YAMLError, RecursionError) as error:
        source.lines[()], reason = _line_and_reason(error, text)
        raise SweepError([source.mistake((), f"this is not YAML: {reason}")]) from error
    finally:
        if loader is not None:
            loader.dispose()


def plain_yaml(text: str) -> Any:
    """Return the data of a YAML file that is not a sweep file. Raises `ValueError`."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _line_and_reason(error: Exception, text: str) -> tuple[int, str]:
    """Return the line at which PyYAML failed, from 1, and its reason."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        reasons = filter(None, (error.context, error.problem))
        return error.problem_mark.line + 1, ", ".join(reasons)
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, error.reason
    return 1, "it is nested too deeply"


class _Builder:
    """Builder of plain data from YAML nodes, which records the line of each value."""

    def __init__(self, loader: _Loader, source: Source):
        self.loader, self.source = loader, source
        self.n_values = 0
        self.ancestors: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: Path) -> Any:
        """Return the data of a node."""
        self.source.lines.setdefault(path, node.start_mark.line + 1)
        self.check(node, path)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        self.ancestors.append(node)
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self.mapping(node, path)
        else:
            value = [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        self.ancestors.pop()
        return value

    def check(self, node: yaml.Node, path: Path) -> None:
        """Raise `SweepError` for recursion, too much data, or a tag."""
        self.n_values += 1
        if any(node is ancestor for ancestor in self.ancestors):
            raise self.error(path, "an alias contains itself")
        if self.n_values > MOST_VALUES:
            raise self.error((), f"aliases expand to more than {MOST_VALUES} values")
        if len(path) > MOST_DEPTH:
            raise self.error((), f"nested more than {MOST_DEPTH} deep")
        if node.tag not in PLAIN_TAGS:
            tag = node.tag.replace(TAG, "!!")
            raise self.error(path, f"expected a value without the tag {tag}")

    def scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        try:
            value = self.loader.construct_object(node)
            if isinstance(value, str):
                value.encode()  # fails for half of a surrogate pair
        except (yaml.YAMLError, ValueError) as error:
            reason = getattr(error, "problem", None) or error
            raise self.error(path, f"cannot read this value: {reason}") from error
        return value

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error(path, "expected a string as key")
            key = key_node.value
            here = (*path, key)
            self.source.lines[here] = key_node.start_mark.line + 1
            if key in values:
                raise self.error(here, "the key is given twice")
            values[key] = self.build(value_node, here)
        return values

    def error(self, path: Path, message: str) -> SweepError:
        return SweepError([self.source.mistake(path, message)])


def shown(value: Any) -> str:
    """Return a value as YAML writes it, at most 40 characters long."""
    if isinstance(value, float) and not math.isfinite(value):
        return f".{value}"
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "…"
