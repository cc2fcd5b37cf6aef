"""Features as part of a sweep: whole files, resumption, sharing, damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from orchestrator.errors import LayerwiseError
from orchestrator.execution import extraction
from orchestrator.execution.check import check_features
from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.execution.work import from_text, to_text
from orchestrator.plan.extraction import extractions_of
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.states import Ending
from orchestrator.store.cleanup import Choice, Cleaner
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_sweep
from tests.conftest import Ended
from tests.execution.runs import Events, carry_out
from tests.s3_server import S3Server
from tests.small import SMALL, files
from tests.stores import rewrite
from trainers import feature_form, features
from trainers.config import NetworkRef
from trainers.networks import build, tensors_of

PlanOf = Callable[..., Plan]
LOW = f"{SMALL}features: {{low: {{layers: [1, 3], pool: none}}}}\n"
OLD = """\
name: old
tasks: {few: {dataset: digits, images_per_class: 5, draws: [0]}}
weights: {old: old.safetensors}
network: {conv: [2, 2], pool: [1], fc: [4]}
treatments: [base, transfer]
layers: [1]
features: {x: {layers: 2, of: [old], pool: maximum}}
recipe: {rate: 0.03, steps: 3, batch: 16}
"""
WRITTEN = ["features of A s0 for A s0", "features of B s0 for B s0"]
PARTS = [
    "test-000000000.parquet",
    "train-000000000.parquet",
    "train-000000020.parquet",
    "train-000000040.parquet",
    "validation-000000000.parquet",
]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty images with both layers of `LOW` are a part."""
    monkeypatch.setattr(feature_form, "PART_BYTES", 4 * (2 * 6 * 6 + 4) * 20)


def vectors(store: Store) -> dict[str, bytes]:
    """Return the files of features by their path."""
    folder = Path(store.root, "features")
    return {name: (folder / name).read_bytes() for name in files(folder)}


def extracted(events: Events) -> list[str]:
    return [name for name in events.begun if name.startswith("features of ")]


def rows(store: Store) -> list[dict[str, Any]]:
    columns = result_columns("extractions")
    found = store.table("extractions").select(columns).to_pylist()
    return sorted(found, key=lambda row: str(row["name"]))


def test_files_are_those_of_the_command(
    folder: Path, layerwise: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("small.yaml").write_text(LOW)
    done = layerwise("run", "small.yaml", "--inline", "--no-report")
    assert done.out.splitlines()[:2] == [
        "small.yaml: 6 trials, 0 complete in results",
        "2 extractions, 0 complete",
    ]
    command = ("features", "small.yaml", "A s0", "--layer", "1", "--layer", "3", "--pool", "none")
    with monkeypatch.context() as patch:  # the store has these parts: nothing is computed
        patch.delattr(features.Extractor, "part")
        assert layerwise(*command, "--to", "copied").code == 0
    assert layerwise(*command, "--to", "computed", "--store", "results").code == 0
    [row] = [row for row in rows(Store(folder / "results")) if row["name"] == "A s0"]
    written = Path("results", row["folder"])
    assert files(written) == files(Path("copied")) == PARTS
    assert row["parts"] == len(PARTS)
    assert row["bytes"] == sum((written / name).stat().st_size for name in PARTS)
    assert (row["images"], row["values"], row["layers"]) == (75, 76, [1, 3])
    shutil.rmtree("results/features")
    assert layerwise(*command, "--to", "anew").code == 0
    for name in PARTS:
        assert Path("anew", name).read_bytes() == Path("copied", name).read_bytes()
    summary = json.loads(layerwise("status", "small.yaml", "--json").out)["features"]
    assert summary == [  # the files are gone
        {
            "features": "low",
            "extractions": 2,
            "bytes": 2 * 75 * 4 * 76,
            "complete": 0,
            "failed": 0,
            "missing": 2,
            "reasons": [],
        }
    ]
    assert "features complete: low 0/2 (45.6 kB)" in layerwise("plan", "small.yaml").out


def test_a_second_run_and_another_sweep_do_nothing(plan_of: PlanOf, store: Store) -> None:
    first = plan_of(LOW)
    assert extracted(carry_out(first, store)[0]) == WRITTEN
    before = vectors(store)
    assert len(before) == 10
    table = pq.read_table(f"{store.root}/{rows(store)[0]['folder']}")
    assert table.column_names == ["image", "subset", "label", "class_index", "layer1", "layer3"]
    assert str(table.schema.field("layer1").type) == "fixed_size_list<element: float>[72]"
    assert carry_out(first, store)[0].begun == []
    second = plan_of(f"{SMALL}features: {{high: {{layers: [3, 1], pool: none}}}}\n", "name=second")
    assert carry_out(second, store)[0].begun == []
    assert vectors(store) == before


def test_an_extraction_that_is_killed_goes_on_after_its_whole_parts(
    plan_of: PlanOf, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, compute, made = plan_of(LOW), features.Extractor.part, []

    def dying(self: Any, subset: str, first: int) -> Any:
        made.append((subset, first))
        if len(made) == 3:
            raise KeyboardInterrupt
        return compute(self, subset, first)

    with monkeypatch.context() as patch:
        patch.setattr(features.Extractor, "part", dying)
        with pytest.raises(KeyboardInterrupt):
            carry_out(plan, store)
        assert [name.partition("/")[2] for name in vectors(store)] == PARTS[1:3]
        assert {store.relative(x.path) for x in Cleaner(store, Choice()).waste} == set()
        assert extracted(carry_out(plan, store)[0]) == WRITTEN
    assert made[2:6] == [("train", 40), ("train", 40), ("validation", 0), ("test", 0)]
    assert len(made) == 3 + 3 + 5
    other = Store(tmp_path / "other")
    carry_out(plan, other)
    assert (vectors(other), rows(other)) == (vectors(store), rows(store))


def test_a_drained_worker_stops_after_a_part(plan_of: PlanOf, store: Store) -> None:
    plan = plan_of(LOW)
    carry_out(plan_of(SMALL), store)
    run = Run.open(plan, store, Events())
    job = run.take()
    assert job is not None
    [assignment] = job.works
    assert from_text(to_text(assignment)) == assignment
    asked: list[None] = []
    report = extraction.run(assignment, stop=lambda: len(asked) == 2 or asked.append(None) or False)  # type: ignore[arg-type]
    assert (report.ending, len(vectors(store))) == (Ending.STOPPED, 2)
    run.end(job, {report.trial: report})
    assert store.derived_ids("extractions") == set()
    run_inline(run)
    assert run.done
    assert len(vectors(store)) == 10


@pytest.mark.parametrize("damage", ["cut", "zeros", "gone"])
def test_a_damaged_part_is_written_again(plan_of: PlanOf, store: Store, damage: str) -> None:
    plan = plan_of(LOW)
    carry_out(plan, store)
    before, name = vectors(store), next(iter(vectors(store)))
    path = Path(store.root, "features", name)
    match damage:
        case "cut":
            path.write_bytes(before[name][:-100])
        case "zeros":  # of the same size, beside one that is gone
            path.write_bytes(bytes(len(before[name])))
            path.with_name(PARTS[2]).unlink()
        case "gone":
            path.unlink()
    events = carry_out(plan, store)[0]
    assert len(events.begun) == 1
    assert vectors(store) == before


def test_files_of_a_network_that_was_trained_anew_are_replaced(
    plan_of: PlanOf, store: Store
) -> None:
    plan = plan_of(LOW)
    carry_out(plan, store)
    old = set(vectors(store))
    [row] = [row for row in store.table("trials").to_pylist() if row["name"] == "A s0"]
    other = next(x for x in store.table("trials").to_pylist() if x["name"] == "B s0")
    weights = store.get_checkpoint(other["id"], other["checkpoint"])
    rewrite(store, row["id"], checkpoint=store.put_checkpoint(row["id"], weights))
    assert carry_out(plan, store)[0].begun == WRITTEN[:1]
    assert len(vectors(store)) == 15
    waste = {
        x.path.partition("features/")[2]: x.reason
        for x in Cleaner(store, Choice()).waste
        if "features/" in x.path
    }
    assert waste.keys() < old
    assert set(waste.values()) == {"features of weights that were replaced"}
    assert len(waste) == 5


def test_clean_drops_features_that_no_sweep_asks_for(plan_of: PlanOf, store: Store) -> None:
    carry_out(plan_of(LOW), store)
    carry_out(plan_of(LOW, "name=second", "features.low.of=[A s0]"), store)
    assert Cleaner(store, Choice()).waste == []
    carry_out(plan_of(SMALL), store)  # the first one asks for none any more
    cleaner = Cleaner(store, Choice())
    assert {item.reason for item in cleaner.waste} == {"features that no sweep asks for"}
    assert cleaner.remove(cleaner.waste) == len(PARTS) + 1
    assert [row["name"] for row in rows(store)] == ["A s0"]
    cleaner = Cleaner(store, Choice(sweep="second"))
    cleaner.remove(cleaner.waste)
    assert vectors(store) == {}
    assert store.derived_ids("extractions") == set()


def test_no_vector_is_wanted_without_a_record_that_can_be_read(
    plan_of: PlanOf, store: Store
) -> None:
    carry_out(plan_of(LOW), store)
    carry_out(plan_of(SMALL, "name=second"), store)
    store.put(store.sweep_path("small"), b"no table")
    assert "features" not in {x.path.split("/")[-3] for x in Cleaner(store, Choice()).waste}


def test_the_disk_must_hold_them(
    plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(LOW)
    size = sum(one.bytes(plan) for one in extractions_of(plan).values())
    assert size == 2 * 75 * 4 * 76
    free = type("Free", (), {"free": size})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    check_features(plan, store)
    free.free = size // 2 - 1  # type: ignore[attr-defined]
    with pytest.raises(LayerwiseError, match=r"^the features of the sweep are 0\.0 GB, and /"):
        check_features(plan, store)
    events, _ = carry_out(plan, store)
    assert [x for x in events.endings if x[1] is Ending.FAILED] == [
        (name, Ending.FAILED) for name in WRITTEN
    ]
    assert vectors(store) == {}
    message = min(store.table("extractions")["error_message"].to_pylist())
    assert message.startswith("features of A s0 for A s0: the features need 0.0 GB, and ")
    assert carry_out(plan, store)[0].begun == []
    free.free = size  # type: ignore[attr-defined]
    assert carry_out(plan, store, retry_failed=True)[0].begun == WRITTEN


def test_commands_refuse_and_report_what_cannot_be_written(
    folder: Path, layerwise: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "small.yaml").write_text(LOW)
    wrong = "small.yaml:8: features.low.layers: layer 9 is out of range: A s0 has layers 1..4"
    for command in ("check", "plan", "run"):
        done = layerwise(command, "small.yaml", "--set", "features.low.layers=9")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert done.err.endswith(wrong.partition(": ")[2] + "\n")
    free = type("Free", (), {"free": 9})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    done = layerwise("check", "small.yaml")
    assert done.code == 2
    assert done.err.startswith("layerwise: the features of the sweep are 0.0 GB, and ")
    done = layerwise("run", "small.yaml", "--inline", "--no-report")
    assert done.code == 1
    assert done.out.splitlines()[-1] == (
        "2 failed of 2 extractions (failed extractions run again with --retry-failed); "
        "why: layerwise status small.yaml"
    )
    status = layerwise("status", "small.yaml").out.splitlines()
    assert "features complete: low 0/2 (45.6 kB)" in status
    assert any(line.startswith("failed: features of A s0 for A s0: the fea") for line in status)


def test_copies_keep_their_weights_for_it(plan_of: PlanOf, store: Store) -> None:
    plan = plan_of(f"{SMALL}features: {{x: {{layers: 1, of: [A1B s0, selffer]}}}}\n")
    assert {x.name for x in plan.members if x.keep_checkpoint} == {
        *("A s0", "B s0", "A1A s0", "B1B s0", "A1B s0")
    }
    assert extracted(carry_out(plan, store)[0]) == [
        *(
            "features of A1B s0 for B s0",
            "features of A1A s0 for A s0",
            "features of B1B s0 for B s0",
        )
    ]


def test_no_checkpoint_stays_with_keep_none(plan_of: PlanOf, store: Store) -> None:
    plan = plan_of(LOW, "keep=none")
    assert extracted(carry_out(plan, store)[0]) == WRITTEN
    assert store.names("checkpoints") == []
    assert carry_out(plan, store)[0].begun == []


def test_a_file_of_weights_is_a_network_too(
    folder: Path, layerwise: Callable[..., Ended], store: Store
) -> None:
    """The same by the command, which needs no store for it."""
    torch.manual_seed(0)
    network = NetworkRef(name="conv8", options=(("conv", (2, 2)), ("fc", (4,)), ("pool", (1,))))
    save_file(dict(tensors_of(build(network, 7, (1, 12, 12)))), folder / "old.safetensors")
    (folder / "old.yaml").write_text(OLD)
    plan = make_plan(resolve(*load_sweep("old.yaml")))
    assert extracted(carry_out(plan, store)[0]) == ["features of old for few d0"]
    [row] = rows(store)
    command = ("features", "old.yaml", "old", "--layer", "2", "--pool", "maximum", "--to", "to")
    assert layerwise(*command, "--store", "none").code == 0
    assert files(folder / "to") == files(Path(store.root, row["folder"]))
    for name in files(folder / "to"):
        written = Path(store.root, row["folder"], name).read_bytes()
        assert (folder / "to" / name).read_bytes() == written
    assert carry_out(plan, store)[0].begun == []
    assert Cleaner(store, Choice()).waste == []


def test_files_of_an_object_store_are_those_of_a_folder(
    plan_of: PlanOf, store: Store, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERWISE_CACHE", str(tmp_path / "cache"))
    plan, remote = plan_of(LOW), Store(s3.new_bucket())
    carry_out(plan, store)
    carry_out(plan, remote)
    assert rows(remote) == rows(store)
    for name, data in vectors(store).items():
        assert remote.get(remote.path("features", *name.split("/"))) == data
    assert carry_out(plan, remote)[0].begun == []
