"""The contract of docs/resuming.md: every line names tests that exist."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

from tests.test_docs import load
from trainers.config import Training

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/resuming.md").read_text(encoding="utf-8")
LINES = [
    line for line in PAGE.splitlines() if line.startswith("| ") and not line.endswith("shown by |")
]


def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_line_of_the_contract_names_a_test_that_exists() -> None:
    assert len(LINES) >= 35
    for line in LINES:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", line)
        assert named, line
        assert [(path, test) for path, test in named if test not in functions(path)] == []


def test_the_fields_of_the_id_are_those_of_a_training() -> None:
    assert "<!-- generated: identity -->" in PAGE
    table = load(ROOT / "docs/generated.py").project.identity()
    listed = re.findall(r"^\| `(\w+)` \| \S", table, re.MULTILINE)
    assert listed == [field.name for field in dataclasses.fields(Training)]
