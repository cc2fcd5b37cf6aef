"""Data of a run that is elsewhere on a machine, differs there or changed after planning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.execution.pack import PackAssignment
from orchestrator.execution.run import Run
from orchestrator.store.store import Store
from tests.execution.runs import SMALL, Events, PlanOf, carry_out, ids
from tests.pictures import write_folder

FOUR = {"train": dict.fromkeys(("ant", "bee", "cat", "dog"), 4)}
FOUR["val"] = dict.fromkeys(FOUR["train"], 2)
PETS = """\
name: pets
dataset: {name: image_folder, root: $PETS/pets, size: 8, held_out: 2}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {named: {x: {A: [ant, bee], B: [cat, dog]}}}
treatments: [base]
recipe: {rate: 0.03, steps: 2, batch: 2}
"""


def test_each_machine_looks_for_the_data_where_the_root_says(
    plan_of: PlanOf, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "here" / "pets", FOUR)
    monkeypatch.setenv("PETS", str(tmp_path / "here"))
    planned = plan_of(PETS)
    (tmp_path / "here").rename(tmp_path / "there")
    _, tally = carry_out(planned, store)
    assert tally == {"failed": 2}
    row = store.row(ids(planned)["A x"])
    assert row is not None
    assert f"no folder train in {tmp_path}/here/pets" in row["error_message"]
    monkeypatch.setenv("PETS", str(tmp_path / "there"))
    _, tally = carry_out(planned, store, retry_failed=True)
    assert tally == {"complete": 2}
    monkeypatch.chdir(tmp_path)
    elsewhere = plan_of(PETS, "dataset.root=there/pets")
    assert ids(elsewhere) == ids(planned)
    job = Run.open(elsewhere, Store(tmp_path / "new"), Events()).take()
    assert job is not None
    [pack] = job.works
    assert isinstance(pack, PackAssignment)
    assert pack.assignments[0].data_root == str(tmp_path / "there" / "pets")


def test_a_node_with_other_files_fails_and_says_so(
    plan_of: PlanOf,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh_data: Callable[[], None],
) -> None:
    folder = write_folder(tmp_path / "pets", FOUR)
    monkeypatch.setenv("PETS", str(tmp_path))
    planned = plan_of(PETS)
    (folder / "train" / "cat" / "cat_0.JPEG").unlink()
    fresh_data()  # as on another node
    _, tally = carry_out(planned, store)
    assert tally == {"failed": 2}
    row = store.row(ids(planned)["B x"])
    assert row is not None
    assert row["error_type"] == "DataError"
    assert "image_folder: the data or its code differs from what the" in row["error_message"]


def test_data_that_changed_after_planning_fails_by_name(
    plan_of: PlanOf,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    fresh_data: Callable[[], None],
) -> None:
    planned = plan_of(SMALL, "treatments=[base]", "dataset.noise=0.3")
    fresh_data()
    monkeypatch.setattr("trainers.datasets.digits.DIGITS_HASH", "another")
    _, tally = carry_out(planned, store)
    assert tally == {"failed": 2}
    row = store.row(ids(planned)["A s0"])
    assert row is not None
    assert row["error_type"] == "DataError"
    assert "scikit-learn's digits have changed" in row["error_message"]
