"""The notebooks of `examples/` run from their first cell to the last."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.results import Results

FOLDER = Path(__file__).parents[1] / "examples/notebooks"


def ran(name: str) -> dict[str, Any]:
    """Run a notebook in the working folder, and return what its cells define."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _, definitions = module.app.run()
    return dict(definitions)


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_both_notebooks_run_on_one_store() -> None:
    first = ran("first_look")
    results: Results = first["results"]
    assert len(results.trials) == 40
    assert len(first["worst"]) == 5
    second = ran("layers")
    assert second["filters"].shape == (8, 3, 3)
    ratios = {(row["layer"], row["digits"]): row["directions"] for row in second["directions"]}
    assert len(ratios) == 6
    assert all(ratio > 1 for ratio in ratios.values())
    assert {path.stem for path in FOLDER.glob("*.py")} == {"first_look", "layers"}
