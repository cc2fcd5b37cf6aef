"""Keys of the sweep file, from the models and the strings below their fields."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal

from generated_parts.words import default_words, type_words

MODELS = (
    *(
        "Sweep",
        "Grid",
        "NamedTask",
        "Weights",
        "TaskForm",
        "Splits",
        "Halves",
        "Component",
        "Data",
        "Target",
    ),
    *(
        "Recipe",
        "Schedule",
        "Stage",
        "Stop",
        "Classifier",
        "Detector",
        "FineTune",
        "Search",
        "Space",
        "Features",
        "Resources",
    ),
)

# Modules whose type aliases are documented.
SOURCES = (
    "trainers.config",
    "trainers.recipe",
    "trainers.classifier",
    "trainers.detector",
    "orchestrator.sweep.",
)

# Values that a key takes in a file and that its type does not show.
FORMS = {
    ("Grid", "layers"): "number, list of numbers, range such as `1..7`, or `all`",
    ("Grid", "images_per_class"): "number, `all`, or a list of them",
    ("Grid", "axes"): "mapping of recipe keys to lists of values",
    ("Sweep", "measure"): "list of names",
    ("Features", "layers"): "number, list of numbers, range such as `1..7`, or `all`",
    ("Sweep", "dataset"): "name, or mapping: [Data](#data)",
    ("Sweep", "network"): "name, or mapping: [Component](#component)",
    ("Sweep", "target_network"): "name, or mapping: [Target](#target)",
    ("NamedTask", "dataset"): "name, or mapping: [Data](#data)",
    ("NamedTask", "classes"): "`all`, or list of class indices or names",
    ("Grid", "transfers"): "list of pairs of names",
    ("TaskForm", "range"): "pair of numbers",
    ("Weights", "range"): "pair of numbers",
    ("Sweep", "weights"): "names with a path, or a mapping: [Weights](#weights)",
    ("Halves", "A"): "list of class indices or names",
    ("Halves", "B"): "list of class indices or names",
    ("Component", "options"): "further keys of the mapping",
}


def fields(name: str) -> str:
    """Return a definition list of the keys of one model: type, default, description."""
    model = model_of(name)
    texts, annotations = descriptions(model)
    hints = typing.get_type_hints(model, include_extras=True)
    entries = []
    for key, default in own_fields(model).items():
        form = FORMS.get((name, key)) or type_words(hints[key])
        facts = [f"`{key}`", form, limits(model, key), default_words(default)]
        choices = choice_texts(model.__module__, annotations[key])
        body = "\n\n".join(text for text in (texts.get(key, ""), choices) if text)
        entries.append(
            " · ".join(fact for fact in facts if fact)
            + "\n:   "
            + textwrap.indent(body or "(no description)", "    ").lstrip()
        )
    return "\n\n".join(entries)


@functools.cache
def model_of(name: str) -> type:
    """Return the class of this name of the sweep room or of a training's configuration."""
    import orchestrator.sweep as room

    rooms = (f"{room.__name__}.{x.name}" for x in iter_modules(room.__path__))
    names = ["trainers.config", "trainers.recipe", *rooms]
    kinds = [vars(importlib.import_module(module)).get(name) for module in names]
    (model,) = {kind for kind in kinds if isinstance(kind, type)}
    return model


def own_fields(model: type) -> dict[str, Any]:
    """Return the fields that a model declares itself, with their defaults; `...` for none."""
    if dataclasses.is_dataclass(model):
        missing = dataclasses.MISSING
        return {
            field.name: ... if field.default is missing else field.default
            for field in dataclasses.fields(model)
        }
    known = model.model_fields  # type: ignore[attr-defined]
    return {
        key: ... if known[key].is_required() else known[key].default
        for key in model.__annotations__
        if key in known
    }


def descriptions(model: type) -> tuple[dict[str, str], dict[str, str]]:
    """Return the docstrings below the fields of a class, and the fields' annotations."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)
    annotations = {
        node.target.id: ast.unparse(node.annotation)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return dict(documented(tree.body)), annotations


def documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield the names that are assigned in a body and followed by a string, with that string."""
    for node, after in itertools.pairwise(body):
        match node, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)


@functools.cache
def alias_texts(module: str) -> dict[str, str]:
    """Return the documentation of a module's type aliases, those that it imports included."""
    tree = ast.parse(Path(inspect.getfile(importlib.import_module(module))).read_text("utf-8"))
    texts = dict(documented(tree.body))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(SOURCES):
            texts |= alias_texts(str(node.module))
    return texts


def choice_texts(module: str, annotation: str) -> str:
    """Return the documentation of the choices that an annotation names."""
    source = importlib.import_module(module)
    for word in re.findall(r"\w+", annotation):
        text = alias_texts(module).get(word, "")
        if typing.get_origin(getattr(source, word, None)) is Literal and "\n- " in text:
            return text[text.index("\n- ") :].strip()
    return ""


def limits(model: type, key: str) -> str:
    """Return the limits of a key of the search space."""
    known = (
        getattr(sys.modules[model.__module__], "LIMITS", {}) if model is model_of("Space") else {}
    )
    return "{:g} … {:g}".format(*known[key]) if key in known else ""
