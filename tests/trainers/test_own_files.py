"""Files of a user's own code, and the hash over them."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainers.own_code import files_of, resolve, sources

Write = Callable[..., None]

# A package whose network uses a module beside it and a table, and modules beside the package.
FILES = {
    "garden/__init__.py": "",
    "garden/nets.py": "from .blocks import act\nimport shared, numpy\n\ndef build(): ...\n",
    "garden/blocks.py": "import json\nact = __file__\n",
    "garden/w.json": "[1]",
    "garden/unused.py": "unused = 1\n",
    "garden/README.md": "text",
    "garden/results/trials/complete/x.parquet": "a store",
    "garden/lazy.py": "def build():\n    import garden.blocks as blocks\n",
    "shared.py": "from trainers import config\nfrom sub.deep import x\n",
    "sub/deep.py": "x = 1\n",
    "loose.py": (
        "import os\nfrom pathlib import Path\n\nHERE = Path(__file__).parent\n\n"
        "def build(table='c.npz'):\n"
        "    HERE / 'tables' / 'a.csv'\n    os.path.join(HERE, 'tables', 'b.csv')\n"
        "    HERE.glob('w?.bin')\n    open(f'part-{1}.txt')\n"
    ),
    "tables/a.csv": "1",
    "tables/b.csv": "2",
    "tables/listed.csv": "3",
    "w1.bin": "4",
    "part-1.txt": "5",
    "c.npz": "6",
    "given.txt": "7",
    "results/trials/complete/x.parquet": "a store",
    "newer/layerwise-store.json": "{}",
    "newer/rows/x.json": "a newer store",
    "dynamic.py": "import importlib\n\ndef build():\n    importlib.import_module('sha' + 'red')\n",
    "plain.py": "def build(): ...\n",
}

GARDEN = {"garden/__init__.py", "garden/blocks.py"}


@pytest.fixture
def write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A function that writes files of own code and forgets the imported modules."""
    monkeypatch.syspath_prepend(folder)

    def written(**files: str) -> None:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        for name in {name.removesuffix(".py").replace("/", ".") for name in FILES}:
            sys.modules.pop(name, None)
            sys.modules.pop(name.partition(".")[0], None)
        importlib.invalidate_caches()

    written(**FILES)
    yield written
    written()


@pytest.mark.usefixtures("write")
@pytest.mark.parametrize(
    ("name", "modules", "data"),
    [
        (
            "garden.nets",
            {
                "garden/__init__.py",
                "garden/nets.py",
                "garden/blocks.py",
                "shared.py",
                "sub/deep.py",
            },
            {"garden/w.json"},
        ),
        (
            "garden.lazy",
            {*GARDEN, "garden/lazy.py"},
            {"garden/w.json"},
        ),
        (
            "loose",
            {"loose.py"},
            {"tables/a.csv", "tables/b.csv", "tables/listed.csv", "w1.bin", "part-1.txt", "c.npz"},
        ),
        (
            "dynamic",
            {p for p in FILES if p.endswith(".py") and p.count("/") < 1} | {"sub/deep.py"},
            None,
        ),
        ("plain", {"plain.py"}, set()),
    ],
)
def test_the_files_of_a_function(name: str, modules: set[str], data: set[str] | None) -> None:
    files = files_of(f"{name}:build", (("size", 3), ("table", "given.txt")))
    assert set(files.modules) == modules
    assert data is None or set(files.data) == data | {"given.txt"}


@pytest.mark.parametrize("changed", ["garden/blocks.py", "sub/deep.py", "garden/__init__.py"])
def test_a_changed_module_that_is_only_imported_changes_the_hash(
    write: Write, changed: str
) -> None:
    before, source = resolve("garden.nets:build")[1], sources("garden.nets:build")
    write(**{changed: FILES[changed] + "changed = 1\n"})
    assert resolve("garden.nets:build")[1] != before
    assert sources("garden.nets:build") != source
    write(**FILES)
    assert resolve("garden.nets:build")[1] == before


def test_a_changed_data_file_changes_the_hash_of_a_network(write: Write) -> None:
    """A dataset needs no hash of its files: what it returns is hashed."""
    before, source = resolve("garden.nets:build")[1], sources("garden.nets:build")
    write(**{"garden/w.json": "[2]", "garden/README.md": "other", "garden/unused.py": ""})
    assert resolve("garden.nets:build")[1] != before
    assert sources("garden.nets:build") == source


@pytest.mark.usefixtures("write")
def test_a_module_alone_keeps_the_hash_of_its_source() -> None:
    """Its trials keep their ids."""
    source = hashlib.sha256(FILES["plain.py"].encode()).hexdigest()[:16]
    assert resolve("plain:build")[1] == sources("plain:build") == source
