"""Measurements carried out in this process: rows, resumption, lost weights, failures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from orchestrator.execution.inline import run_inline
from orchestrator.execution.items import Item
from orchestrator.execution.measurement import MeasurementAssignment
from orchestrator.execution.run import Job, Run
from orchestrator.execution.work import carry_out as work_on
from orchestrator.execution.work import from_text, to_text
from orchestrator.plan.measurement import measurements_of
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.states import Ending, State
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_sweep
from tests.conftest import Ended
from tests.small import SMALL
from tests.stores import loosen, rewrite
from trainers.canonical import digest
from trainers.config import NetworkRef
from trainers.datasets import DataError
from trainers.networks import build, tensors_of

PlanOf = Callable[..., Plan]
ALL = "measure=[weights, interpolation, similarity, predictors]"
MEASURED = {"weights": 4, "interpolation": 4, "similarity": 8, "predictors": 2}

OLD = """\
name: old
tasks: {{few: {{dataset: digits, images_per_class: 5, draws: [0]}}}}
weights: {{old: {}}}
network: {{conv: [2, 2], pool: [1], fc: [4]}}
treatments: [base, transfer]
layers: [1]
measure: [weights, interpolation, similarity, predictors]
recipe: {{rate: 0.03, steps: 3, batch: 16}}
"""


class Events:
    """The `Progress` that counts the items of a run by unit."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.endings: Counter[tuple[str, Ending]] = Counter()
        self.messages: list[str] = []
        self.gave_up: list[tuple[str, State]] = []
        self.repeated: list[str] = []

    def started(self, item: Item) -> None:
        self.begun.append(item.name)

    def ended(self, item: Item, ending: Ending, message: str, *_: object) -> None:
        self.endings[item.unit, ending] += 1
        self.messages += [message] if message else []

    def given_up(self, item: Item, state: State, reason: str) -> None:  # noqa: ARG002
        self.gave_up.append((item.name, state))

    def again(self, item: Item) -> None:
        self.repeated.append(item.name)


def carry_out(plan: Plan, store: Store, **options: Any) -> Events:
    events = Events()
    run = Run.open(plan, store, events, **options)
    run_inline(run)
    assert run.done
    return events


def values(store: Store) -> list[dict[str, Any]]:
    columns = result_columns("measurements")
    return sorted(store.table("measurements").select(columns).to_pylist(), key=str)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store, Events]:
    """The small sweep with all of its measurements."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "small.yaml").write_text(SMALL)
    plan = make_plan(resolve(*load_sweep(str(folder / "small.yaml"), [ALL])))
    store = Store(folder / "store")
    return plan, store, carry_out(plan, store)


def test_every_network_is_measured_after_it_is_trained(
    measured: tuple[Plan, Store, Events],
) -> None:
    plan, store, events = measured
    assert events.endings == {
        ("trial", Ending.COMPLETE): 6,
        ("measurement", Ending.COMPLETE): sum(MEASURED.values()),
    }
    ids = {row["id"]: row["measure"] for row in store.table("measurements").to_pylist()}
    assert Counter(ids.values()) == MEASURED
    assert ids == {id: one.measure for id, one in measurements_of(plan).items()}
    assert events.begun.index("weights of A1A s0") > events.begun.index("A1A s0")


def test_rows_name_their_networks_and_their_weights(measured: tuple[Plan, Store, Events]) -> None:
    plan, store, _ = measured
    trials = {row["id"]: row for row in store.table("trials").to_pylist()}
    tasks = {trial.id: digest(trial.training.target) for trial in plan.members}
    for row in store.table("measurements").to_pylist():
        assert row["outcome"] == "complete"
        assert row["checkpoint"] == trials[row["trial"]]["checkpoint"]
        assert row["other_checkpoint"] == (row["other"] and trials[row["other"]]["checkpoint"])
        assert row["seconds"] > 0
        if row["measure"] in ("interpolation", "similarity"):
            assert row["task"] == tasks[row["trial"]]
            assert row["images"] == 10  # two validation images of each of five classes


def test_copied_frozen_layers_have_not_moved(measured: tuple[Plan, Store, Events]) -> None:
    _, store, _ = measured
    rows = store.table("measurements").to_pylist()
    moved = {
        (row["trial"], row["layer"]): row["value"] for row in rows if row["quantity"] == "distance"
    }
    assert {layer for _, layer in moved} == {1, 2, 3, 4}
    assert [value == 0 for (_, layer), value in moved.items()] == [layer == 1 for _, layer in moved]


def test_a_copied_layer_is_that_of_its_source(measured: tuple[Plan, Store, Events]) -> None:
    plan, store, _ = measured
    sources = {trial.id: trial.parent for trial in plan.members}
    copies = [
        row["value"]
        for row in store.table("measurements").to_pylist()
        if row["quantity"] == "cka" and row["layer"] == 1 and row["other"] == sources[row["trial"]]
    ]
    assert copies == pytest.approx([1.0] * 4, abs=1e-9)


def test_both_ends_of_a_line_are_the_networks(measured: tuple[Plan, Store, Events]) -> None:
    _, store, _ = measured
    trials = {row["id"]: row for row in store.table("trials").to_pylist()}
    rows = [x for x in store.table("measurements").to_pylist() if x["quantity"] == "loss"]
    assert len(rows) == 4 * 11
    for row in rows:
        if row["position"] in (0, 1):
            end = trials[row["trial"] if row["position"] else row["other"]]
            assert row["value"] == pytest.approx(end["val_loss"], rel=1e-6)


def test_predictors_are_of_a_source_and_every_n(measured: tuple[Plan, Store, Events]) -> None:
    plan, store, _ = measured
    rows = [x for x in store.table("measurements").to_pylist() if x["measure"] == "predictors"]
    bases = {trial.id for trial in plan.members if trial.name in ("A s0", "B s0")}
    assert {row["trial"] for row in rows} == bases
    without_layer = {row["quantity"] for row in rows if row["layer"] is None}
    assert without_layer == {"leep", "nce"}
    with_layer = {row["quantity"] for row in rows if row["layer"] == 1}
    names = {"logme", "h_score", "regularised_h_score", "parc", "knn_accuracy", "probe"}
    assert with_layer == names
    assert {row["images"] for row in rows} == {50}


def test_a_second_run_measures_nothing(measured: tuple[Plan, Store, Events]) -> None:
    plan, store, _ = measured
    before = store.table("measurements")
    assert carry_out(plan, store).begun == []
    assert store.table("measurements") == before


def test_the_values_are_the_same_in_another_store(
    measured: tuple[Plan, Store, Events], tmp_path: Path
) -> None:
    plan, store, _ = measured
    other = Store(tmp_path / "other")
    carry_out(plan, other)
    assert values(other) == values(store)


def test_measures_can_be_added_to_a_sweep_that_was_run(plan_of: PlanOf, tmp_path: Path) -> None:
    """Weights that were not kept are trained again, and are then the same."""
    store = Store(tmp_path / "store")
    carry_out(plan_of(SMALL), store)
    before = store.table("trials").select(result_columns("trials")).to_pylist()
    plan = plan_of(SMALL, "measure=[weights]", "name=small")
    events = carry_out(plan, store)
    assert events.endings == {
        ("trial", Ending.COMPLETE): 4,
        ("measurement", Ending.COMPLETE): 4,
    }
    after = store.table("trials").select(result_columns("trials")).to_pylist()
    assert sorted(after, key=str) == sorted(before, key=str)


def test_no_checkpoint_stays_with_keep_none(plan_of: PlanOf, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    plan = plan_of(SMALL, "measure=[weights]", "keep=none")
    carry_out(plan, store)
    assert store.names("checkpoints") == []
    assert carry_out(plan, store).begun == []


def test_weights_that_go_missing_are_trained_again(plan_of: PlanOf, tmp_path: Path) -> None:
    """Here they go while the measurement waits: the worker finds them missing."""
    store, plan = Store(tmp_path / "store"), plan_of(SMALL, "measure=[weights]")
    events = Events()
    run = Run.open(plan, store, events)
    lost = next(trial for trial in plan.members if trial.name == "A1B s0")
    began = run.started

    def lose(job: Job) -> None:
        if run.items[job.first].name == "weights of A1B s0" and not events.repeated:
            store.drop_checkpoints(lost.id)
        began(job)

    run.started = lose  # type: ignore[method-assign]
    run_inline(run)
    assert run.done
    assert events.repeated == ["A1B s0"]
    assert events.endings["measurement", Ending.BASE_DAMAGED] == 1
    assert events.endings["measurement", Ending.COMPLETE] == 4


def test_a_network_that_was_trained_anew_is_measured_anew(plan_of: PlanOf, tmp_path: Path) -> None:
    store, plan = Store(tmp_path / "store"), plan_of(SMALL, "measure=[weights]")
    carry_out(plan, store)
    [row] = [row for row in store.table("trials").to_pylist() if row["name"] == "A1B s0"]
    sha256 = store.put_checkpoint(
        row["id"], store.get_checkpoint(row["parent"], row["parent_checkpoint"])
    )
    rewrite(store, row["id"], checkpoint=sha256)
    events = carry_out(plan, store)
    assert events.begun == ["weights of A1B s0"]
    rows = store.table("measurements").to_pylist()
    assert {x["checkpoint"] for x in rows if x["trial"] == row["id"]} == {sha256}


def test_a_measurement_that_fails_is_recorded_and_not_repeated(
    plan_of: PlanOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers import measures

    def refuse(*_: object) -> Any:
        raise DataError("the features are too large")

    store, plan = Store(tmp_path / "store"), plan_of(SMALL, "measure=[weights]", "keep=none")
    with monkeypatch.context() as patch:
        patch.setitem(measures.MEASURES, "weights", refuse)
        events = carry_out(plan, store)
    assert events.endings["measurement", Ending.FAILED] == 4
    assert "weights of A1A s0: the features are too large" in events.messages
    rows = store.table("measurements").to_pylist()
    assert [(row["outcome"], row["value"]) for row in rows] == [("failed", None)] * 4
    assert carry_out(plan, store).begun == []
    assert carry_out(plan, store, retry_failed=True).endings == {
        ("trial", Ending.COMPLETE): 6,  # their weights are gone
        ("measurement", Ending.COMPLETE): 4,
    }
    assert {row["outcome"] for row in store.table("measurements").to_pylist()} == {"complete"}


def test_a_damaged_measurement_is_repeated(plan_of: PlanOf, tmp_path: Path) -> None:
    store, plan = Store(tmp_path / "store"), plan_of(SMALL, "measure=[weights]")
    carry_out(plan, store)
    loosen(store)
    name = next(name for name in store.names("rows") if name.startswith("measurements-"))
    store.put(store.path("rows", name), b"zeros")
    events = carry_out(plan, Store(store.root))
    assert events.endings == {("measurement", Ending.COMPLETE): 1}
    assert len(Store(store.root).derived_ids("measurements")) == 4


def test_only_some_trials_are_measured_with_only(plan_of: PlanOf, tmp_path: Path) -> None:
    plan = plan_of(SMALL, "measure=[weights, interpolation, similarity]")
    chosen = next(trial for trial in plan.members if trial.name == "A1A s0")
    events = carry_out(plan, Store(tmp_path / "store"), only=[chosen.id])
    assert events.begun == [
        "A s0",
        "A1A s0",
        *(f"{measure} of A1A s0" for measure in ("interpolation", "similarity", "weights")),
    ]


def test_work_travels_as_it_is(measured: tuple[Plan, Store, Events]) -> None:
    plan, store, _ = measured
    run = Run.open(plan, Store(f"{store.root}-new"), Events())
    job = run.take()
    assert job is not None
    for work in job.works:
        assert from_text(to_text(work)) == work
    assert [id for work in job.works for id in work.ids] == [x.item for x in job.attempts]


def test_a_drained_worker_stops_a_measurement(plan_of: PlanOf, store: Store) -> None:
    """It asks at each value, writes no row, and measures again in the next run."""
    plan = plan_of(SMALL, "measure=[interpolation]")
    carry_out(plan_of(SMALL), store)
    run = Run.open(plan, store, Events())
    while (job := run.take()) is not None:
        [work] = job.works
        if isinstance(work, MeasurementAssignment):
            break
        run.end(job, {report.trial: report for report in work_on(work)})
    assert job is not None
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(len(asked) == 4)
        return asked[-1]

    [report] = work_on(work, stop=stop)
    assert (report.ending, len(asked)) == (Ending.STOPPED, 5)
    assert store.derived_ids("measurements") == set()
    run.end(job, {report.trial: report})
    run_inline(run)
    assert run.done
    assert len(store.derived_ids("measurements")) == 4


def test_a_run_says_what_was_not_measured(
    folder: Path, layerwise: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers import measures

    def refuse(*_: object) -> Any:
        raise DataError("the features are too large")

    (folder / "small.yaml").write_text(f"{SMALL}measure: [weights, interpolation]\n")
    command = ("run", "small.yaml", "--inline", "--no-report")
    with monkeypatch.context() as patch:
        patch.setitem(measures.MEASURES, "weights", refuse)
        done = layerwise(*command)
    lines = done.out.splitlines()
    assert done.code == 1
    assert lines[1] == "8 measurements, 0 complete"
    assert "weights of A1B s0: the features are too large" in lines
    failed = (
        "4 failed of 8 measurements (failed measurements run again with --retry-failed); "
        "why: layerwise status small.yaml"
    )
    assert lines[-1] == failed
    status = layerwise("status", "small.yaml").out.splitlines()
    assert "measurements complete: weights 0/4, interpolation 4/4" in status
    assert "failed: weights of A1B s0: the features are too large" in status
    counts = json.loads(layerwise("plan", "small.yaml", "--json").out)["measurements"]
    assert [(x["measure"], x["complete"], x["failed"], x["missing"]) for x in counts] == [
        ("weights", 0, 4, 0),
        ("interpolation", 4, 0, 0),
    ]
    again = layerwise(*command, "--retry-failed")
    assert (again.code, again.out.splitlines()[1]) == (0, "8 measurements, 4 complete")


def test_a_network_that_failed_is_not_measured(
    plan_of: PlanOf, tmp_path: Path, dying: dict[str, int]
) -> None:
    dying["A1B s0"] = 4
    store = Store(tmp_path / "store")
    events = carry_out(plan_of(SMALL, "measure=[weights]"), store)
    assert ("weights of A1B s0", State.SKIPPED) in events.gave_up
    assert len(store.derived_ids("measurements")) == 3


def test_a_file_of_weights_is_measured_as_a_source(plan_of: PlanOf, tmp_path: Path) -> None:
    """It has no last layer: its outputs are compared with nothing, and it has no classes."""
    ref = NetworkRef(name="conv8", options=(("conv", (2, 2)), ("fc", (4,)), ("pool", (1,))))
    save_file(dict(tensors_of(build(ref, 7, (1, 12, 12)))), tmp_path / "old.safetensors")
    plan = plan_of(OLD.format(tmp_path / "old.safetensors"))
    store = Store(tmp_path / "store")
    carry_out(plan, store)
    [source] = plan.weights
    names = {trial.id: trial.name for trial in plan.members} | {source: "old"}
    rows = store.table("measurements").to_pylist()
    compared = {
        (row["measure"], names[row["trial"]], names.get(row["other"] or "")) for row in rows
    }
    copy, base = "old-1-few d0 k5", "few d0 k5"
    assert compared == {
        ("weights", copy, "old"),
        ("interpolation", copy, base),
        ("similarity", copy, base),
        ("predictors", "old", None),
    }
    scores = {row["quantity"] for row in rows if row["measure"] == "predictors"}
    assert scores == {"logme", "h_score", "regularised_h_score", "parc", "knn_accuracy", "probe"}
    assert carry_out(plan, store).begun == []
