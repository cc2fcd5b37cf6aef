"""Statistics of a store: read where needed, computed once, of one sweep or of all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from orchestrator.errors import StoreError
from orchestrator.report.page import write_report
from orchestrator.report.summary import summary_of
from orchestrator.report.terminal import summary_table
from orchestrator.stats import statistics as module
from orchestrator.stats.statistics import Statistics
from orchestrator.store.store import Store
from tests.synthetic import Label, Synthetic, digits

STATISTICS = ("effects", "levels", "table1", "speed", "speeds", "held_out")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two sweeps; `other` has one split by nature, so that its intervals need `classes`."""
    store = Store(tmp_path / "store")
    digits(splits=("s0", "s1"), layers=(1,)).write(store)
    other = Synthetic("other")
    for target in "AB":
        place = {"split": "natural_manmade", "target": target, "division": "natural_manmade"}
        other.add(Label(treatment="base", **place), 0.75)
        other.add(Label(treatment="transfer", n=1, frozen=True, **place), 0.5)
    other.write(store)
    return store


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Number of reads of each table of a store."""
    counts: Counter[str] = Counter()
    read = Store.table

    def counting(self: Store, name: str, *columns: Any) -> pa.Table:
        counts[name] += 1
        return read(self, name, *columns)

    monkeypatch.setattr(Store, "table", counting)
    return counts


def test_a_sweep_has_its_own_members_only(store: Store) -> None:
    demo, both = Statistics.of_sweep(store, "demo"), Statistics.of_store(store)
    assert set(demo.effects["division"].to_pylist()) == {"random"}
    assert set(both.effects["division"].to_pylist()) == {"random", "natural_manmade"}
    assert demo.trials.num_rows + 4 == both.trials.num_rows
    levels = [row for row in both.levels.to_pylist() if row["sweep"] == "demo"]
    assert demo.levels.to_pylist() == levels
    with pytest.raises(StoreError, match="no sweep 'none'"):
        Statistics.of_sweep(store, "none")


def test_tables_are_read_where_a_statistic_needs_them(store: Store, reads: Counter[str]) -> None:
    demo = Statistics.of_sweep(store, "demo")
    assert reads == {}
    assert demo.effects.num_rows > 0
    assert reads == {"trials": 1}  # random splits need no counts of classes
    assert demo.speeds.num_rows > 0
    assert reads == {"trials": 1, "curves": 1}
    other = Statistics.of_sweep(store, "other")
    assert set(other.effects["unit"].to_pylist()) == {"class and seed"}
    assert reads == {"trials": 2, "curves": 1, "classes": 1}


def test_terminal_and_report_share_what_is_computed_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: Counter[str]
) -> None:
    computed: Counter[str] = Counter()

    def counting(name: str) -> Any:
        compute = getattr(module, name)

        def counted(*arguments: Any) -> Any:
            computed[name] += 1
            return compute(*arguments)

        return counted

    names = (*STATISTICS, "measurements", "with_classes")
    for name in names:
        monkeypatch.setattr(module, name, counting(name))
    monkeypatch.setattr(
        "orchestrator.report.rendering.pictures",
        lambda _, formats, **_options: dict.fromkeys(formats, b"png"),
    )
    statistics = Statistics.of_sweep(store, "other")
    summary_table(summary_of(statistics))
    write_report(store, "other", tmp_path / "report", statistics)
    drawn = dict.fromkeys(names, 1)
    del drawn["held_out"]  # not in a report without a search
    drawn |= dict.fromkeys(("measurements", "with_classes", "effects", "levels"), 2)  # train_gap
    assert computed == drawn
    few = {"trials": 1}  # the columns of networks, beside the whole
    assert reads == Counter(few) + Counter(("trials", "curves", "classes", "measurements"))
