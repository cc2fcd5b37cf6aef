"""What one look at a store finds, in every state of it, and what a second look reads again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.report.wording import duration
from orchestrator.store.store import Store
from orchestrator.store.under_way import UnderWay
from orchestrator.watch import observation
from orchestrator.watch.observation import Cell, Observer, Running
from orchestrator.watch.sentences import described
from tests import watched
from tests.s3_server import S3Server
from tests.watch.conftest import Make

STATES = {  # state: complete, ended badly, under way, reasons that are shown
    "one trial": (1, 0, 0, 0),
    "running": (273, 3, 4, 3),
    "stopped": (273, 3, 4, 3),
    "complete": (444, 0, 0, 0),
    "all failed": (0, 148, 0, 1),
    "nan": (127, 20, 1, 20),
    "half copied": (273, 3, 4, 3),
    "foreign": (273, 3, 4, 3),
    "older": (51, 2, 0, 2),
    "hostile": (76, 2, 0, 1),
    "several": (64, 0, 0, 0),
}


@pytest.mark.parametrize("state", STATES)
def test_the_counts_of_every_state(state: str, make: Make) -> None:
    seen = Observer(make(state).root, "").look()
    complete, bad, running, reasons = STATES[state]
    cells = [cell for row in seen.rows.values() for cell in row.values()]
    assert (seen.whole.complete, seen.whole.bad, seen.whole.running) == (complete, bad, running)
    assert sum(cell.total for cell in cells) == seen.whole.total
    assert len(seen.failures) == reasons
    assert sum(len(one.names) for one in seen.failures) == bad
    assert seen.more_failures == 0
    assert (seen.problem, seen.waits) == ("", "")
    assert list(seen.rows) == ["base", "base_long", "BnB", "BnB+", "AnB", "AnB+", "random"]
    assert seen.layers == [1, 2, 3, 4, 5, 6, 7]


def test_all_states_are_looked_at() -> None:
    assert {"empty", *STATES} == set(watched.STATES)


def test_a_sweep_while_it_runs(make: Make) -> None:
    seen = Observer(make("running").root, "demo").look({("BnB", 1): 30.0, ("AnB", 2): 10.0})
    assert seen.rows["base"] == {0: Cell(total=12, complete=12)}
    assert seen.rows["BnB"][1] == Cell(total=12, complete=9)
    assert seen.rows["BnB"][3] == Cell(total=12, complete=5, bad=1)
    assert seen.rows["BnB"][4] == Cell(total=12, complete=9, running=1)
    missing = 444 - 273 - 3
    of_both = 30.0 * 3 + 10.0 * (12 - seen.rows["AnB"][2].complete)
    others = 20.0 * (missing - 3 - (12 - seen.rows["AnB"][2].complete))
    assert dict(seen.facts) == {
        "complete": "273 of 444, 61 %",
        "failed": "3",
        "running": "4",
        "time left": "12:34",
        "slot time left": duration(of_both + others),
    }
    assert seen.is_live
    assert re.fullmatch(r"A run on node-3 has been writing for \d+:\d\d\.", seen.sentence)
    assert [(one.name, one.step) for one in seen.running] == [
        ("A4A s0", 275),
        ("A6A s0", 325),
        ("A7A s0", 375),
        ("A1A+ s0", 400),
    ]
    assert seen.running[0].curve[0] == (25, pytest.approx(0.9 - 0.7 * 2.7 ** (-25 / 80)))
    reason = seen.failures[0]
    assert (reason.outcome, reason.reason) == ("failed", f"loss is nan at step {reason.step}")


def test_numbers_that_are_none_are_left_out_of_a_curve(make: Make) -> None:
    (one,) = Observer(make("nan").root, "").look().running
    assert one.curve == [(50, 0.4), (100, 0.5)]
    assert described(one.curve) == "validation from 40.0 % at step 50 to 50.0 % at step 100"
    assert described([(5, 0.5)]) == "validation 50.0 % at step 5"
    assert described([]) == "no evaluation yet"


def test_a_stopped_sweep_says_how_it_goes_on(make: Make) -> None:
    seen = Observer(make("stopped").root, "").look()
    assert not seen.is_live
    assert seen.sentence == (
        "No run is writing. `layerwise run` goes on from the snapshots of 4 trials."
    )
    assert "running" not in dict(seen.facts)


def test_a_store_that_fills(tmp_path: Path) -> None:
    observer = Observer(str(tmp_path / "store"), "")
    assert observer.look().waits == f"There is no store at {tmp_path}/store yet."
    store = Store(tmp_path / "store")
    store.make()
    assert observer.look().waits == f"No run has recorded any sweep in {store.root} yet."
    watched.one_trial(store)
    seen = observer.look()
    assert (seen.sweep, seen.whole.complete, seen.waits) == ("demo", 1, "")
    before = seen.content
    assert observer.look().content == before
    watched.running(store)
    seen = observer.look()
    assert seen.whole.complete == 273
    assert seen.content != before


def test_a_sweep_that_grows_is_read_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    watched.sweep(1.0, splits=("s0",)).write(store)
    observer = Observer(store.root, "demo")
    assert observer.look().whole.total == 74
    watched.sweep(1.0, splits=("s0", "s1")).write(store)
    assert observer.look().whole.total == 148


def test_a_sweep_that_is_not_recorded_is_waited_for(make: Make) -> None:
    store = make("complete")
    seen = Observer(store.root, "other").look()
    assert seen.waits == f"No run has recorded sweep other in {store.root} yet."
    assert (seen.sweep, seen.sweeps) == ("other", ["demo"])


def test_the_sweep_of_the_latest_run_is_shown(make: Make) -> None:
    store = make("several")
    assert Observer(store.root, "").look().sweep == "second"
    assert Observer(store.root, "third").look().sweep == "third"
    watched.lease(store, "gone")  # its sweep is not there
    store.delete(store.path("leases", "second-0123456789abcdef.json"))
    assert Observer(store.root, "").look().sweep == "third"


def test_a_store_that_cannot_be_read_keeps_what_was_seen(make: Make) -> None:
    store = make("running")
    observer = Observer(store.root, "")
    before = observer.look()
    record = Path(store.sweep_path("demo"))
    data = record.read_bytes()
    record.write_bytes(data[:100])
    seen = observer.look()
    assert seen.problem.startswith(f"the record of sweep demo in {store.root} is damaged")
    assert seen.whole == before.whole
    record.write_bytes(data)
    assert observer.look().problem == ""


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    watched.newer(store)
    seen = Observer(store.root, "").look()
    assert "was written by a newer layerwise (schema 99" in seen.problem


def test_an_object_store(s3: S3Server) -> None:
    store = Store(s3.new_bucket())
    made = watched.sweep(0.0, splits=("s0",))
    made.write(store)
    (open_one,) = (row["id"] for row in made.members if row["name"] == "A1B s0")
    watched.snapshot(store, open_one, {25: 0.2, 50: 0.4})
    watched.lease(store, "demo", running=1)
    seen = Observer(store.root, "").look()
    assert seen.whole == Cell(total=74, complete=4, running=1)
    assert seen.running == [Running("A1B s0", 50, [(25, 0.2), (50, 0.4)])]


def test_what_workers_say_goes_on_where_snapshots_end(make: Make) -> None:
    store = make("running")
    ids = {row["name"]: row["id"] for row in store.members("demo").to_pylist()}
    known = store.outcomes().keys() | set(store.names("progress"))
    waiting = next(id for id in ids.values() if id not in known)  # has no snapshot
    now = [
        UnderWay(ids["A4A s0"], 350, [(275, 0.5), (300, 0.6), (350, 0.7)]),
        UnderWay(waiting, 25, [(25, 0.1)]),
        UnderWay(ids["A s0"], 10),  # complete meanwhile
    ]
    watched.announce(store, now)
    seen = Observer(store.root, "").look()
    assert [(one.name, one.step) for one in seen.running] == [
        ("A4A s0", 350),
        (next(name for name, id in ids.items() if id == waiting), 25),
        ("A6A s0", 325),
        ("A7A s0", 375),
        ("A1A+ s0", 400),
    ]
    assert [step for step, _ in seen.running[0].curve] == [*range(25, 275, 25), 275, 300, 350]
    assert seen.running[1].curve == [(25, 0.1)]
    assert seen.whole.running == 5
    watched.unlease(store)
    assert len(Observer(store.root, "").look().running) == 4


def test_a_snapshot_that_is_none_has_no_curve(make: Make) -> None:
    store = make("one trial")
    names = [row["id"] for row in store.members("demo").to_pylist() if row["treatment"] == "base"]
    for id, data in zip(
        names[1:4], (b"", b"\x02" + bytes(7) + b"[]", bytes(7) + b"\xff"), strict=True
    ):
        store.put_progress(id, "aaaaaaaa", 5, data or b"half")
    assert [one.curve for one in Observer(store.root, "").look().running] == [[], [], []]


def test_only_new_snapshots_and_failures_are_opened(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make("running")
    opened: list[str] = []
    meta, rows = Store.snapshot_meta, Store.rows

    def noted_meta(store: Store, id: str, file: object) -> object:
        opened.append(id)
        return meta(store, id, file)  # type: ignore[arg-type]

    def noted_rows(store: Store, ids: list[str], outcome: str) -> object:
        opened.extend(ids)
        return rows(store, ids, outcome)

    monkeypatch.setattr(Store, "snapshot_meta", noted_meta)
    monkeypatch.setattr(Store, "rows", noted_rows)
    observer = Observer(store.root, "")
    first = observer.look()
    assert len(opened) == 7
    opened.clear()
    again = observer.look()
    assert opened == []
    assert (again.running, again.failures) == (first.running, first.failures)
    id = next(id for id, name in observer.names.items() if name == "A4A s0")
    watched.snapshot(store, id, {25: 0.1, 300: 0.9})
    assert observer.look().running[0] == Running("A4A s0", 300, [(25, 0.1), (300, 0.9)])
    assert opened == [id]


def test_the_rest_is_counted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "MOST_RUNNING", 3)
    monkeypatch.setattr(observation, "MOST_FAILURES", 2)
    monkeypatch.setattr(observation, "MOST_REASONS", 1)
    seen = Observer(make("running").root, "").look()
    assert (len(seen.running), seen.more_running) == (3, 1)
    assert (len(seen.failures), seen.more_failures) == (1, 2)
