"""The table that ends a run: remembered, and computed anew after anything that it follows from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.report import summary as module
from orchestrator.report.summary import Summary, known_summary, summary_of
from orchestrator.stats.statistics import Statistics
from orchestrator.store import removals
from orchestrator.store.compaction import compact
from orchestrator.store.store import Store
from tests.stores import to_version_1
from tests.synthetic import Label, Row, Synthetic, digits

Asked = Callable[..., Summary]


@pytest.fixture
def demo() -> Synthetic:
    return digits(splits=("s0", "s1", "s2"), layers=(1, 2))


@pytest.fixture
def store(tmp_path: Path, demo: Synthetic) -> Store:
    store = Store(tmp_path / "store")
    demo.write(store)
    return store


@pytest.fixture
def computed() -> list[str]:
    """The sweeps whose statistics were computed."""
    return []


@pytest.fixture
def asked(own_cache: Path, computed: list[str]) -> Asked:  # noqa: ARG001
    """Ask as a command of its own would, and compare the answer with one that is computed."""

    def ask(store: Store, sweep: str = "demo", metric: str = "top1") -> Summary:
        opened = Store(store.root)

        def statistics() -> Statistics:
            computed.append(sweep)
            return Statistics.of_sweep(opened, sweep, given_metric(metric))

        given = known_summary(opened, sweep, metric, statistics)
        expected = Statistics.of_sweep(Store(store.root), sweep, given_metric(metric))
        assert given == summary_of(expected)
        return given

    return ask


def given_metric(metric: str) -> str | None:
    return None if metric == "top1" else metric


def a_row(demo: Synthetic, treatment: str) -> Row:
    ids = {x["id"] for x in demo.members if x["treatment"] == treatment}
    return next(row for row in demo.trials if row["id"] in ids)


def better(row: Row) -> Row:
    """Return a row of a later attempt at the same trial."""
    later = row["ended"].replace(year=2090)
    return row | {"attempt": "0000ffff", "top1": 0.125, "ended": later}


def test_the_same_rows_are_computed_once(
    store: Store, asked: Asked, computed: list[str], own_cache: Path
) -> None:
    first = asked(store)
    assert first.effects
    assert asked(store) == first
    assert computed == ["demo"]
    assert len(list((own_cache / "summaries").iterdir())) == 1


def test_a_row_that_changed(
    store: Store, asked: Asked, computed: list[str], demo: Synthetic
) -> None:
    first = asked(store)
    store.write_row(better(a_row(demo, "transfer")))
    assert asked(store).effects != first.effects
    asked(store)
    assert computed == ["demo", "demo"]


@pytest.mark.parametrize("compacted", [False, True])
def test_a_row_that_was_removed(
    store: Store, asked: Asked, computed: list[str], demo: Synthetic, compacted: bool
) -> None:
    if compacted:
        compact(store)
    first = asked(store)
    row = a_row(demo, "transfer")
    removals.write(store.files, [(row["id"], row["attempt"])])
    assert asked(store).effects != first.effects
    assert asked(store).notes != first.notes
    assert computed == ["demo", "demo"]


def test_rows_that_were_compacted(store: Store, asked: Asked, computed: list[str]) -> None:
    first = asked(store)
    compact(store)
    assert asked(store) == first
    assert asked(store) == first
    assert computed == ["demo", "demo"]


def test_other_members(store: Store, asked: Asked, computed: list[str], demo: Synthetic) -> None:
    first = asked(store)
    smaller = copy.deepcopy(demo)
    smaller.members = [x for x in demo.members if x["split"] != "s2"]
    store.write_sweep("demo", smaller.members, "name: demo\n")
    assert asked(store).effects != first.effects
    renamed = [x | {"condition": "{}"} for x in smaller.members]
    store.write_sweep("demo", renamed, "name: demo\n")
    assert {row["condition"] for row in asked(store).effects} == {"{}"}
    assert computed == ["demo"] * 3


def test_another_sweep_of_the_same_trials(
    store: Store, asked: Asked, computed: list[str], demo: Synthetic
) -> None:
    asked(store)
    store.write_sweep("other", [x | {"sweep": "other"} for x in demo.members], "name: other\n")
    assert {row["sweep"] for row in asked(store, "other").effects} == {"other"}
    assert {row["sweep"] for row in asked(store).effects} == {"demo"}
    assert computed == ["demo", "other"]


def test_another_metric(store: Store, asked: Asked, computed: list[str]) -> None:
    for metric in ("top1", "val_mean10", "top1", "val_mean10"):
        asked(store, metric=metric)
    assert computed == ["demo", "demo"]


def test_another_version(
    store: Store, asked: Asked, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(store)
    monkeypatch.setattr(module, "surroundings", lambda *_: "later")
    asked(store)
    assert computed == ["demo", "demo"]


def test_another_store_at_the_same_place(
    store: Store, asked: Asked, computed: list[str], tmp_path: Path, demo: Synthetic
) -> None:
    asked(store)
    (tmp_path / "store").rename(tmp_path / "before")
    demo.trials = demo.trials[:-1]
    demo.write(Store(tmp_path / "store"))
    asked(store)
    assert computed == ["demo", "demo"]


def test_counts_that_are_gone(tmp_path: Path, asked: Asked, computed: list[str]) -> None:
    """Of one split by nature, the intervals rest on the counts of each class."""
    sweep = Synthetic("one")
    for seed in (0, 1):
        for target in "AB":
            place = {"split": "natural", "target": target, "division": "natural", "seed": seed}
            sweep.add(Label(treatment="base", **place), 0.75 + seed / 64)
            sweep.add(Label(treatment="transfer", n=1, frozen=True, **place), 0.5)
    store = Store(tmp_path / "store")
    sweep.write(store)
    compact(store)
    first = asked(store, "one")
    [counts] = (tmp_path / "store/classes").iterdir()
    counts.unlink()
    assert asked(store, "one").effects != first.effects
    assert computed == ["one", "one"]


def test_every_flipped_byte_of_what_is_remembered(
    store: Store, asked: Asked, computed: list[str], own_cache: Path
) -> None:
    asked(store)
    [path] = (own_cache / "summaries").iterdir()
    data = path.read_bytes()
    places = range(0, len(data), 997)
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        asked(store)
    path.write_bytes(data[: len(data) // 2])  # a write that was interrupted
    asked(store)
    assert len(computed) == 1 + len(places) + 1
    assert path.read_bytes() == data


def test_a_row_that_is_written_meanwhile(store: Store, own_cache: Path, demo: Synthetic) -> None:
    row = better(a_row(demo, "base"))

    def statistics() -> Statistics:
        store.write_row(row)
        return Statistics.of_sweep(store, "demo")

    known_summary(store, "demo", "top1", statistics)
    assert not (own_cache / "summaries").exists()


def test_rows_of_old_versions_are_not_remembered(
    store: Store, asked: Asked, computed: list[str]
) -> None:
    to_version_1(store)
    asked(store)
    asked(store)
    assert computed == ["demo", "demo"]
