"""The questions of docs/questions.md: each query runs, and has the documented columns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.report.query import named, run_query
from orchestrator.store.store import Store
from tests.synthetic import digits

PAGE = (Path(__file__).parents[1] / "docs/questions.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(
    r"^## (\d+)\. ([^\n]+)\n\n```sql\n(.+?)```\n\n\| ([^\n]+) \|\n\| [-:| ]+ \|\n((?:\|[^\n]*\n)*)",
    PAGE,
    re.DOTALL | re.MULTILINE,
)
ASKED = {"results", "classes", "curves", "effects", "levels", "decomposition"}
ASKED |= {"failures", "cost", "speeds", "paper"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four splits of a sweep `digits`, with scores of training images and times."""
    store = Store(tmp_path_factory.mktemp("questions"))
    sweep = digits(name="digits")
    more = {"train_top1": 1.0, "seconds_total": 2.0, "images_per_second": 9.0}
    sweep.trials = [{**row, **more} for row in sweep.trials]
    sweep.write(store)
    return store


def test_there_are_twelve_and_they_read_every_view() -> None:
    assert [int(number) for number, *_ in QUESTIONS] == list(range(1, 13))
    assert set().union(*(named(sql) for _, _, sql, _, _ in QUESTIONS)) == ASKED


@pytest.mark.parametrize(("title", "sql", "header", "rows"), [x[1:] for x in QUESTIONS])
def test_the_query_gives_the_documented_columns(
    title: str, sql: str, header: str, rows: str, store: Store
) -> None:
    answer = run_query(store, sql)
    assert answer.column_names == header.split(" | ")
    assert bool(answer.num_rows) is bool(rows) is (title != "What failed, and why?")
    assert answer.column_names == list(dict.fromkeys(answer.column_names))
