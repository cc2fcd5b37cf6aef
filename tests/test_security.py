"""Stores and sweep files of others are data: they run nothing, and no name leads outside.

`test_remote_store.py` tests that secrets reach no table, log or report.
"""

from __future__ import annotations

import ast
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import StoreError
from orchestrator.store.names import CompactFile, RowFile
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store
from tests.conftest import Ended
from trainers.checkpoint import CheckpointError, checksum, unpack

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("orchestrator", "trainers", "sweeps")
    for path in ROOT.glob(f"{folder}/**/*.py")
)
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNPICKLING = {"load", "loads", "Unpickler"}  # calls of these modules
# Calls that may run their argument, each with a test of the keywords that make it safe.
UNSAFE_CALLS: dict[str, Callable[[dict[str, str]], bool]] = {
    "eval": lambda _: False,
    "exec": lambda _: False,
    "os.system": lambda _: False,
    "os.popen": lambda _: False,
    "yaml.unsafe_load": lambda _: False,
    "yaml.full_load": lambda _: False,
    "yaml.load": lambda words: "Safe" in words.get("Loader", ""),
    "torch.load": lambda words: words.get("weights_only") == "True",
    "np.load": lambda words: words.get("allow_pickle", "False") == "False",
}

ALLOWED = {
    # Tune has just written this file in the driver's own temporary folder. It holds the exception
    # of one of the driver's own actors, and never something from a store.
    "orchestrator/cluster/internals.py": ["ray.cloudpickle", "cloudpickle.loads"],
}


def is_unsafe(dotted: str) -> bool:
    """Return whether a dotted name is a pickle-like module, or leads through one."""
    return not UNSAFE_MODULES.isdisjoint(dotted.split("."))


def unsafe(tree: ast.AST) -> Iterator[str]:
    """Yield the imports and calls by which data could become code."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (n.name for n in names if is_unsafe(n.name))
            case ast.ImportFrom(module=module, names=names):
                if module is not None and is_unsafe(module):
                    yield module
                else:
                    yield from (f"{module or ''}.{n.name}" for n in names if is_unsafe(n.name))
            case ast.Call(func=func, keywords=keywords):
                words = {word.arg: ast.unparse(word.value) for word in keywords if word.arg}
                name = ast.unparse(func)
                if words.get("shell") == "True":
                    yield f"{name}(shell=True)"
                owner, _, called = name.rpartition(".")
                if called in UNPICKLING and is_unsafe(owner):
                    yield name
                if name in UNSAFE_CALLS and not UNSAFE_CALLS[name](words):
                    yield name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_makes_code_of_data(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), [])
    assert list(unsafe(ast.parse(path.read_text(encoding="utf-8")))) == allowed


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from ray import cloudpickle", ["ray.cloudpickle"]),
        ("from ray import cloudpickle as c", ["ray.cloudpickle"]),
        ("from . import pickle", [".pickle"]),
        ("from pickle import loads", ["pickle"]),
        ("from ray.cloudpickle import loads", ["ray.cloudpickle"]),
        ("import ray.cloudpickle", ["ray.cloudpickle"]),
        ("cloudpickle.loads(x)", ["cloudpickle.loads"]),
        ("ray.cloudpickle.load(x)", ["ray.cloudpickle.load"]),
        ("pickle.Unpickler(f)", ["pickle.Unpickler"]),
        ("from json import loads\njson.loads(x)\nloads(x)", []),
    ],
)
def test_the_search_finds_every_way_to_a_pickle(code: str, expected: list[str]) -> None:
    assert list(unsafe(ast.parse(code))) == expected


def test_the_search_finds_what_it_is_for() -> None:
    bad = "import pickle\ntorch.load(f)\nyaml.load(f, Loader=yaml.Loader)\nrun('x', shell=True)\n"
    good = "torch.load(f, weights_only=True)\nyaml.load(f, Loader=SafeLoader)\nnetwork.eval()\n"
    assert list(unsafe(ast.parse(bad))) == ["pickle", "torch.load", "yaml.load", "run(shell=True)"]
    assert list(unsafe(ast.parse(good))) == []


class Trap:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[bytes]:
    sprung = tmp_path / "sprung"
    yield pickle.dumps(Trap(sprung))
    assert not sprung.exists()


def test_a_pickle_in_the_store_is_a_damaged_file(trap: bytes, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    sha256 = store.put_checkpoint("a", trap)
    with pytest.raises(CheckpointError, match=r"^not a checkpoint"):
        unpack(store.get_checkpoint("a", sha256))
    store.put_progress("a", "bbbbbbbb", 1, trap)
    with pytest.raises(CheckpointError, match=r"^not a checkpoint"):
        unpack(next(store.progress("a")))
    row = RowFile("a" * 16, "complete", "b" * 8, "c" * 16).name
    part = CompactFile("a" * 16, "b" * 16).name
    old = store.path("trials", "complete", f"{'a' * 16}.parquet")
    paths = [store.path("rows", row), store.path("trials", part), old]
    for path in (*paths, store.path("sweeps", "mine.parquet")):
        store.put(path, trap)
    for table in ("trials", "sweeps"):
        assert store.table(table).num_rows == 0
    assert checksum(trap) == sha256


@pytest.mark.parametrize(
    "line",
    [
        "name: !!python/object/apply:pathlib.Path.touch [sprung]",
        "seeds: !!python/object/new:pathlib.PosixPath [sprung]",
        "name: !!python/name:os.system ''",
    ],
)
def test_a_sweep_file_makes_no_objects(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layerwise: Callable[..., Ended]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(f"{line}\ndataset: digits\n")
    ended = layerwise("plan", "mine.yaml")
    assert ended.code == 2
    assert ended.err.startswith("mine.yaml:1:")
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.yaml"]


OUT = ["../up", "/etc/up", "a/b", "..", ".hidden"]


@pytest.mark.parametrize("name", OUT)
def test_a_sweeps_name_leads_nowhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layerwise: Callable[..., Ended]
) -> None:
    """A sweep's name cannot lead outside, in its file or on the command line."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        f"name: {name}\ndataset: digits\nsplits: {{random: [0]}}\nrecipe: {{rate: 0.1, steps: 1}}\n"
    )
    Store("results").write_sweep("mine", [], "")
    before = sorted(tmp_path.rglob("*"))
    for command in (
        ("run", "mine.yaml", "--inline"),
        ("report", name),
        ("clean", "--sweep", name, "--yes"),
    ):
        ended = layerwise(*command)
        assert (ended.code, ended.out) == (2, ""), command
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("id", OUT)
def test_an_id_leads_nowhere(id: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    row = dict.fromkeys(SCHEMAS["trials"].names) | {"id": id, "outcome": "complete"}
    for act in (
        lambda: store.write_row(row),
        lambda: store.write_row(row | {"id": "a", "outcome": id}),
        lambda: store.write_row(row | {"id": "a" * 16, "attempt": id}),
        lambda: store.put_checkpoint(id, b"x"),
        lambda: store.get_checkpoint(id, "0" * 64),
        lambda: store.get_checkpoint("a", f"../{id}"),
        lambda: store.drop_checkpoints(id),
        lambda: store.put_progress(id, "aaaaaaaa", 1, b"x"),
        lambda: store.drop_progress(id),
        lambda: store.row(id),
        lambda: store.rows([id]),
    ):
        with pytest.raises(StoreError, match=r"cannot name something in the store$"):
            act()
    assert list(tmp_path.iterdir()) == []
