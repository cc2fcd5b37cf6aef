"""A YAML text as plain data, with the line of every value, and no way to hurt the reader."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from orchestrator.errors import SweepError

Path = tuple[str | int, ...]

MOST_VALUES = 20_000  # aliases counted each time: nine lines can stand for a billion values
MOST_BYTES = 1_000_000
MOST_DEPTH = 30


TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = {TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map")}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with the numbers of YAML 1.2: `5e-4` is one, `1:30`, `010` and dates are texts."""

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
    """Where values came from: the file's name, its text and a line for every path.

    `argument` is what the user typed to name it, `changes` the `key=value` given beside it.
    """

    name: str
    text: str = ""
    argument: str = ""
    changes: list[str] = field(default_factory=list)
    lines: dict[Path, int] = field(default_factory=dict)
    overrides: set[Path] = field(default_factory=set)

    def record(self) -> str:
        """The text, and what was changed, as comments below it."""
        changed = [f"# changed by: --set {change}\n" for change in self.changes]
        return "".join([self.text.rstrip("\n") + "\n", *changed])

    def override(self, path: Path) -> None:
        """The value at `path` was given on the command line and not in the file."""
        self.lines = {p: line for p, line in self.lines.items() if p[: len(path)] != path}
        self.overrides.add(path)

    def move(self, origin: Path, path: Path) -> None:
        """What was written at `origin` now also stands at `path`, in place of what was there."""
        moved = {
            (*path, *p[len(origin) :]): line
            for p, line in self.lines.items()
            if p[: len(origin)] == origin
        }
        self.lines = {p: n for p, n in self.lines.items() if p[: len(path)] != path} | moved

    def known(self, path: Path) -> Path:
        """`path`, or the nearest above it that somebody wrote."""
        while path and path not in self.lines and path not in self.overrides:
            path = path[:-1]
        return path

    def mistake(self, path: Path, message: str) -> str:
        """One line: file, line, key, what is wrong. The line of the nearest key that is there."""
        near = self.known(path)
        if near in self.overrides:
            where = f"--set {dotted(near)}"
            return f"{where}: {message}" if path == near else f"{where}: {dotted(path)}: {message}"
        where = f"{self.name}:{self.lines.get(near, 1)}"
        return f"{where}: {dotted(path)}: {message}" if path else f"{where}: {message}"


def dotted(path: Path) -> str:
    """A path as a reader would write it: `splits.named.x.A[2]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def parse(text: str, name: str) -> tuple[Any, Source]:
    """The data of a YAML text and where each value stands.

    Raises `SweepError` for what is not YAML, for keys given twice, for aliases that contain
    themselves and for files that expand to more than `MOST_VALUES` values.
    """
    source = Source(name, text)
    if len(text) > MOST_BYTES:
        raise SweepError(
            [source.mistake((), f"expected a sweep file, found {len(text)} characters")]
        )
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise SweepError([source.mistake((), "the file is empty; `layerwise init` writes one")])
        return _Builder(loader, source).build(node, ()), source
    except (yaml.YAMLError, RecursionError) as error:
        source.lines[()], reason = _place_and_reason(error, text)
        raise SweepError([source.mistake((), f"this is not YAML: {reason}")]) from error
    finally:
        if loader is not None:
            loader.dispose()


def _place_and_reason(error: Exception, text: str) -> tuple[int, str]:
    """The line that PyYAML stumbled over, from 1, and why."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        reasons = filter(None, (error.context, error.problem))
        return error.problem_mark.line + 1, ", ".join(reasons)
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, error.reason
    return 1, "it is nested too deeply"


class _Builder:
    """Turns nodes into data; counts values and watches for recursion."""

    def __init__(self, loader: _Loader, source: Source):
        self.loader, self.source = loader, source
        self.values = 0
        self.open: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.source.lines.setdefault(path, node.start_mark.line + 1)
        self.values += 1
        if any(node is parent for parent in self.open):
            raise self.error(path, "an alias contains itself")
        if self.values > MOST_VALUES:
            raise self.error((), f"aliases expand to more than {MOST_VALUES} values")
        if len(path) > MOST_DEPTH:
            raise self.error((), f"nested more than {MOST_DEPTH} deep")
        if node.tag not in PLAIN_TAGS:
            raise self.error(path, f"expected a value without the tag {_shown(node.tag)}")
        self.open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
            try:
                value = self.loader.construct_object(node)
                if isinstance(value, str):
                    value.encode()  # half a surrogate pair is no text
            except (yaml.YAMLError, ValueError) as error:
                reason = getattr(error, "problem", None) or error
                raise self.error(path, f"cannot read this value: {reason}") from error
            return value
        finally:
            self.open.pop()

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error(path, "expected a text as key")
            key = key_node.value
            here = (*path, key)
            if key in found:
                self.source.lines[here] = key_node.start_mark.line + 1
                raise self.error(here, "the key is given twice")
            self.source.lines[here] = key_node.start_mark.line + 1
            found[key] = self.build(value_node, here)
        return found

    def error(self, path: Path, message: str) -> SweepError:
        return SweepError([self.source.mistake(path, message)])


def _shown(tag: str) -> str:
    return tag.replace(TAG, "!!")


def hint(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'schedule'?`, if a known word is near."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def shown(value: Any) -> str:
    """A value as YAML would have it, cut short."""
    if isinstance(value, float):
        return f".{value}" if not math.isfinite(value) else f"{value:g}"
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "…"
