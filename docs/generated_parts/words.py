"""Types and defaults in words, as a reader of a sweep file sees them."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, Literal

WORDS = {
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    str: "string",
    Any: "any value",
}
PLURALS = {int: "whole numbers", float: "numbers", str: "strings"}


def type_words(hint: Any) -> str:
    """Return a type in words, such as "list of whole numbers" for `tuple[int, ...]`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return type_words(arguments[0]) + bound_words(arguments[1:])
    if origin is Literal:
        return any_of([f"`{item}`" for item in arguments])
    if origin in (typing.Union, types.UnionType):
        return any_of([type_words(item) for item in arguments if item is not types.NoneType])
    if origin is tuple and arguments == (float, float):
        return "number, or range `[low, high]`"
    if origin in (tuple, list):
        return f"list of {plural(arguments[0])}"
    if origin is dict:
        return f"mapping of {plural(arguments[0])} to {plural(arguments[1])}"
    if hint in WORDS:
        return WORDS[hint]
    return f"mapping: [{hint.__name__}](#{hint.__name__.lower()})"


def plural(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Annotated:
        inner, *notes = typing.get_args(hint)
        return plural(inner) + bound_words(notes)
    return PLURALS.get(hint) or type_words(hint).removeprefix("mapping: ")


def bound_words(notes: Any) -> str:
    """Return the bounds among the notes of an `Annotated` type, such as ", > 0"."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [
        f"{signs[name]} {value:g}"
        for note in notes
        for bound in getattr(note, "metadata", [])
        for name in signs
        if (value := getattr(bound, name, None)) is not None and value < 2**32
    ]
    return "".join(f", {text}" for text in found)


def any_of(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def default_words(default: Any) -> str:
    """Return a default as YAML writes it; a default without a value of its own is left out."""
    if default is ...:
        return "**required**"
    if default in ((), {}, None) or dataclasses.is_dataclass(default) or is_model(default):
        return "optional"
    return f"default `{yaml_value(default)}`"


def is_model(value: Any) -> bool:
    return hasattr(type(value), "model_fields")


def yaml_value(value: Any) -> str:
    if isinstance(value, tuple | list):
        items = ["all" if item is None else yaml_value(item) for item in value]
        return items[0] if items == ["all"] else f"[{', '.join(items)}]"
    return value if isinstance(value, str) else json.dumps(value)
