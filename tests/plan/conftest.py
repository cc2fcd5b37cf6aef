"""Working folders with code of the user, in which no own module was imported before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep_files import BUILD, FLOWERS, MODULES, forget_own_code


@pytest.fixture
def new_process(folder: Path) -> Path:
    """An empty working folder in which no own module was imported before."""
    forget_own_code(*MODULES)
    return folder


@pytest.fixture
def garden(new_process: Path) -> Path:
    """A package of the user, beside the sweep file."""
    package = new_process / "garden"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "data.py").write_text(FLOWERS)
    (package / "nets.py").write_text(BUILD)
    return package
