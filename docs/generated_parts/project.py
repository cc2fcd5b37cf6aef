"""The project itself: its rooms and files, the fields of an id, the names of the package."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from generated_parts.fields import descriptions, model_of

ROOT = Path(__file__).parents[2]


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
