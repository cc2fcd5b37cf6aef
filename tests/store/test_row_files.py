"""Row files: the short way to their bytes equals the way through Arrow, or is not taken."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.states import State
from orchestrator.store import kinds, row_files
from orchestrator.store.schemas import COLUMNS, to_table

ROW: dict[str, Any] = dict.fromkeys(COLUMNS["trials"]) | {
    "id": "0" * 16,
    "outcome": State.COMPLETE,
    "attempt": "a" * 8,
}

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from([np.float64(0.1), np.int64(3), np.str_("x"), np.bool_(True), State.LOST, [1]]),
)


def through_arrow(row: Mapping[str, Any]) -> row_files.Attempt:
    tables = {"trials": to_table("trials", [row])}
    tables |= {table: to_table(table, []) for table in row_files.TABLES[1:]}
    return row_files.encode_tables(kinds.TRIALS, tables)


@given(st.dictionaries(st.sampled_from(sorted(COLUMNS["trials"])), VALUES, max_size=6))
def test_a_row_has_the_bytes_that_arrow_gives(values: dict[str, Any]) -> None:
    row = ROW | values
    try:
        expected = through_arrow(row)
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        with pytest.raises(type(error)):
            row_files.encode(row)
    else:
        assert row_files.encode(row) == expected


def test_a_usual_row_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = {
        "n": 3,
        "top1": 0.5,
        "gpu": 0.0,
        "exact": True,
        "started": datetime(2026, 1, 1, tzinfo=UTC),
    }
    row = ROW | {name: value for name, value in usual.items() if name in ROW}
    expected = through_arrow(row)
    monkeypatch.setattr(row_files, "encode_tables", None)
    assert row_files.encode(row) == expected


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        row_files.encode(ROW | {"colour": "red"})
