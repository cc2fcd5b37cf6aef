"""Imports: `trainers` needs no more than torch, and import-linter finds each kind of bad import."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import trainers

ROOT = Path(__file__).parents[1]
FOLDER = Path(trainers.__path__[0])
MODULES = sorted(FOLDER.rglob("*.py"))
FORBIDDEN = {"orchestrator", "ray", "optuna", "duckdb"}
LAZY = {"sklearn", "scipy", "PIL", "pyarrow", "safetensors", "torchvision"}

# Modules that read or write files of tables, and what they use for it. Every room may import
# `pyarrow` itself: Arrow tables are the common type of the rooms.
TABLE_FILES = {
    "orchestrator/execution/feature_parts.py": {"parquet"},
    "orchestrator/reference/published.py": {"parquet"},
    "orchestrator/report/answers.py": {"parquet"},
    "orchestrator/store/files.py": {"fs"},
    "orchestrator/store/local_files.py": {"fs"},
    "orchestrator/store/locations.py": {"fs"},
    "orchestrator/store/parts.py": {"dataset", "fs", "parquet"},
    "orchestrator/store/recovery.py": {"parquet"},
    "orchestrator/store/remote_files.py": {"csv", "dataset", "fs"},
    "orchestrator/store/table_files.py": {"parquet"},
    "orchestrator/store/row_tables.py": {"dataset"},
}


def imported(path: Path) -> set[str]:
    """Top-level packages that a module's source imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(str(node.module).partition(".")[0])
    return names


def modules_after(code: str) -> set[str]:
    """Top-level packages that a new process has loaded after running `code`."""
    show = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", f"{code}; {show}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(FOLDER)) for path in MODULES])
def test_no_module_of_trainers_imports_a_forbidden_package(path: Path) -> None:
    assert not imported(path) & FORBIDDEN


def test_importing_all_of_trainers_loads_no_more_than_torch() -> None:
    parts = [path.relative_to(FOLDER.parent).with_suffix("").parts for path in MODULES]
    names = ", ".join(".".join(part for part in p if part != "__init__") for p in parts)
    loaded = modules_after(f"import {names}")
    assert "torch" in loaded
    assert not loaded & (FORBIDDEN | LAZY)


def test_configuration_needs_the_standard_library_only() -> None:
    loaded = modules_after("import trainers.config, trainers.schedules, trainers.spelling")
    assert not loaded & ({"torch", "numpy"} | FORBIDDEN | LAZY)
    for file in ("canonical.py", "recipe.py", "config.py", "spelling.py"):
        assert imported(FOLDER / file) <= {*sys.stdlib_module_names, "trainers"}, file


def test_files_of_tables_have_owners() -> None:
    owners = {}
    for path in (*ROOT.glob("orchestrator/**/*.py"), *MODULES):
        text = path.read_text(encoding="utf-8")
        used = set(re.findall(r"\bpyarrow(?:\.| import )(csv|dataset|feather|fs|parquet)\b", text))
        if used:
            owners[str(path.relative_to(ROOT))] = used
    assert owners == TABLE_FILES


# Contracts --------------------------------------------------------------------------------------


def add_import(root: Path, module: str, *lines: str) -> None:
    """Append lines to the source of a module below `root`."""
    path = root / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_every_contract_breaks_on_a_bad_import(tmp_path: Path) -> None:
    """One bad import per contract in a copy of the sources; `make test` checks the sources."""
    for package in ("layerwise", "orchestrator", "trainers"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    settings = shutil.copy(ROOT / "pyproject.toml", tmp_path)
    contracts = tomllib.loads(Path(settings).read_text())["tool"]["importlinter"]["contracts"]
    upward = ("orchestrator.errors", "orchestrator.cli")
    to_caller = ("trainers", "orchestrator.errors")
    to_names, past_api = ("orchestrator.states", "layerwise"), ("layerwise", "orchestrator.cli")
    circles = [
        ("orchestrator.store.files", "orchestrator.store.store"),  # between modules of a room
        ("trainers.tasks", "trainers.datasets.sets"),  # between a package and a module beside it
    ]
    (tmp_path / "orchestrator/attic").mkdir()
    (tmp_path / "orchestrator/attic/__init__.py").write_text('"""A room without a layer."""\n')
    heavy = [  # from just outside of the owner
        (contract["allowed_importers"][0].rpartition(".")[0] or "orchestrator.errors", library)
        for contract in contracts
        for library in contract.get("protected_modules", [])
    ]
    add_import(tmp_path, upward[0], "def late():", f"    import {upward[1]}")
    typed = ("from typing import TYPE_CHECKING", "if TYPE_CHECKING:", f"    import {to_caller[1]}")
    add_import(tmp_path, to_caller[0], *typed)
    for module, imported_module in (*circles, *heavy, to_names, past_api):
        add_import(tmp_path, module, f"import {imported_module}")

    lint = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"
    ended = subprocess.run(
        [sys.executable, "-c", lint], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    output = re.sub(r"\s+", " ", ended.stdout)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert [c["name"] for c in contracts if f"{c['name']} BROKEN" not in output] == []
    for module, imported_module in (upward, to_caller, to_names, past_api, *heavy):
        assert f"{module} -> {imported_module} " in output
    assert "No cycles are allowed in orchestrator.store." in output
    assert "No cycles are allowed in trainers." in output
    assert "orchestrator.attic" in output
