"""Files of weights as sources, from the sweep to the report's sentences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load, save_file

from orchestrator.errors import SweepError
from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.plan.filter import find
from orchestrator.plan.plan import Plan
from orchestrator.report.plan_status import plan_summary
from orchestrator.report.progress import RunProgress
from orchestrator.report.sentences import sentences_of
from orchestrator.stats.statistics import Statistics
from orchestrator.store.cleanup import of_sweep, orphans
from orchestrator.store.store import Store
from orchestrator.store.survey import Survey
from tests.conftest import Ended
from tests.s3_server import S3Server
from trainers.config import NetworkRef
from trainers.networks import build, tensors_of

PlanOf = Callable[..., Plan]

SWEEP = """\
name: kept
tasks:
  small:
    dataset: {name: digits, canvas: 12, train: 20, renderings: 1, validation: 4, test: 8}
    images_per_class: 5
    draws: [0, 1]
weights:
  old: {file: FILE, mean: [0.2], deviation: [0.4]}
network: {conv: [4, 4], pool: [1], fc: [8]}
treatments: [base, selffer, transfer, transfer+, random]
layers: [1, 3]
recipe: {rate: 0.03, steps: 3, batch: 16}
"""
CONV = NetworkRef(name="conv8", options=(("conv", (4, 4)), ("fc", (8,)), ("pool", (1,))))


@pytest.fixture
def sweep(tmp_path: Path) -> str:
    torch.manual_seed(0)
    path = tmp_path / "old.safetensors"
    save_file(dict(tensors_of(build(CONV, 7, (1, 12, 12)))), path)
    return SWEEP.replace("FILE", str(path))


def run(plan: Plan, store: Store) -> None:
    run_inline(Run.open(plan, store, RunProgress(Console(quiet=True))))


def test_a_file_is_a_parent_without_a_base_and_without_selffer(plan_of: PlanOf, sweep: str) -> None:
    plan = plan_of(sweep)
    names = [trial.name for trial in plan.members if trial.split == "d0"]
    assert names == [
        "small d0 k5",
        *("old-1-small d0 k5", "old-3-small d0 k5", "old-1-small+ d0 k5", "old-3-small+ d0 k5"),
        *("R-1-small d0 k5", "R-3-small d0 k5"),
    ]
    (id,) = plan.weights
    transfer = find(plan, "old-3-small d0 k5")
    assert (transfer.parent, transfer.source, transfer.division) == (
        id,
        "old",
        "weights old to small",
    )
    assert transfer.training.source is None
    forms = {trial.training.target.form for trial in plan.members}
    assert [(form.mean, form.deviation) for form in forms] == [((0.2,), (0.4,))]


def test_the_id_is_that_of_the_tensors(plan_of: PlanOf, sweep: str, tmp_path: Path) -> None:
    first = plan_of(sweep)
    tensors = load((tmp_path / "old.safetensors").read_bytes())
    torch.save({"state_dict": tensors}, tmp_path / "moved.pt")
    moved = plan_of(sweep.replace("old.safetensors", "moved.pt"))
    assert set(moved.trials) == set(first.trials)
    tensors["layer1.conv.bias"][0] += 1
    torch.save(tensors, tmp_path / "moved.pt")
    other = plan_of(sweep.replace("old.safetensors", "moved.pt"))
    assert {t.name for i, t in other.trials.items() if i in first.trials} == {
        t.name for t in first.trials.values() if t.parent is None
    }


def test_a_file_is_copied_once_and_its_layers_are_frozen(
    plan_of: PlanOf, sweep: str, tmp_path: Path
) -> None:
    plan, store = plan_of(sweep), Store(tmp_path / "store")
    run(plan, store)
    (id,) = plan.weights
    (name,) = store.names("checkpoints", id)
    rows = {row["name"]: row for row in store.table("trials").to_pylist()}
    assert len(rows) == 14  # the file itself has no row
    frozen = rows["old-3-small d0 k5"]
    assert (frozen["frozen_proven"], frozen["source"], frozen["parent"]) == (True, "old", id)
    assert frozen["parent_checkpoint"].startswith(name.removesuffix(".safetensors"))
    statistics = Statistics.of_sweep(store, "kept")
    effects = [x for x in statistics.effects.to_pylist() if x["at_chance"] == "included"]
    assert {x["effect"] for x in effects} == {"transfer", "gain", "random", "recovery"}
    text = " ".join(sentences_of(effects, statistics.levels.to_pylist(), []))
    assert "The source is a file of weights. So there is no BnB" in text
    assert "first n layers copied from weights old" in text
    summary = plan_summary(plan, store)
    assert summary["treatments"]["transfer"]["needs"] == "file of weights"
    assert summary["design"][0].startswith("old is a file of weights: there is no BnB")

    # Nothing is waste while a sweep uses it. A copy that is gone is made again for open trials.
    survey = Survey.of(store)
    assert [w for w in orphans(survey) if w.reason.startswith("weights")] == []
    assert any(f"checkpoints/{id}/" in waste.path for waste in of_sweep(survey, "kept"))
    store.drop_checkpoints(id)
    run(plan, store)
    assert store.names("checkpoints", id) == []
    run(plan_of(sweep, "layers=[1, 2, 3]"), store)
    assert store.names("checkpoints", id) == [name]


def test_a_file_in_an_object_store(
    plan_of: PlanOf, sweep: str, tmp_path: Path, s3: S3Server
) -> None:
    remote = Store(s3.new_bucket())
    data = (tmp_path / "old.safetensors").read_bytes()
    remote.put(remote.path("old.safetensors"), data)
    uri = remote.root.replace("?", "/old.safetensors?")
    moved = plan_of(sweep.replace(str(tmp_path / "old.safetensors"), f"'{uri}'"))
    assert set(moved.trials) == set(plan_of(sweep).trials)


MISTAKES: list[tuple[str, str]] = [
    ("network.fc=[9]", "layer3.fc.bias is (8,), the network wants (9,)"),
    ("network.conv=[4, 4, 4]", "missing: layer3.conv.bias, layer3.conv.weight"),
    ("weights.old.file=none.pt", "cannot read the weights none.pt: No such file or directory"),
    ("weights.old.file=$HOME/none.pt", f"weights {Path.home()}/none.pt: No such file or directory"),
    (
        "weights.old.file=$NOWHERE",
        "weights.old.file: weights $NOWHERE: the environment variable NOWHERE is not set here",
    ),
    ("weights.old.file=torchvision", "torchvision has weights of its own networks only"),
    ("weights.old.fil=x", "unknown key 'fil'; did you mean 'file'?"),
    ("weights.old.deviation=[]", "weights.old.deviation: expected one per mean"),
    ("weights.old.mean=[0.1, 0.1, 0.1]", "expected one per mean"),
    ("recipe.normalise=source", "old is a file without images: declare its mean and deviation"),
    ("form={mean: [0.1], deviation: [1.0]}", "old declares its mean"),
    ("weights.small=x.pt", "small is the name of a task or a half"),
    ("targets=[old]", "no task 'old'; known: small"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[x for x, _ in MISTAKES])
def test_mistakes_in_weights(plan_of: PlanOf, sweep: str, change: str, message: str) -> None:
    with pytest.raises(SweepError) as error:
        plan_of(sweep, change)
    lines = str(error.value).splitlines()
    assert any(message in line for line in lines), lines


@pytest.mark.usefixtures("folder")
def test_the_weights_of_a_trial_are_exported_and_used(
    layerwise: Callable[..., Ended], sweep: str, tmp_path: Path, plan_of: PlanOf
) -> None:
    Path("kept.yaml").write_text(sweep)
    debugged = layerwise("debug", "kept.yaml", "old-1-small d0 k5", "--record")
    assert debugged.code == 0, debugged
    only = ("--only", "name = 'small d0 k5'")
    assert layerwise("run", "kept.yaml", *only, "--inline").code == 0
    done = layerwise("export", "weights", "small d0 k5", "new.safetensors")
    assert done.out == "wrote the weights of small d0 k5 to new.safetensors\n", done
    again = layerwise("export", "weights", "small d0 k5", "new.safetensors")
    assert (again.code, "new.safetensors exists" in again.err) == (2, True)
    unknown = layerwise("export", "weights", "nothing", "other.safetensors")
    assert "no complete trial 'nothing'" in unknown.err
    plan = plan_of(sweep.replace(str(tmp_path / "old.safetensors"), "new.safetensors"))
    assert plan.weights.keys() != plan_of(sweep).weights.keys()
