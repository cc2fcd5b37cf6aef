"""Functions that a sweep names, `package.module:function`, and the options that they take."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Collection
from typing import Any

from trainers.config import ConfigError, Options

GIVEN = ("classes", "shape")  # what a network is told beside its options


def resolve(name: str) -> tuple[Callable[..., Any], str]:
    """The function that `package.module:function` names, and a hash of its module's source.

    Raises `ConfigError` with field `name`.
    """
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigError("name", f"expected package.module:function, found {name!r}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError("name", f"cannot import {module_name!r}: {error}") from error
    if not callable(function := getattr(module, attribute, None)):
        raise ConfigError("name", f"module {module_name!r} has no function {attribute!r}")
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError) as error:
        raise ConfigError("name", f"module {module_name!r} has no source to hash") from error
    return function, hashlib.sha256(source.encode()).hexdigest()[:16]


def fit_options(
    function: Callable[..., Any], options: Options, given: Collection[str] = GIVEN
) -> Options:
    """The options as `function` takes them, those at their default left out, as ids need it.

    What is `given` to it and what it takes by position alone are no options. Raises `ConfigError`
    for one that it does not take, or of another type.
    """
    parameters = inspect.signature(function, eval_str=True).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [
        name
        for name, parameter in parameters.items()
        if name not in given and parameter.kind is not parameter.POSITIONAL_ONLY
    ]
    fitting = []
    for name, value in options:
        if name in known:
            annotation, default = parameters[name].annotation, parameters[name].default
            if expected := _misfit(annotation, value):
                raise ConfigError(name, f"expected {expected}, found {value!r}")
            if value != default:
                fitting.append((name, float(value) if annotation is float else value))
        elif open_ended and name not in given:
            fitting.append((name, value))
        else:
            near = difflib.get_close_matches(name, known, 1)
            choices = f"known: {', '.join(known)}" if known else "it takes no options"
            hint = f"did you mean {near[0]!r}?" if near else choices
            raise ConfigError(name, f"unknown key {name!r}; {hint}")
    return tuple(fitting)


NAMES = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("a text", "texts"),
}


def _misfit(annotation: Any, value: Any) -> str:
    """What a parameter annotated so expects, if `value` is not that.

    Numbers, texts, booleans and lists of one of them are checked, and any of these or nothing.
    """
    origin = typing.get_origin(annotation)
    inner = {kind for kind in typing.get_args(annotation) if kind is not ...}
    if origin in (typing.Union, types.UnionType):
        kinds = inner - {types.NoneType}
        if value is None or len(kinds) > 1:
            return ""
        return _misfit(kinds.pop(), value)
    if origin in (list, tuple) and len(inner) == 1:
        kind = inner.pop()
        fits = isinstance(value, tuple) and not any(_misfit(kind, item) for item in value)
        return "" if fits else f"a list of {NAMES.get(kind, ('', 'lists'))[1]}"
    if annotation not in NAMES:
        return ""
    accepted = (int, float) if annotation is float else annotation
    fits = isinstance(value, accepted) and isinstance(value, bool) == (annotation is bool)
    return "" if fits else NAMES[annotation][0]
