"""The command line: whole outputs, exit codes, and what it does not load."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from searches import SEARCHED

from orchestrator import experiment, sweep_file
from orchestrator.inline import run_inline
from orchestrator.plan import Plan, plan
from orchestrator.progress import RunProgress
from orchestrator.run import Run
from orchestrator.store import Store
from orchestrator.worker import driver_row
from trainers.config import training_macs

Layerwise = Callable[..., tuple[int, str, str]]

SMALL = """\
name: small
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
treatments: [base, selffer, transfer]
layers: [1]
recipe: {rate: 0.03, steps: 3, batch: 8}
"""
COMMANDS = (
    "init",
    "check",
    "plan",
    "splits",
    "run",
    "search",
    "status",
    "query",
    "reference",
    "report",
    "debug",
    "pack",
    "clean",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `small.yaml` and the store of its complete run; to be copied, not changed."""
    from rich.console import Console

    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(SMALL)
    planned = small(folder)
    run_inline(
        Run(planned, Store(folder / "results"), RunProgress(Console(quiet=True), planned.flops))
    )
    return folder


def small(folder: Path) -> Plan:
    return plan(experiment.examine(*sweep_file.load(str(folder / "small.yaml"))))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: `small.yaml` and no store."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def full(folder: Path, finished: Path) -> Path:
    """The working folder, with the store of a complete run."""
    shutil.copytree(finished / "results", folder / "results")
    return folder


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# Help -------------------------------------------------------------------------------------------


def test_help(layerwise: Layerwise) -> None:
    code, out, err = layerwise("--help")
    assert (code, err) == (0, "")
    listed = re.findall(r"^  (\w+) {2,}\S", out, re.MULTILINE)
    assert listed == list(COMMANDS)
    assert "How transferable are the features of each layer of a network?" in out
    assert "Start with: layerwise run digits" in out
    assert layerwise("-h")[1] == out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command: str, layerwise: Layerwise) -> None:
    code, out, err = layerwise(command, "--help")
    assert (code, err) == (0, "")
    assert re.search(rf"^  Examples?: layerwise {command} ", out, re.MULTILINE)


def test_no_command_shows_the_help(layerwise: Layerwise) -> None:
    code, out, err = layerwise()
    assert code == 2
    assert "Start with: layerwise run digits" in out + err


def test_help_loads_no_heavy_library() -> None:
    """What takes long to import is imported by the commands that need it."""
    code = (
        "import sys\n"
        "from orchestrator.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "torchvision", "ray", "duckdb", "pydantic", "pyarrow", "numpy", "altair"}
    assert "typer" in found.stderr.split()
    assert not heavy & set(found.stderr.split())


def test_as_a_module() -> None:
    found = subprocess.run(
        [sys.executable, "-W", "error", "-m", "orchestrator", "init", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert found.stderr == ""
    assert found.stdout.startswith("Usage: python -m orchestrator init [OPTIONS]")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "No such command 'nothing'."),
        (["plan"], "Missing argument 'SWEEP'."),
        (["plan", "small.yaml", "--fast"], "No such option: --fast"),
        (["run", "small.yaml", "--cpus", "0"], "Invalid value for '--cpus'"),
    ],
)
def test_wrong_arguments(arguments: list[str], said: str, layerwise: Layerwise) -> None:
    code, out, err = layerwise(*arguments)
    assert (code, out) == (2, "")
    assert said in err


# init, check ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_init(layerwise: Layerwise) -> None:
    assert layerwise("init", "mine.yaml") == (
        0,
        "wrote mine.yaml; try: layerwise check mine.yaml\n",
        "",
    )
    text = (resources.files("sweeps") / "template.yaml").read_text()
    assert Path("mine.yaml").read_text() == text
    assert layerwise("init", "mine.yaml") == (
        2,
        "",
        "layerwise: mine.yaml exists; give another name\n",
    )
    assert layerwise("init", "no/mine.yaml") == (
        2,
        "",
        "layerwise: cannot write no/mine.yaml: No such file or directory\n",
    )
    assert layerwise("init")[0] == 0
    assert Path("sweep.yaml").read_text() == text


def test_check(folder: Path, layerwise: Layerwise) -> None:
    before = files(folder)
    assert layerwise("check", "small.yaml") == (
        0,
        """\
dataset digits: 10 classes, images 1×12×12, 100 for training, 20 for validation, 30 for test; \
fingerprint 192c099834f8e7cd
┏━━━━━━━┳━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━┓
┃ layer ┃ output ┃ parameters ┃ multiply-adds ┃ cut after it ┃
┡━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━┩
│ 1     │ 2×6×6  │ 20         │ 2,592         │ n = 1        │
│ 2     │ 18     │ 38         │ 1,296         │              │
│ 3     │ 4      │ 76         │ 72            │              │
│ 4     │ 5      │ 25         │ 20            │              │
└───────┴────────┴────────────┴───────────────┴──────────────┘
4 trainings of 2 steps went well: base, selffer, transfer
""",
        "",
    )
    assert files(folder) == before


def test_check_says_what_went_wrong(
    folder: Path, layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm in training mode needs more than one value a channel: only a step shows it."""
    (folder / "single.py").write_text(
        "from torch import nn\n\n\n"
        "def build(*, classes, shape):\n"
        "    first = nn.Sequential(nn.Flatten(), nn.Linear(144, 4), nn.BatchNorm1d(4))\n"
        "    return [first, nn.Linear(4, classes)]\n"
    )
    monkeypatch.syspath_prepend(folder)
    code, out, err = layerwise(
        "check", "small.yaml", "--set", "network=single:build", "--set", "recipe.batch=1"
    )
    assert code == 2
    assert "went well" not in out
    for name in ("A s0", "B s0"):
        assert f"{name}: its worker died 4 times" in err
    assert "Expected more than 1 value per channel when training" in err


# plan, status -----------------------------------------------------------------------------------

NOTHING_YET = """\
┏━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━━━━━━━━┓
┃ treatment ┃ needs                  ┃ trials ┃ complete ┃ FLOP open ┃ slot time open ┃
┡━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━━━━━━┩
│ base      │                        │      2 │        0 │    8.97 G │                │
│ selffer   │ base of the target     │      2 │        0 │    5.24 G │                │
│ transfer  │ base of the other half │      2 │        0 │    5.24 G │                │
│ all       │                        │      6 │        0 │    19.5 G │                │
└───────────┴────────────────────────┴────────┴──────────┴───────────┴────────────────┘
no rates in the store yet: times appear once some trials are complete
checkpoints that stay (keep: bases): 0.0 MB
"""
ALL_DONE = """\
┏━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━━━━━━━━┓
┃ treatment ┃ needs                  ┃ trials ┃ complete ┃ FLOP open ┃ slot time open ┃
┡━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━━━━━━┩
│ base      │                        │      2 │        2 │         0 │           0:00 │
│ selffer   │ base of the target     │      2 │        2 │         0 │           0:00 │
│ transfer  │ base of the other half │      2 │        2 │         0 │           0:00 │
│ all       │                        │      6 │        6 │         0 │           0:00 │
└───────────┴────────────────────────┴────────┴──────────┴───────────┴────────────────┘
checkpoints that stay (keep: bases): 0.0 MB
"""


def test_plan_of_what_was_never_run(folder: Path, layerwise: Layerwise) -> None:
    steps = "recipe.steps=30000"
    assert layerwise("plan", "small.yaml", "--set", steps) == (0, NOTHING_YET, "")
    assert files(folder) == ["small.yaml"]


@pytest.mark.usefixtures("full")
def test_plan_of_what_is_complete(layerwise: Layerwise) -> None:
    assert layerwise("plan", "small.yaml") == (0, ALL_DONE, "")


@pytest.mark.usefixtures("folder")
def test_plan_for_programs(layerwise: Layerwise) -> None:
    code, out, err = layerwise("plan", "small.yaml", "--json")
    assert (code, err) == (0, "")
    macs = (9 * 2 * 144, 9 * 2 * 2 * 36, 18 * 4, 4 * 5)
    whole, frozen = (training_macs(macs, n) for n in (0, 1))
    images = 2 * 3 * 8  # two trials, three steps of eight
    kind = {"trials": 2, "complete": 0, "seconds": None}
    found = json.loads(out)
    listed = {trial["name"]: trial for trial in found.pop("list")}
    assert list(listed) == ["A s0", "B s0", "A1A s0", "B1A s0", "B1B s0", "A1B s0"]
    assert {trial["state"] for trial in listed.values()} == {"missing"}
    assert listed["A1B s0"]["parent"] == listed["A s0"]["id"]
    assert found == {
        "sweep": "small",
        "trials": 6,
        "complete": 0,
        "treatments": {
            "base": kind | {"needs": None, "flops": 2 * whole * images},
            "selffer": kind | {"needs": "base of the target", "flops": 2 * frozen * images},
            "transfer": kind | {"needs": "base of the other half", "flops": 2 * frozen * images},
        },
        "flops": 2 * (whole + 2 * frozen) * images,
        "seconds": None,
        "studies": [],
        "keep": "bases",
        "checkpoint_bytes": 2 * 4 * (20 + 38 + 76 + 25),
        "device": None,
        "detectable": None,
        "published": None,
        "unpublished": None,
    }


@pytest.mark.usefixtures("full")
def test_plan_of_a_part(layerwise: Layerwise) -> None:
    """Two bases and two new trials, whose time is known from those that were measured."""
    only = "treatment=transfer and n=2"
    code, out, _ = layerwise(
        "plan", "small.yaml", "--set", "layers=[1, 2]", "--only", only, "--json"
    )
    found = json.loads(out)
    assert code == 0
    assert (found["trials"], found["complete"]) == (4, 2)
    assert list(found["treatments"]) == ["base", "transfer"]
    assert found["seconds"] == found["treatments"]["transfer"]["seconds"] > 0
    assert found["checkpoint_bytes"] == 0


@pytest.mark.usefixtures("folder")
def test_plan_of_nothing(layerwise: Layerwise) -> None:
    assert layerwise("plan", "small.yaml", "--only", "n=7") == (
        2,
        "",
        "layerwise: --only 'n=7': no trial of sweep small is like that\n",
    )


# splits -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_splits(layerwise: Layerwise) -> None:
    named = "splits.named={low: {A: [0, 1, 2], B: [9, 8, 7, 6, 5, 4, 3]}}"
    assert layerwise("splits", "small.yaml", "--set", named) == (
        0,
        """\
┏━━━━━━━┳━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓
┃ split ┃ half ┃ classes ┃ hash             ┃ class indices ┃
┡━━━━━━━╇━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩
│ s0    │ A    │ 5       │ bb5ccad514f3c6e3 │ 0 1 3 7 8     │
│ s0    │ B    │ 5       │ 2fb013239b80b654 │ 2 4 5 6 9     │
│ low   │ A    │ 3       │ 434026bd98ff2d8a │ 0 1 2         │
│ low   │ B    │ 7       │ a41cfc003bb7e714 │ 3 4 5 6 7 8 9 │
└───────┴──────┴─────────┴──────────────────┴───────────────┘
""",
        "",
    )


MANY = """\
import numpy as np


def thousand():
    images, labels = np.zeros((1000, 8, 8), np.uint8), np.arange(1000)
    return {name: (images + i, labels) for i, name in enumerate(("train", "validation", "test"))}
"""


def test_the_papers_splits_for_programs(
    folder: Path, layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds 0 to 3 on 1000 classes: numpy's old generator, seeded with a list of one number."""
    (folder / "many.py").write_text(MANY)
    monkeypatch.syspath_prepend(folder)
    changes = ["dataset=many:thousand", "network=conv8", "splits.random=[0, 1, 2, 3]"]
    code, out, err = layerwise(
        "splits", "small.yaml", "--json", *(word for c in changes for word in ("--set", c))
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert list(found) == ["s0", "s1", "s2", "s3"]
    for name, split in found.items():
        assert list(split) == ["A", "B", "hash", "hashes"]
        assert sorted(split["A"] + split["B"]) == list(range(1000))
        assert [split[half] for half in "AB"] == [sorted(split[half]) for half in "AB"]
        assert len(split["A"]) == 500
        chosen = np.random.RandomState([int(name[1:])]).permutation(1000)[:500]
        assert split["A"] == sorted(chosen.tolist())
    assert {name: (split["A"][:6], split["B"][:4]) for name, split in found.items()} == {
        "s0": ([0, 1, 2, 5, 9, 10], [3, 4, 6, 7]),
        "s1": ([1, 5, 7, 9, 15, 16], [0, 2, 3, 4]),
        "s2": ([0, 2, 4, 5, 8, 9], [1, 3, 6, 7]),
        "s3": ([0, 5, 6, 7, 8, 10], [1, 2, 3, 4]),
    }
    assert {name: split["hashes"] for name, split in found.items()} == {
        "s0": {"A": "f6737fd13a5c91b8", "B": "42afa15a18094ddb"},
        "s1": {"A": "940ba0283d524aef", "B": "cace092b5c586a43"},
        "s2": {"A": "1d68b5c605847d5e", "B": "4949193db51ebe7e"},
        "s3": {"A": "6e8928c2259aa5e3", "B": "162de325daed2781"},
    }
    compact = json.dumps(found["s0"]["A"], separators=(",", ":"))
    assert hashlib.sha256(compact.encode()).hexdigest()[:16] == found["s0"]["hashes"]["A"]
    assert found["s0"]["hash"] == "3f7d387279cb2d92"


def spoil(folder: Path) -> tuple[str, str]:
    """Make one trial lost and one skipped, and one missing; the ids of the first two."""
    store, planned = Store(folder / "results"), small(folder)
    by_name = {trial.name: trial for trial in planned.members}
    lost, skipped, missing = (by_name[name] for name in ("B s0", "B1A s0", "A1B s0"))
    for trial in (lost, skipped, missing):
        store.delete(store.row_path("complete", trial.id))
    store.write_row(driver_row(lost, "lost", "its worker died 4 times; the last time: signal 9"))
    store.write_row(driver_row(skipped, "skipped", f"its parent {lost.id} lost: signal 9"))
    return lost.id, skipped.id


def test_status(full: Path, layerwise: Layerwise) -> None:
    lost, skipped = spoil(full)
    assert layerwise("status", "small.yaml") == (
        0,
        f"""\
┏━━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━┳━━━━━━┳━━━━━━━━━┳━━━━━━━━━┓
┃ treatment ┃ complete ┃ failed ┃ lost ┃ skipped ┃ missing ┃
┡━━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━╇━━━━━━╇━━━━━━━━━╇━━━━━━━━━┩
│ base      │        1 │      0 │    1 │       0 │       0 │
│ selffer   │        2 │      0 │    0 │       0 │       0 │
│ transfer  │        0 │      0 │    0 │       1 │       1 │
│ all       │        3 │      0 │    1 │       1 │       1 │
└───────────┴──────────┴────────┴──────┴─────────┴─────────┘
{lost[:8]} B s0: lost: its worker died 4 times; the last time: signal 9
{skipped[:8]} B1A s0: skipped: its parent {lost} lost: signal 9
""",
        "",
    )


def test_status_for_programs(full: Path, layerwise: Layerwise) -> None:
    lost, skipped = spoil(full)
    code, out, err = layerwise("status", "small.yaml", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "sweep": "small",
        "trials": 6,
        "complete": 3,
        "failed": 0,
        "lost": 1,
        "skipped": 1,
        "missing": 1,
        "treatments": {
            "base": {"complete": 1, "lost": 1},
            "selffer": {"complete": 2},
            "transfer": {"skipped": 1, "missing": 1},
        },
        "studies": [],
        "reasons": [
            {
                "id": lost,
                "name": "B s0",
                "outcome": "lost",
                "error_type": "lost",
                "error_step": None,
                "error_message": "its worker died 4 times; the last time: signal 9",
            },
            {
                "id": skipped,
                "name": "B1A s0",
                "outcome": "skipped",
                "error_type": "skipped",
                "error_step": None,
                "error_message": f"its parent {lost} lost: signal 9",
            },
        ],
    }


# run --------------------------------------------------------------------------------------------


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
    only = ("--only", "name='A1A s0'")
    code, out, _ = layerwise("run", "small.yaml", "--inline", "--no-report", *only)
    assert code == 0
    assert out.startswith("small.yaml: 2 trials, 0 complete in results\n")


def test_a_store_that_is_a_file(folder: Path, layerwise: Layerwise) -> None:
    for command in ("plan", "status", "run"):
        assert layerwise(command, "small.yaml", "--store", "small.yaml") == (
            2,
            "",
            f"layerwise: store {folder}/small.yaml is a file; expected a folder\n",
        )


@pytest.mark.parametrize("command", [["query", "SELECT 1"], ["report", "small"], ["clean"]])
@pytest.mark.usefixtures("folder")
def test_no_store(command: list[str], layerwise: Layerwise) -> None:
    assert layerwise(*command) == (
        2,
        "",
        "layerwise: no store at results; `layerwise run` makes one, --store names another\n",
    )


# debug ------------------------------------------------------------------------------------------


def curve(id: str, name: str) -> str:
    """What debug prints of one training, its measurements left out."""
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


# clean ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("full")
def test_clean_where_nothing_may_go(layerwise: Layerwise) -> None:
    assert layerwise("clean") == (0, "0 files, 0.0 MB\n", "")


def test_clean_orphans(full: Path, layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch) -> None:
    """Superseded attempts, weights and snapshots that no row names, half-written files."""
    store, id = Store("results"), small(full).members[0].id
    kept = files(full)
    store.put(store.path("curves", f"{id}-0000.parquet"), b"x")
    store.put(store.path("classes", f"{id}-0000.parquet"), b"x")
    store.put(store.path("checkpoints", id, "0000.safetensors"), b"x")
    store.put(store.path("progress", id, "0000000001-0000-0000.safetensors"), b"x")
    Path("results/trials/complete/.half.parquet.00.tmp").write_bytes(b"half")
    root = full / "results"
    listed = (
        f"{root}/curves/{id}-0000.parquet  (attempt that no row names)\n"
        f"{root}/classes/{id}-0000.parquet  (attempt that no row names)\n"
        f"{root}/checkpoints/{id}/0000.safetensors  (weights that no row names)\n"
        f"{root}/progress/{id}/0000000001-0000-0000.safetensors  (snapshot of a complete trial)\n"
        f"{root}/trials/complete/.half.parquet.00.tmp  (half-written file)\n"
        "5 files, 0.0 MB\n"
    )
    for answer, end in (("n\n", (0, "")), ("", (1, "Aborted!\n"))):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        code, out, err = layerwise("clean")
        assert (code, err) == end
        assert out.rstrip() == f"{listed}remove them? [y/N]:"
    assert len(files(full)) == len(kept) + 5
    assert layerwise("clean", "--yes") == (0, f"{listed}removed 5 files\n", "")
    assert files(full) == kept


def test_clean_failed_trials(full: Path, layerwise: Layerwise) -> None:
    lost, skipped = spoil(full)
    code, out, _ = layerwise("clean", "--failed", "--yes")
    assert code == 0
    reasons = re.findall(r"/(trials/\w+/\w+)\.parquet  \((.*)\)", out)
    assert reasons == [
        (f"trials/lost/{lost}", "failed, lost or skipped"),
        (f"trials/skipped/{skipped}", "failed, lost or skipped"),
    ]
    outcomes = Store("results").outcomes()
    assert sorted(outcomes.values()) == ["complete"] * 3
    assert {Path(name).name.split("-")[0] for name in files(full / "results" / "curves")} == set(
        outcomes
    )


def test_clean_a_sweep(full: Path, layerwise: Layerwise) -> None:
    """What another sweep has as well stays."""
    other = ("--set", "name=other", "--set", "treatments=[base]")
    assert layerwise("run", "small.yaml", "--inline", "--no-report", *other)[0] == 0
    code, out, _ = layerwise("clean", "--sweep", "small", "--yes")
    assert code == 0
    assert out.endswith("removed 13 files\n")
    store = Store("results")
    bases = [trial.id for trial in small(full).members[:2]]
    assert sorted(store.outcomes()) == sorted(bases)
    assert store.names("checkpoints") == sorted(bases)
    assert store.names("sweeps") == ["other.parquet"]
    assert layerwise("clean", "--sweep", "small", "--yes") == (
        2,
        "",
        f"layerwise: no sweep 'small' in {full}/results; there: other\n",
    )


# Data -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "run"])
def test_data_that_is_missing_is_said_once_and_no_trial_fails(
    command: str, folder: Path, layerwise: Layerwise
) -> None:
    """Its sweep can be planned; once the data is there, the same command trains it."""
    small = folder / "small.yaml"
    dataset = f"dataset: {{name: mnist, root: {folder}/nowhere}}"
    small.write_text(re.sub("dataset:.*", dataset, small.read_text()))
    assert layerwise("plan", "small.yaml").code == 0
    ended = layerwise(command, "small.yaml")
    assert ended.code == 2
    [line] = ended.err.splitlines()
    assert re.match(r"small.yaml:\d+: dataset: mnist is missing or damaged at .*/nowhere: ", line)
    assert not list(folder.glob("results/trials/*/*"))


# Searches ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A sweep with a search of two trials, and a store; the command line's arguments."""
    folder = tmp_path_factory.mktemp("searched")
    short = SEARCHED.replace("trials: 5", "trials: 2").replace("base_long, ", "")
    (folder / "searched.yaml").write_text(short)
    return [str(folder / "searched.yaml"), "--store", str(folder / "store")]


def test_search_shows_what_it_found_and_exports_it(
    searched: list[str], tmp_path: Path, layerwise: Layerwise
) -> None:
    database = tmp_path / "study.db"
    code, out, err = layerwise("search", *searched, "--inline", "--export", str(database))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "search for fine-tuned trials: 2 trials of 2 networks on s1000 (tpe, median): 2 missing; "
        "little to go"
    )
    assert "0 (the sweep's own)" in out
    assert "family cosine, copied_rate 0.1, floor 0, restarts 0" in out
    assert lines[-1] == f"wrote {database}; look at it with: optuna-dashboard sqlite:///{database}"
    assert database.stat().st_size > 10_000
    code, _, err = layerwise("search", *searched, "--inline", "--export", str(database))
    assert (code, err) == (2, f"layerwise: {database} exists; give another name\n")


def test_status_and_plan_say_how_far_a_search_is(searched: list[str], layerwise: Layerwise) -> None:
    layerwise("search", *searched, "--inline")
    for name in ("plan", "status"):
        code, out, err = layerwise(name, *searched)
        assert (code, err) == (0, "")
        assert (
            "search for fine-tuned trials: 2 trials of 2 networks on s1000 (tpe, median): " in out
        )
        assert "2 complete; best validation top-1 " in out
        [study] = json.loads(layerwise(name, *searched, "--json")[1])["studies"]
        assert (study["role"], study["complete"], study["missing"]) == ("fine_tune", 2, 0)
        assert study["best"] >= study["own"]


def test_debug_takes_the_schedule_that_was_chosen(
    searched: list[str], tmp_path: Path, layerwise: Layerwise
) -> None:
    code, _, err = layerwise("debug", searched[0], "B1A+ s0", "--store", str(tmp_path / "none"))
    assert (code, err) == (
        2,
        "layerwise: the schedule of B1A+ s0 is searched, and the search has not chosen one; "
        f"run it with: layerwise search {searched[0]}\n",
    )
    layerwise("search", *searched, "--inline")
    code, out, _ = layerwise("debug", searched[0], "B1A+ s0", *searched[1:])
    assert code == 0
    assert "test top-1" in out


def test_search_of_a_sweep_without_one(layerwise: Layerwise) -> None:
    code, _, err = layerwise("search", "digits")
    assert (code, err) == (
        2,
        "layerwise: digits searches nothing; fine_tune: {search: {}} would\n",
    )


def test_clean_a_sweep_with_a_search(tmp_path: Path, layerwise: Layerwise) -> None:
    """What another sweep searched with the same rows stays, until that goes, too."""
    sweep, store = str(tmp_path / "searched.yaml"), tmp_path / "store"
    Path(sweep).write_text(SEARCHED.replace("trials: 5", "trials: 2"))
    where = ["--store", str(store)]
    other = ["--set", "name=other", "--set", "treatments=[base, selffer+, transfer+]"]
    for changes in ([], other):
        assert layerwise("run", sweep, *where, *changes, "--inline", "--no-report").code == 0
    assert len(list(store.glob("studies/*"))) == 4
    assert layerwise("clean", "--sweep", "searched", "--yes", *where).code == 0
    assert len(list(store.glob("studies/*"))) == 2
    code, out, _ = layerwise("run", sweep, *where, *other, "--inline", "--no-report")
    assert (code, out.splitlines()[0]) == (0, f"{sweep}: 10 trials, 10 complete in {store}")
    assert layerwise("clean", "--sweep", "other", "--yes", *where).code == 0
    assert files(store) == []


def test_check_tells_a_mistake_of_the_search(tmp_path: Path, layerwise: Layerwise) -> None:
    path = tmp_path / "searched.yaml"
    path.write_text(SEARCHED.replace("startup: 2", "startup: 2, splits: [0]"))
    code, _, err = layerwise("check", str(path))
    assert code == 2
    assert err.startswith(f"{path}:9: fine_tune.search.splits[0]: s0 has the halves of s0, which")
