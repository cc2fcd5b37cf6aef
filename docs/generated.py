"""Parts of the pages that are generated from the code, so that they cannot disagree with it.

A page asks for a part by a comment of its own line, `<!-- generated: fields Recipe -->`. The
functions of `PARTS` return Markdown. Documents of the repository's root become pages here, too.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import json
import re
import sys
import textwrap
import tomllib
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal

ROOT = Path(__file__).parents[1]
MARKER = re.compile(r"^<!-- generated: (\S+)(?: (.+?))? -->$", re.MULTILINE)

# Pages that are documents of the repository: page → path from the root.
DOCUMENTS = {
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/README.md",
}

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

WORDS = {
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    str: "string",
    Any: "any value",
}
PLURALS = {int: "whole numbers", float: "numbers", str: "strings"}


# fields of the sweep file ------------------------------------------------------------------------


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


def limits(model: type, key: str) -> str:
    """Return the limits of a key of the search space."""
    known = (
        getattr(sys.modules[model.__module__], "LIMITS", {}) if model is model_of("Space") else {}
    )
    return "{:g} … {:g}".format(*known[key]) if key in known else ""


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


# datasets, networks, commands --------------------------------------------------------------------


def component(
    name: str,
    function: Callable[..., Any],
    given: tuple[str, ...] = (),
    options: type | None = None,
) -> str:
    """Return the description of a dataset or a network and a table of its options.

    Its function takes the options as keywords unless there is a class of them.
    """
    text, texts = described(inspect.getdoc(function) or "")
    if options:
        below, _ = descriptions(options)
        texts = {option: in_a_cell(words) for option, words in below.items()}
    rows = [["option", "type", "default", "meaning"], ["---"] * 4]
    declared = inspect.signature(options or function, eval_str=True).parameters
    for option, parameter in declared.items():
        if option not in given and parameter.kind is parameter.KEYWORD_ONLY:
            default = "none" if parameter.default is None else f"`{yaml_value(parameter.default)}`"
            words = type_words(parameter.annotation)
            rows.append([f"`{option}`", words, default, texts.get(option, "")])
    if not texts:
        rows = [row[:-1] for row in rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"### `{name}`\n\n{text}\n\n{table if len(rows) > 2 else 'It takes no options.'}"


def described(docstring: str) -> tuple[str, dict[str, str]]:
    """Return a docstring for users of a sweep file, and its section `Options:` by option.

    Users see no function that returns or raises something, so those words are left out.
    """
    text, _, section = docstring.partition("\nOptions:\n")
    section, _, rest = section.partition("\n\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section, re.MULTILINE)
    texts = {option: in_a_cell(words) for option, words in entries}
    text = re.sub(r"\s*\bRaises (?:[^.]|\.(?!\s|$))*\.", "", f"{text}\n\n{rest}").strip()
    text = re.sub(r"^Return (?:the )?", "", text.replace("the folder of `place`", "its folder"))
    return text[:1].upper() + text[1:], texts


def in_a_cell(text: str) -> str:
    """Return a text as one line in a cell of a table."""
    return " ".join(text.split()).replace("|", r"\|")


def datasets() -> str:
    """Return every dataset with its description and its options."""
    from trainers.datasets import DATASETS

    return "\n\n".join(
        component(name, kind.load, options=kind.options) for name, kind in DATASETS.items()
    )


def networks() -> str:
    """Return every network of the project's own with its description and its options."""
    from trainers.networks import NETWORKS
    from trainers.own_code import GIVEN

    return "\n\n".join(component(name, build, GIVEN) for name, build in NETWORKS.items())


def commands() -> str:
    """Return every command with its help, arguments and options."""
    import typer.main

    from orchestrator.cli import app

    group = typer.main.get_command(app)
    parts = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        parts += [f"## {name}", inspect.cleandoc(command.help or "")]
        parts.append(f"```text\nlayerwise {name} {' '.join(usage(command))}\n```")
        rows = [
            f"| {' '.join(f'`{text}`' for text in named(parameter))} | {meaning(parameter)} |"
            for parameter in command.params
            if parameter.name != "help" and getattr(parameter, "help", None)
        ]
        if rows:
            parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def usage(command: Any) -> list[str]:
    return [
        p.metavar or p.name.upper() if p.required else f"[{p.metavar or p.name.upper()}]"
        for p in command.params
        if p.param_type_name == "argument"
    ] + ["[OPTIONS]"]


def named(parameter: Any) -> list[str]:
    is_argument = parameter.param_type_name == "argument"
    return [parameter.metavar or parameter.name.upper()] if is_argument else parameter.opts


def meaning(parameter: Any) -> str:
    variable = f" Environment: `{parameter.envvar}`." if parameter.envvar else ""
    return parameter.help.replace("|", r"\|") + variable


# tables ------------------------------------------------------------------------------------------


def tables() -> str:
    """Return the columns of every table that the store holds as files."""
    from orchestrator.store.schemas import SCHEMAS

    return "\n\n".join(f"### `{name}`\n\n{columns(schema)}" for name, schema in SCHEMAS.items())


def views() -> str:
    """Return the columns of every view that only `layerwise query` knows."""
    from orchestrator.report.query import VIEWS
    from orchestrator.store.schemas import SCHEMAS

    parts = []
    for name, (schema, _) in VIEWS.items():
        if name in SCHEMAS:
            continue
        twin = next((t for t, s in SCHEMAS.items() if s.names == schema.names), None)
        known = f"The columns of [`{twin}`](#{twin})." if twin else columns(schema)
        parts.append(f"### `{name}`\n\n{known}")
    return "\n\n".join(parts)


def all_tables() -> dict[str, Any]:
    """Return the schemas of all tables and views."""
    from orchestrator.report.query import VIEWS

    return {name: schema for name, (schema, _) in VIEWS.items()}


def columns(schema: Any) -> str:
    """Return a table of columns: name, type, meaning. Result columns are marked where known."""
    marked = any(b"result" in (field.metadata or {}) for field in schema)
    rows = ["| column | type | meaning |", "|---|---|---|"]
    for field in schema:
        metadata = field.metadata or {}
        result = " **R**" if marked and metadata.get(b"result") == b"true" else ""
        text = metadata[b"description"].decode().replace("|", r"\|")
        rows.append(f"| `{field.name}` | {field.type}{result} | {text} |")
    return "\n".join(rows)


# architecture ------------------------------------------------------------------------------------


def directions() -> str:
    """Return the layers of the import contract, the uppermost first, and `trainers` below them."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    return "```text\n" + "\n".join([*layers, "trainers"]) + "\n```"


def identity() -> str:
    """Return the fields that a trial's id hashes, with the first sentence of each."""
    texts, _ = descriptions(model_of("Training"))
    rows = ["| field | meaning |", "|---|---|"]
    rows += [f"| `{name}` | {first_sentence(text)} |" for name, text in texts.items()]
    return "\n".join(rows)


def names() -> str:
    """Return the names of the package `layerwise`, each with its call and its description."""
    import layerwise

    parts = []
    for name in layerwise.__all__:
        thing = getattr(layerwise, name)
        is_error = isinstance(thing, type) and issubclass(thing, Exception)
        parts.append(f"### `lw.{name}`")
        if inspect.isfunction(thing):
            call = re.sub(r": '([^']*)'", r": \1", str(inspect.signature(thing)))
            parts.append(f"```text\n{name}{call.partition(' -> ')[0]}\n```")
        parts.append(inspect.cleandoc(thing.__doc__ or ""))
        if isinstance(thing, type) and not is_error:
            parts.append("\n".join(members(thing)))
    return "\n\n".join(parts)


def members(kind: type) -> Iterator[str]:
    """Yield a line for each public method and property of a class."""
    for key, value in vars(kind).items():
        text = None if isinstance(value, str) else getattr(value, "__doc__", None)
        if text and not key.startswith("_"):
            yield f"- `{key}`: {first_sentence(text)}"


def first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())


def files(folder: str) -> str:
    """Return the modules of a folder, each with the first sentence of its docstring."""
    rows = ["| file | content |", "|---|---|"]
    for path in sorted((ROOT / folder).glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if path.name != "__init__.py":
            first = " ".join(text.split("\n\n", maxsplit=1)[0].split()).replace("|", r"\|")
            rows.append(f"| `{path.name}` | {first} |")
    return "\n".join(rows)


def source(path: str) -> str:
    """Return a file of the repository as a block of code."""
    kinds = {".py": "python", ".yaml": "yaml"}
    text = (ROOT / path).read_text(encoding="utf-8").rstrip()
    return f'```{kinds[Path(path).suffix]} title="{path}"\n{text}\n```'


PARTS: dict[str, Callable[..., str]] = {
    "fields": fields,
    "datasets": datasets,
    "networks": networks,
    "commands": commands,
    "tables": tables,
    "views": views,
    "directions": directions,
    "files": files,
    "identity": identity,
    "names": names,
    "source": source,
}


def expand(markdown: str) -> str:
    """Return a page with its generated parts in place of their markers."""

    def part(match: re.Match[str]) -> str:
        return PARTS[match[1]](*(match[2] or "").split())

    return MARKER.sub(part, markdown)


# mkdocs ------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Add the documents of the repository's root to the pages."""
    from mkdocs.structure.files import File

    for page, path in DOCUMENTS.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Expand a page; its links to documents of the root become links to their pages."""
    if page.file.src_uri in DOCUMENTS:
        return site_links(markdown, (ROOT / DOCUMENTS[page.file.src_uri]).parent)
    return site_links(expand(markdown), ROOT / "docs")


def site_links(markdown: str, folder: Path) -> str:
    """Return Markdown whose links to files of the repository point to pages, or are plain code."""
    pages = {ROOT / path: page for page, path in DOCUMENTS.items()}
    pages[ROOT / "README.md"] = "index.md"

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        path = (folder / target).resolve()
        if path in pages:
            return f"[{text}]({pages[path]}{anchor or ''})"
        if path.is_relative_to(ROOT / "docs"):
            return f"[{text}]({path.relative_to(ROOT / 'docs')}{anchor or ''})"
        return text if "`" in text else f"`{path.relative_to(ROOT)}`"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)", link, markdown)
