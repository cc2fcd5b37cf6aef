"""Canonical JSON of configurations, and its digest. Standard library only."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

Options = tuple[tuple[str, Any], ...]
"""Options of a dataset or a network: pairs of name and value, sorted by name."""

STRICT = {"extra": "forbid", "strict": True}

ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)

MOST = 10**9  # steps, epochs or images: a larger number is a typing error


class ConfigError(ValueError):
    """A wrong field of a configuration. `field` names it; the message says what was expected."""

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field


def require(condition: bool, field: str, message: str) -> None:
    """Raise `ConfigError` for `field` unless `condition` holds."""
    if not condition:
        raise ConfigError(field, message)


def require_ranges(configuration: Any, **ranges: tuple[float, float]) -> None:
    """Raise `ConfigError` for the first field that lies outside its range, both ends included."""
    for field, (least, most) in ranges.items():
        value = getattr(configuration, field)
        require(least <= value <= most, field, f"expected {least} ≤ x ≤ {most}")


def freeze_options(options: Mapping[str, Any]) -> Options:
    """Return a mapping as sorted pairs, lists as tuples, so that configurations can be hashed.

    Raises `ConfigError` for a mapping within the mapping.
    """

    def frozen(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            raise ConfigError(key, "expected numbers, strings, booleans or lists of them")
        if isinstance(value, list | tuple):
            return tuple(frozen(key, item) for item in value)
        return value

    return tuple(sorted((key, frozen(key, value)) for key, value in options.items()))


SCALARS = {bool, int, float, str, type(None)}


def to_json(value: Any) -> Any:
    """Return a configuration as JSON values, without the fields at their default.

    A new field with a default therefore changes no older id.
    """
    if dataclasses.is_dataclass(value):
        return {
            field.name: to_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
    if isinstance(value, tuple | list):
        return [x if type(x) in SCALARS else to_json(x) for x in value]
    return value


def canonical_once(part: Any) -> str:
    """Return `canonical(part)`, computed once per object: parts recur in thousands of trials.

    The string is kept with the object. A cache by equality would be wrong, since equal objects may
    differ in their JSON: 1 == 1.0.
    """
    if type(part) is int:
        return str(part)  # as the encoder does, in a tenth of its time
    if type(part) in SCALARS:
        return ENCODER.encode(part)
    known: str | None = getattr(part, "_canonical", None)
    if known is not None:
        return known
    text = canonical(part)
    if dataclasses.is_dataclass(part):
        vars(part)["_canonical"] = text
    return text


def canonical(value: Any) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces, finite numbers only."""
    if dataclasses.is_dataclass(value):
        parts = [
            f'"{name}":{canonical_once(item)}'
            for name, default in _fields(value.__class__)
            if (item := getattr(value, name)) is not default and item != default
        ]
        return "{" + ",".join(parts) + "}"
    return ENCODER.encode(to_json(value))


@functools.cache
def _fields(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Return name and default of each field of a configuration, sorted by name."""
    fields = sorted(dataclasses.fields(kind), key=lambda field: field.name)
    return tuple((field.name, field.default) for field in fields)


def digest(value: Any, length: int = 64) -> str:
    """Return the first `length` hexadecimal digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def key(*parts: Any) -> int:
    """Return the 63-bit seed of the random numbers that `parts` name."""
    return int(digest(list(parts), 16), 16) >> 1
