"""Stitched trials carried out: two checkpoints each, and either of them may be gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import LayerwiseError
from orchestrator.execution.debug import debug_trial
from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.plan.filter import find
from orchestrator.plan.origin import origin
from orchestrator.plan.plan import Plan
from orchestrator.states import Ending
from orchestrator.store.cleanup import unowned
from orchestrator.store.store import Store
from orchestrator.store.survey import Survey
from tests.execution.runs import Events
from tests.plan.test_stitched import STITCHED
from trainers import checkpoint

PlanOf = Callable[..., Plan]
ONE = ("treatments=[base, stitched]", "layers=1", "targets=[B]", "keep=all")


def carry_out(planned: Plan, store: Store) -> Events:
    events = Events()
    run_inline(Run.open(planned, store, events))
    return events


def rows(planned: Plan, store: Store) -> dict[str, dict[str, Any]]:
    return {name: row for name in names(planned) if (row := store.row(find(planned, name).id))}


def names(planned: Plan) -> list[str]:
    return [trial.name for trial in planned.members]


def test_a_row_names_both_checkpoints(plan_of: PlanOf, tmp_path: Path) -> None:
    planned, store = plan_of(STITCHED, "layers=1", "keep=all"), Store(tmp_path / "store")
    carry_out(planned, store)
    done = rows(planned, store)
    assert {row["outcome"] for row in done.values()} == {"complete"}
    a, b, across, own = (done[name] for name in ("A s0", "B s0", "A1|B s0", "B1|B s0"))
    columns = ("parent", "parent_checkpoint", "upper", "upper_checkpoint", "frozen_proven")
    assert [across[name] for name in columns] == [
        *(a["id"], a["checkpoint"], b["id"], b["checkpoint"], True)
    ]
    assert [own[name] for name in columns] == [*(b["id"], b["checkpoint"]) * 2, True]
    assert [a[name] for name in columns] == [None] * 5
    tensors = checkpoint.unpack(store.get_checkpoint(across["id"], across["checkpoint"]))[0]
    assert {"layer1.conv.weight", "stitch.weight", "layer4.fc.weight"} < tensors.keys()
    assert unowned(Survey.of(store)) == {}
    again = carry_out(planned, store)
    assert again.begun == []


def test_no_features_of_a_stitched_trial_are_written(plan_of: PlanOf) -> None:
    planned = plan_of(STITCHED)
    with pytest.raises(LayerwiseError, match=r"A1\|B s0 is stitched from layers of bases: name a"):
        origin(planned, "A1|B s0")


@pytest.mark.parametrize("half", ["A", "B"])
def test_either_base_is_trained_again_before_a_run(
    half: str, plan_of: PlanOf, tmp_path: Path
) -> None:
    store, base = Store(tmp_path / "store"), f"{half} s0"
    both = plan_of(STITCHED, "treatments=[base]")
    carry_out(both, store)
    row = rows(both, store)[base]
    Path(store.checkpoint_path(row["id"], row["checkpoint"])).write_bytes(b"damaged")
    events = carry_out(plan_of(STITCHED, *ONE), store)
    assert events.begun == [base, "A1|B s0"]
    assert {ending for _, ending in events.endings} == {Ending.COMPLETE}


def test_both_bases_that_go_during_a_run_are_trained_again(
    plan_of: PlanOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, store, harmed = plan_of(STITCHED, *ONE), Store(tmp_path / "store"), []
    write_row = Store.write_row

    def harming(self: Store, row: dict[str, Any], *points: Any) -> None:
        write_row(self, row, *points)
        if row["treatment"] == "base" and row["name"] not in harmed:
            harmed.append(row["name"])
            Path(store.checkpoint_path(row["id"], row["checkpoint"])).unlink()

    monkeypatch.setattr(Store, "write_row", harming)
    events = carry_out(planned, store)
    assert sorted(harmed) == sorted(events.repeated) == ["A s0", "B s0"]
    assert [ending for _, ending in events.endings].count(Ending.BASE_DAMAGED) == 2
    assert {row["outcome"] for row in rows(planned, store).values()} == {"complete"}


@pytest.mark.parametrize("record", [False, True])
def test_debug_takes_one_base_from_the_store_and_trains_the_other(
    record: bool, plan_of: PlanOf, tmp_path: Path
) -> None:
    planned, store, lines = plan_of(STITCHED, *ONE), Store(tmp_path / "store"), []
    base = find(planned, "A s0")
    run_inline(Run.open(planned, store, Events(), only=[base.id]))
    report = debug_trial(planned, "A1|B s0", store, record=record, echo=lines.append)
    assert report.ending is Ending.COMPLETE
    assert [line for line in lines if "its base" in line] == [
        "its base B s0 is not in the store and is trained first"
    ]
    assert len(rows(planned, store)) == (3 if record else 1)
