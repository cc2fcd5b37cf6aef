"""Functions that a sweep names, `package.module:function`, and their options."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import inspect
import logging
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from trainers.canonical import ConfigError, Options, key
from trainers.own_files import OwnFiles, own_files
from trainers.seeds import seeded
from trainers.spelling import hint

log = logging.getLogger("layerwise")

GIVEN = ("classes", "shape")  # arguments of every network beside its options


def resolve(name: str, options: Options = ()) -> tuple[Callable[..., Any], str]:
    """Return the function that `package.module:function` names, and a hash of its code.

    The hash covers the modules and the data files of `own_files`; strings of `options` may name
    data files too. Raises `ConfigError` with field `name`.
    """
    module = _module(name)
    attribute = name.partition(":")[2]
    if not callable(function := getattr(module, attribute, None)):
        raise ConfigError("name", f"module {module.__name__!r} has no function {attribute!r}")
    return function, _hash(module, tuple(v for _, v in options if isinstance(v, str)))


def sources(name: str) -> str:
    """Return a hash of the modules of `package.module:function`, without their data files.

    It is enough for a function whose result is hashed itself. Raises `ConfigError`.
    """
    return _hash(_module(name), None)


def files_of(name: str, options: Options = ()) -> OwnFiles:
    """Return the files of `package.module:function`. Raises `ConfigError`."""
    return own_files(_module(name), [v for _, v in options if isinstance(v, str)])


def _module(name: str) -> types.ModuleType:
    module_name = name.partition(":")[0]
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigError("name", f"expected package.module:function, found {name!r}")
    if library := _library(module_name):
        raise ConfigError("name", f"{name!r} cannot be used{library}")
    try:
        with seeded(key("import", module_name)):
            module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError("name", f"cannot import {module_name!r}: {error}") from error
    _tell_hidden(module_name.partition(".")[0])
    return module


@functools.cache
def _tell_hidden(top: str) -> None:
    """Name a user's file that is not imported, since an installed package has its name."""
    used = getattr(sys.modules[top], "__file__", None)
    for folder in map(Path, sys.path):
        for path in (folder / f"{top}.py", folder / top / "__init__.py"):
            if used and path.is_file() and not path.samefile(used):
                log.warning("%s is not used: the installed %s has its name", path, used)


_recorders: list[set[str]] = []


@contextlib.contextmanager
def recorded_files() -> Iterator[set[str]]:
    """Yield a set that receives the paths, as given, of files opened for reading in the block."""
    opened: set[str] = set()
    _install_hook()
    _recorders.append(opened)
    try:
        yield opened
    finally:
        _recorders.remove(opened)


@functools.cache
def _install_hook() -> None:
    """Listen to Python's audit events, which nothing can stop listening to."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and _recorders:
            path, mode, _ = arguments
            if isinstance(path, str) and not set(mode or "") & set("wax+"):
                for opened in _recorders:
                    opened.add(path)

    sys.addaudithook(hook)


@functools.lru_cache(maxsize=64)
def _hash(module: types.ModuleType, options: tuple[str, ...] | None) -> str:
    """Return the hash of a module's files; without data files if `options` is None.

    A module that loads no other one, and no data, is hashed by its source alone.
    """
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError) as error:
        message = f"module {module.__name__!r} has no source to hash"
        raise ConfigError("name", message) from error
    hasher = hashlib.sha256(source.encode())
    files = own_files(module, options or ())
    own = Path(module.__file__ or "").resolve()
    for file in (*files.modules, *(files.data if options is not None else ())):
        path = files.root / file
        if path != own and path.stat().st_size:
            with path.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
            hasher.update(f"\0{file}\0{content}".encode(errors="surrogateescape"))
    return hasher.hexdigest()[:16]


def _library(module: str) -> str:
    """Return why a module is refused whose name is one of the standard library's.

    Functions such as `os:system` are no datasets, and a file of that name would not be imported.
    """
    top = module.partition(".")[0]
    if top not in sys.stdlib_module_names:
        return ""
    return f"; {top} is a module of Python's standard library: give your own file another name"


def fit_options(
    function: Callable[..., Any], options: Options, given: Collection[str] = GIVEN
) -> Options:
    """Return the options that `function` takes, without those at their default.

    An id depends on the result. Arguments in `given` and positional-only arguments are no options.
    Raises `ConfigError` for an unknown option, or one of a wrong type.
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
            choices = f"known: {', '.join(known)}" if known else "it takes no options"
            raise ConfigError(name, f"unknown key {name!r}{hint(name, known) or f'; {choices}'}")
    return tuple(fitting)


NAMES = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("a string", "strings"),
}


def _misfit(annotation: Any, value: Any) -> str:
    """Return a description of the annotation, such as "a number", if `value` does not fit it.

    Return "" if the value fits. Only numbers, strings, booleans, lists of one of these, and any of
    these or None are checked; every value fits any other annotation.
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
