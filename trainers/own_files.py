"""Files of a user's own code: the modules that a function loads, and the files that these read.

The files follow from the sources alone, so that every process finds the same ones: nothing is
imported and nothing is run.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import re
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

OURS = ("layerwise", "orchestrator", "trainers")  # no id depends on the version of layerwise
INSTALLED = ("site-packages", "dist-packages")
DYNAMIC = ("import_module", "__import__", "run_path", "run_module", "exec")
READING = re.compile(r"open|memmap|glob|iterdir|listdir|scandir|walk|\w*(load|read|file)\w*", re.I)
LISTING = ("iterdir", "listdir", "scandir", "walk", "glob", "rglob")
TEXTS = (".md", ".rst", ".ipynb", ".log")  # no data of a program
MOST_NAME = 255  # characters of a string that may name a file
# A folder that has one of these is a store of results, and no data.
STORE = (Path("layerwise-store.json"), Path("trials", "complete"))


@dataclass(frozen=True)
class OwnFiles:
    """Files of one function, relative to `root`, sorted."""

    root: Path
    """Folder that holds the top-level package or module."""

    modules: tuple[str, ...]
    """Python files (and compiled modules) that the function's module loads, itself included."""

    data: tuple[str, ...]
    """Other files that these modules may read."""


def own_files(module: types.ModuleType, options: Iterable[str] = ()) -> OwnFiles:
    """Return the files of the module of a user's function.

    Modules are those that its imports reach, also imports within functions, as long as they lie in
    its own package or in the folder of that. A module that imports by computed names reaches all
    modules beside it. Data files are all files of a package whose loaded modules read files, and of
    single modules those that a string in the source, or one of `options`, names.
    """
    assert module.__file__ is not None
    file, depth = Path(module.__file__).resolve(), module.__name__.count(".")
    is_init = file.name == "__init__.py"
    search = _Search(module.__name__, file.parents[depth + is_init])
    search.add(module.__name__, file)
    data = {path for source in search.sources for path in search.data_of(source, options)}

    def names(paths: Iterable[Path]) -> tuple[str, ...]:
        return tuple(sorted(path.relative_to(search.root).as_posix() for path in paths))

    return OwnFiles(search.root, names(search.seen), names(data))


@dataclass(frozen=True)
class _Source:
    """One loaded module."""

    path: Path
    package: Path | None
    """Folder of its top-level package; None for a module outside of packages."""
    tree: ast.Module | None
    """Syntax tree; None for a compiled module."""

    def names(self) -> set[str]:
        """Return all identifiers and attributes in the source."""
        nodes = ast.walk(self.tree) if self.tree else ()
        return {
            node.id if isinstance(node, ast.Name) else node.attr
            for node in nodes
            if isinstance(node, ast.Name | ast.Attribute)
        }


class _Search:
    """Own modules that are reached from one of them; `root` is the folder of its top level."""

    def __init__(self, name: str, root: Path):
        self.top, self.root = name.partition(".")[0], root
        self.seen: set[Path] = set()
        self.sources: list[_Source] = []

    def add(self, name: str, path: Path) -> None:
        """Add a module, the packages that it lies in, and all that they import."""
        self._add(name, path)
        parts = name.split(".")
        for end in range(1, len(parts)):
            self.reach(".".join(parts[:end]))

    def reach(self, name: str) -> None:
        """Add the module `name` if it is the user's own."""
        path = _find(name)
        if path is not None and path not in self.seen and self._is_own(name, path):
            self.add(name, path)

    def _is_own(self, name: str, path: Path) -> bool:
        top = name.partition(".")[0]
        if top == self.top:
            return path.is_relative_to(self.root)
        if top in OURS or not path.is_relative_to(self.root):
            return False
        return not set(INSTALLED) & set(path.parts)

    def _add(self, name: str, path: Path) -> None:
        if path in self.seen:
            return
        self.seen.add(path)
        top = self.root / name.partition(".")[0]
        package = top if (top / "__init__.py").is_file() else None
        tree = None
        with contextlib.suppress(OSError, SyntaxError, ValueError):
            if path.suffix == ".py":
                tree = ast.parse(path.read_bytes())
        source = _Source(path, package, tree)
        self.sources.append(source)
        if tree is None:
            return
        within = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for target in _imports(tree, within):
            self.reach(target)
        if source.names() & set(DYNAMIC):
            for beside in package.rglob("*.py") if package else path.parent.glob("*.py"):
                parts = beside.resolve().relative_to(self.root).with_suffix("").parts
                self._add(".".join(parts), beside.resolve())

    def data_of(self, source: _Source, options: Iterable[str]) -> Iterator[Path]:
        """Yield the files that a module may read."""
        names = source.names()
        if source.package and any(map(READING.fullmatch, names)):
            yield from _shipped(source.package)
        for text in {*(_strings(source.tree) if source.tree else ()), *options}:
            for folder in {source.path.parent, self.root}:
                for path in _named(folder, text, source.path.stem):
                    if path.is_dir() and names & set(LISTING):
                        yield from _shipped(path)
                    elif path.is_file() and path.suffix not in (".py", *TEXTS):
                        yield path


def _find(name: str) -> Path | None:
    """Return the file of a module, without importing it; None if it has none."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for part in rest:
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = PathFinder.find_spec(f"{spec.name}.{part}", [*spec.submodule_search_locations])
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    return Path(spec.origin).resolve()


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the absolute names of all that a module of `package` imports, at any place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _strings(tree: ast.Module) -> Iterator[str]:
    """Yield the strings of a source; those of a path, `HERE / "a" / "b.csv"`, also joined.

    The values in an f-string become `*`.
    """
    for node in ast.walk(tree):
        if (text := _text(node)) is not None:
            yield text
        if isinstance(node, ast.Call):
            parts = [text for part in node.args if (text := _text(part)) is not None]
            if len(parts) > 1:
                yield "/".join(parts)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts, left = [], node
            while isinstance(left, ast.BinOp) and (text := _text(left.right)) is not None:
                parts.insert(0, text)
                left = left.left  # type: ignore[assignment]
            yield "/".join(parts)


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) or "*" for value in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _named(folder: Path, text: str, stem: str) -> Iterator[Path]:
    """Yield what a string names below a folder: a file, a folder, or all that fit a pattern."""
    if not text.strip("*./ ") or len(text) > MOST_NAME or "\0" in text or "\n" in text:
        return
    if Path(text).is_absolute() or ".." in Path(text).parts:
        return
    with contextlib.suppress(OSError, ValueError, NotImplementedError, IndexError):
        if any(mark in text for mark in "*?["):
            yield from (path.resolve() for path in folder.glob(text))
        for name in (text, stem + text) if text.startswith(".") else (text,):
            path = (folder / name).resolve()
            if path.is_relative_to(folder) and path.exists():
                yield path


def _is_store(folder: Path) -> bool:
    return any((folder / part).exists() for part in STORE)


def _shipped(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder: but code, texts, hidden files and stores."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__pycache__")) or _is_store(path):
            continue
        if path.is_dir():
            yield from _shipped(path)
        elif path.is_file() and path.suffix not in (".py", ".pyc", *TEXTS):
            yield path.resolve()
