"""How transferable are the features of each layer of a network?

    import layerwise as lw

    results = lw.run("digits")
    results.effects()
    results.trials.pandas()

This package names what users call; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.api.plans import Plan, plan
    from orchestrator.api.results import Results, features, load_network
    from orchestrator.api.results import open_results as open
    from orchestrator.api.run import run
    from orchestrator.api.sweeps import Sweep
    from orchestrator.api.tables import Table
    from orchestrator.errors import LayerwiseError, StoreError, SweepError
    from orchestrator.report.figure import Figure

_PLACES = {  # name: the module of orchestrator, and the name there if it is another
    "Figure": "report.figure",
    "LayerwiseError": "errors",
    "Plan": "api.plans",
    "Results": "api.results",
    "StoreError": "errors",
    "Sweep": "api.sweeps",
    "SweepError": "errors",
    "Table": "api.tables",
    "features": "api.results",
    "load_network": "api.results",
    "open": "api.results:open_results",
    "plan": "api.plans",
    "run": "api.run",
}

__all__ = [
    "Figure",
    "LayerwiseError",
    "Plan",
    "Results",
    "StoreError",
    "Sweep",
    "SweepError",
    "Table",
    "features",
    "load_network",
    "open",
    "plan",
    "run",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("layerwise")
    if name not in _PLACES:
        raise AttributeError(f"module 'layerwise' has no attribute {name!r}")
    module, _, there = _PLACES[name].partition(":")
    return getattr(importlib.import_module(f"orchestrator.{module}"), there or name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
