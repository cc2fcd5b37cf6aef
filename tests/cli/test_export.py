"""`layerwise export`: tables and runs for other programs. Weights are in tests/plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.report.query import VIEWS, WITHOUT_STORE
from tests.conftest import Ended

Layerwise = Callable[..., Ended]
TABLES = len(VIEWS) - len(WITHOUT_STORE)


@pytest.mark.parametrize(
    ("words", "line", "files"),
    [
        (["csv", "tables"], f"wrote {TABLES} tables to tables\n", TABLES),
        (["parquet", "tables", "--sweep", "small"], f"wrote {TABLES} tables to tables\n", TABLES),
        (["duckdb", "tables/all.duckdb"], f"wrote {TABLES} tables to tables/all.duckdb\n", 1),
        (["tensorboard", "tables"], "wrote 6 runs to tables\n", 6),
        (["mlflow", "file:tables"], "wrote 6 runs to file:tables; 0 were there already\n", None),
    ],
)
def test_what_is_written(
    words: list[str],
    line: str,
    files: int | None,
    full: Path,
    layerwise: Layerwise,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert layerwise("export", *words) == (0, line, "")
    written = [path for path in (full / "tables").rglob("*") if path.is_file()]
    assert files is None or len(written) == files


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["weights", "A s0"], "export weights takes a trial and a file: 'A s2' a.safetensors"),
        (["csv", "a", "b"], "export csv takes one place to write to, found 2"),
        (["csv", "a", "--sweep", "smal"], "no sweep 'smal' in "),
    ],
)
def test_mistakes(words: list[str], message: str, layerwise: Layerwise) -> None:
    code, out, err = layerwise("export", *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"layerwise: {message}")
