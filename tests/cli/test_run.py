"""Commands that train: run and debug."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from tests.conftest import Ended
from tests.small import files, small

Layerwise = Callable[..., Ended]


@pytest.mark.usefixtures("folder")
def test_run_twice(layerwise: Layerwise) -> None:
    run = ("run", "small.yaml", "--inline", "--no-report")
    code, first, err = layerwise(*run)
    assert (code, err) == (0, "")
    assert first.startswith("small.yaml: 6 trials, 0 complete in results\n")
    code, second, err = layerwise(*run)
    assert (code, err) == (0, "")
    assert second.startswith("small.yaml: 6 trials, 6 complete in results\n")
    assert first.splitlines()[1:] == second.splitlines()[1:]


@pytest.mark.usefixtures("folder")
def test_run_a_part(layerwise: Layerwise) -> None:
    only = ("--only", "name = 'A1A s0'")
    code, out, _ = layerwise("run", "small.yaml", "--inline", "--no-report", *only)
    assert code == 0
    assert out.startswith("small.yaml: 2 trials, 0 complete in results\n")


def test_a_changed_sweep_is_another_sweep(
    full: Path, layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sweep, its table and its report stay; both are found again."""

    def write_report(_store: Store, sweep: str, folder: Path, *_: object, **__: object) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(sweep)
        return folder / "index.html"

    monkeypatch.setattr("orchestrator.report.page.write_report", write_report)
    assert layerwise("report", "small").code == 0
    sql = "SELECT * FROM effects WHERE sweep = 'small' ORDER BY ALL"
    page, effects = full / "results/reports/small/index.html", layerwise("query", sql, "--csv")
    written = page.read_bytes()
    change = ("--set", "recipe.steps=2")
    code, out, _ = layerwise("run", "small.yaml", *change, "--inline", "--only", "n = 0")
    assert code == 0
    assert out.startswith("small+recipe.steps=2: 2 trials, 0 complete in results\n")
    assert "results/reports/small+recipe.steps=2/index.html" in out
    assert page.read_bytes() == written
    assert layerwise("query", sql, "--csv").out == effects.out
    by_change = layerwise("status", "small.yaml", *change, "--json")
    assert json.loads(by_change.out)["complete"] == 2
    assert layerwise("status", "small+recipe.steps=2", "--json") == by_change
    assert layerwise("plan", "small+recipe.steps=2").code == 0
    assert layerwise("debug", "small+recipe.steps=2", "A s0").code == 0
    by_name = layerwise("report", "small+recipe.steps=2")
    assert layerwise("report", "small.yaml", *change) == by_name
    code, _, err = layerwise("status", "small+recipe.step=2")
    assert (code, "did you mean 'small+recipe.steps=2'?" in err) == (2, True)


def test_an_edited_file_under_the_same_name_is_refused(full: Path, layerwise: Layerwise) -> None:
    file, before = full / "small.yaml", files(full)
    file.write_text(file.read_text().replace("steps: 3", "steps: 2"))
    code, _, err = layerwise("run", "small.yaml", "--inline")
    assert (code, err.count("\n")) == (2, 1)
    assert "recipe.steps was 3 and is 2" in err
    assert files(full) == before
    assert layerwise("plan", "small.yaml").code == 0


@pytest.mark.parametrize(("changes", "recorded"), [(["reference=paper"], "paper"), ([], "")])
def test_run_records_the_reference(
    full: Path, changes: list[str], recorded: str, layerwise: Layerwise
) -> None:
    options = [option for change in changes for option in ("--set", change)]
    assert layerwise("run", "small.yaml", *options, "--inline", "--no-report").code == 0
    assert Store(full / "results").sweep_record("small").reference == recorded


@pytest.mark.parametrize("command", ["check", "run"])
def test_data_that_is_missing_is_said_once_and_no_trial_fails(
    command: str, folder: Path, layerwise: Layerwise
) -> None:
    """The sweep can be planned. Once the data is there, the same command trains it."""
    small = folder / "small.yaml"
    dataset = f"dataset: {{name: mnist, root: {folder}/nowhere}}"
    small.write_text(re.sub("dataset:.*", dataset, small.read_text()))
    assert layerwise("plan", "small.yaml").code == 0
    ended = layerwise(command, "small.yaml")
    assert ended.code == 2
    [line] = ended.err.splitlines()
    assert re.match(r"small.yaml:\d+: dataset: mnist is missing or damaged at .*/nowhere: ", line)
    assert Store("results").outcomes() == {}


# debug ------------------------------------------------------------------------------------------


def curve(id: str, name: str) -> str:
    """The output of debug for one training, without its measurements."""
    steps = "".join(
        f"  step      {step}  rate #  train loss #  validation loss #  top-1 #\n"
        for step in (1, 2, 3)
    )
    return f"trial {id} ({name}): 3 steps\n{steps}  test top-1 # in # s\n"


def without_numbers(text: str) -> str:
    return re.sub(r"\d+\.\d+", "#", text)


def test_debug_one_trial(full: Path, layerwise: Layerwise) -> None:
    before = files(full)
    trial = small(full).members[3]
    for text in ("B1A s0", trial.id, trial.id[:5]):
        code, out, err = layerwise("debug", "small.yaml", text)
        assert (code, err) == (0, "")
        assert without_numbers(out) == curve(trial.id, "B1A s0")
    row = Store("results").row(trial.id)
    assert row is not None
    assert f"test top-1 {row['top1']:.4f}" in out
    assert files(full) == before


@pytest.mark.parametrize("harm", ["nothing", "no checkpoint", "a damaged checkpoint"])
def test_debug_trains_the_base_that_is_not_there(
    harm: str, folder: Path, finished: Path, layerwise: Layerwise
) -> None:
    base, trial = (small(folder).members[number] for number in (1, 3))
    if harm != "nothing":
        shutil.copytree(finished / "results", "results")
        [weights] = (folder / "results" / "checkpoints" / base.id).iterdir()
        if harm == "no checkpoint":
            weights.unlink()
        else:
            weights.write_bytes(b"damaged")
    before = files(folder)
    code, out, err = layerwise("debug", "small.yaml", "B1A s0")
    assert (code, err) == (0, "")
    assert without_numbers(out) == (
        "its base B s0 is not in the store and is trained first\n"
        + curve(base.id, "B s0")
        + curve(trial.id, "B1A s0")
    )
    assert files(folder) == before


def test_debug_that_records(folder: Path, layerwise: Layerwise) -> None:
    code, _, _ = layerwise("debug", "small.yaml", "B1A s0", "--record")
    assert code == 0
    trials = {row["name"]: row["outcome"] for row in Store("results").table("trials").to_pylist()}
    assert trials == {"B s0": "complete", "B1A s0": "complete"}
    assert Store("results").table("curves").num_rows == 6
    assert len(files(folder / "results" / "checkpoints")) == 1


@pytest.mark.usefixtures("folder")
def test_debug_of_nothing(layerwise: Layerwise) -> None:
    assert layerwise("debug", "small.yaml", "A9B s0") == (
        2,
        "",
        "layerwise: no trial 'A9B s0' in sweep small; expected an id or a name: "
        "'A s0', 'B s0', 'A1A s0', 'B1A s0', 'B1B s0', 'A1B s0'\n",
    )
