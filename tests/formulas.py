"""Values of public implementations on recorded inputs, in tests/golden/formulas.json.

`values` name the formula, the input and the implementation. An entry with `differs` says why that
implementation has another value than ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

RECORDED = json.loads((Path(__file__).parent / "golden" / "formulas.json").read_text())


def recorded(*formulas: str) -> list[dict[str, Any]]:
    """Return the entries of some formulas, each with its implementation's address."""
    return [
        entry | RECORDED["implementations"][entry["implementation"]]
        for entry in RECORDED["values"]
        if entry["formula"] in formulas
    ]


def given(name: str, key: str) -> np.ndarray:
    """Return one array of a recorded input."""
    return np.array(RECORDED["inputs"][name][key])


def label(entry: dict[str, Any]) -> str:
    return f"{entry['formula']}-{entry['input']}-{entry['implementation']}"
