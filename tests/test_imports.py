"""`trainers` runs on a machine that has only torch, and `trainers.config` on one without."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import trainers

FOLDER = Path(trainers.__path__[0])
MODULES = sorted(FOLDER.rglob("*.py"))
FORBIDDEN = {"orchestrator", "ray", "optuna", "duckdb"}
LAZY = {"sklearn", "scipy", "PIL", "pyarrow", "safetensors", "torchvision"}


def imported(path: Path) -> set[str]:
    """Top-level packages that a module's source imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module).partition(".")[0])
    return found


def modules_after(code: str) -> set[str]:
    """Top-level packages that a new process has loaded after running `code`."""
    show = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", f"{code}; {show}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(found.stdout.split())


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(FOLDER)) for path in MODULES])
def test_no_module_names_what_is_not_its_own(path: Path) -> None:
    assert not imported(path) & FORBIDDEN


def test_importing_all_of_it_loads_nothing_more() -> None:
    parts = [path.relative_to(FOLDER.parent).with_suffix("").parts for path in MODULES]
    names = ", ".join(".".join(part for part in p if part != "__init__") for p in parts)
    loaded = modules_after(f"import {names}")
    assert "torch" in loaded
    assert not loaded & (FORBIDDEN | LAZY)


def test_configuration_needs_the_standard_library_only() -> None:
    loaded = modules_after("import trainers.config, trainers.schedules")
    assert not loaded & ({"torch", "numpy"} | FORBIDDEN | LAZY)
    assert imported(FOLDER / "config.py") <= set(sys.stdlib_module_names)
