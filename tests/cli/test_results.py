"""Commands on results: status and clean, and stores that are not there."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.execution.provenance import versions
from orchestrator.execution.rows import driver_row
from orchestrator.report import rendering
from orchestrator.states import State
from orchestrator.store.names import stored
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store
from tests.small import files, small
from tests.stores import forget, loosen, rewrite, row_file, to_version_1
from tests.tables import cells, outside

Layerwise = Callable[..., tuple[int, str, str]]


def spoil(folder: Path) -> tuple[str, str]:
    """Make one trial lost, one skipped and one missing. Return the ids of the first two."""
    store, planned = Store(folder / "results"), small(folder)
    by_name = {trial.name: trial for trial in planned.members}
    lost, skipped, missing = (by_name[name] for name in ("B s0", "B1A s0", "A1B s0"))
    for trial in (lost, skipped, missing):
        forget(store, trial.id)
    store.write_row(driver_row(lost, State.LOST, "the worker died 4 times; last reason: signal 9"))
    store.write_row(driver_row(skipped, State.SKIPPED, f"its parent {lost.id} lost: signal 9"))
    return lost.id, skipped.id


def test_status(full: Path, layerwise: Layerwise) -> None:
    lost, skipped = spoil(full)
    code, out, err = layerwise("status", "small.yaml")
    assert (code, err) == (0, "")
    assert cells(out) == [
        ["treatment", "complete", "failed", "lost", "skipped", "missing"],
        ["base", "1", "0", "1", "0", "0"],
        ["selffer", "2", "0", "0", "0", "0"],
        ["transfer", "0", "0", "0", "1", "1"],
        ["all", "3", "0", "1", "1", "1"],
    ]
    assert outside(out) == [
        f"{lost[:8]} B s0: lost: the worker died 4 times; last reason: signal 9",
        f"{skipped[:8]} B1A s0: skipped: its parent {lost} lost: signal 9",
    ]


def test_every_reader_names_a_damaged_file_and_what_its_numbers_leave_out(
    full: Path, layerwise: Layerwise, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(full / "results")
    name = next(trial.id for trial in small(full).members if trial.name == "A s0")
    loosen(store)
    path = Path(row_file(store, name))
    path.write_bytes(path.read_bytes()[:-100])

    def read(*arguments: str) -> tuple[str, str]:
        caplog.clear()
        code, out, err = layerwise(*arguments)
        assert code == 0
        assert caplog.messages == [
            f"{path} is damaged and left out: its content is not what its name says"
        ]
        return out, err

    left_out = "3 of 6 trials are left out: 1 not complete, 2 without a complete base"
    read("plan", "small.yaml")
    assert json.loads(read("status", "small.yaml", "--json")[0])["missing"] == 1
    assert read("query", "SELECT * FROM effects", "--json")[1] == f"{left_out}\n"
    out, err = read("query", "SELECT count(*) AS n FROM trials", "--json")
    assert (json.loads(out), err) == ([{"n": 5}], "")
    assert left_out in Path(read("report", "small")[0].strip()).read_text()
    out, _ = read("clean", "--yes")
    assert out.splitlines() == [
        "1 row cannot be read: the files of these trials stay, and `layerwise run` trains them "
        "again",
        "0 files, 0.0 MB",
    ]
    assert path.exists()
    assert store.names("checkpoints", name)


def test_a_null_in_a_curve_is_left_out(full: Path, layerwise: Layerwise) -> None:
    store = Store(full / "results")
    row = store.table("trials").to_pylist()[0]
    nulls = dict.fromkeys(SCHEMAS["curves"].names)
    key = {"id": row["id"], "attempt": row["attempt"]}
    points = [nulls | key | {"step": 1}, nulls | key | {"step": 2, "val_top1": 0.5}, nulls | key]
    forget(store, row["id"])
    store.write_row(row | {"images": None, "seconds_total": 0.0, "at_chance": None}, points)
    assert layerwise("report", "small")[0] == 0
    assert layerwise("plan", "small.yaml")[0] == 0
    assert layerwise("query", "SELECT * FROM speeds")[0] == 0


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
        "measurements": [],
        "features": [],
        "lacking": [],
        "reasons": [
            {
                "id": lost,
                "name": "B s0",
                "outcome": "lost",
                "error_type": "lost",
                "error_step": None,
                "error_message": "the worker died 4 times; last reason: signal 9",
                "error_traceback": None,
            },
            {
                "id": skipped,
                "name": "B1A s0",
                "outcome": "skipped",
                "error_type": "skipped",
                "error_step": None,
                "error_message": f"its parent {lost} lost: signal 9",
                "error_traceback": None,
            },
        ],
    }


def test_a_store_that_is_a_file(folder: Path, layerwise: Layerwise) -> None:
    for command in ("plan", "status", "run"):
        assert layerwise(command, "small.yaml", "--store", "small.yaml") == (
            2,
            "",
            f"layerwise: store {folder}/small.yaml is a file; expected a folder\n",
        )


def test_a_report_is_written_through_no_link(
    full: Path, layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        rendering, "pictures", lambda _, formats, **_options: dict.fromkeys(formats, b"picture")
    )
    assert layerwise("report", "small")[0] == 0
    folder, foreign = full / "results/reports/small", full / "foreign"
    foreign.mkdir()
    for name in ("index.html", "figure2.png"):
        (foreign / name).write_bytes(b"of somebody else")
        (folder / name).unlink()
        (folder / name).symlink_to(foreign / name)
    assert layerwise("report", "small")[0] == 0
    assert (folder / "figure2.png").read_bytes() == b"picture"
    folder.rename(full / "moved")
    folder.symlink_to(foreign)
    code, _, err = layerwise("report", "small")
    assert (code, err) == (
        2,
        f"layerwise: {folder} is a link: no report is written through it; remove the link\n",
    )
    assert {path.read_bytes() for path in foreign.iterdir()} == {b"of somebody else"}


@pytest.mark.parametrize("command", [["query", "SELECT 1"], ["report", "small"], ["clean"]])
@pytest.mark.usefixtures("folder")
def test_no_store(command: list[str], layerwise: Layerwise) -> None:
    assert layerwise(*command) == (
        2,
        "",
        "layerwise: no store at results; `layerwise run` makes one, --store names another\n",
    )


@pytest.mark.usefixtures("full")
def test_the_metric_of_a_report_and_of_the_answer(
    layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "javascript", str)
    monkeypatch.setattr(
        rendering, "pictures", lambda _, formats, **_options: dict.fromkeys(formats, b"png")
    )
    by_mean = ("small", "--metric", "val_mean10")
    assert layerwise("report", *by_mean)[1].endswith("/reports/small/val_mean10/index.html\n")
    assert layerwise("report", "small")[1].endswith("/reports/small/index.html\n")
    pages = [Path("results/reports/small", name, "index.html") for name in ("", "val_mean10")]
    primary, other = (page.read_text(encoding="utf-8") for page in pages)
    assert "mean of the ten best" not in primary
    assert "the mean of the ten best validation top-1" in other
    run = ("run", "small.yaml", "--inline", "--no-report", "--metric")
    assert "\nMean of the ten best validation top-1, diff" in layerwise(*run, "val_mean10")[1]
    assert layerwise(*run, "top2")[0] == 2
    line = "layerwise: --metric: no complete trial of sweep small has a map50\n"
    assert layerwise("report", "small", "--metric", "map50") == (2, "", line)
    store = Store("results")  # as if they were detectors
    for id in store.outcomes():
        rewrite(store, id, map50=0.5, map=0.25, map50_voc07=0.375)
    for metric, shown in (("map", "25.0"), ("map50_voc07", "37.5"), ("map50", "50.0")):
        out = layerwise(*run, metric)[1]
        assert f"base {shown} % (2 networks)" in out
        assert layerwise("report", "small", "--metric", metric)[0] == 0
    page = Path("results/reports/small/map50_voc07/index.html").read_text(encoding="utf-8")
    assert "measured by the test mAP by the rule of PASCAL VOC 2007." in page


@pytest.mark.parametrize("is_empty", [False, True])
@pytest.mark.parametrize("gone", ["curves", "classes", "trials/complete"])
def test_a_trial_that_lacks_a_file_is_missing_and_trained_again(
    gone: str, is_empty: bool, full: Path, layerwise: Layerwise
) -> None:
    """A store of version 1 has a file of each kind per trial."""
    to_version_1(Store(full / "results"))
    lost = sorted((full / "results" / gone).iterdir())[0]
    [name] = [trial.name for trial in small(full).members if lost.name.startswith(trial.id)]
    lost.unlink()
    if is_empty:
        lost.touch()
    summary = json.loads(layerwise("status", "small.yaml", "--json")[1])
    assert (summary["complete"], summary["missing"]) == (5, 1)
    note = (
        "1 complete trial lacks a file and counts as missing, so that `layerwise run` trains "
        f"it again: {name}; gone: {lost}"
    )
    assert summary["lacking"] == ([] if gone == "trials/complete" else [note])
    code, out, _ = layerwise("run", "small.yaml", "--inline", "--no-report")
    assert code == 0
    assert (note in out) == (gone != "trials/complete")
    summary = json.loads(layerwise("status", "small.yaml", "--json")[1])
    assert (summary["complete"], summary["lacking"]) == (6, [])


# clean ------------------------------------------------------------------------------------------


def test_clean_where_nothing_may_go(full: Path, layerwise: Layerwise) -> None:
    assert layerwise("report", "small")[0] == 0
    assert all(map(stored, files(full / "results")))
    assert layerwise("clean") == (0, "0 files, 0.0 MB\n", "")


def test_clean_orphans(full: Path, layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch) -> None:
    """Superseded attempts, weights and snapshots that no row names, half-written files."""
    store, id = Store("results"), small(full).members[0].id
    before = files(full)
    store.put(store.path("curves", f"{id}-00000000.parquet"), b"x")
    store.put(store.path("classes", f"{id}-00000000.parquet"), b"x")
    store.put(store.path("checkpoints", id, f"{16 * '0'}.safetensors"), b"x")
    store.put(store.path("progress", id, f"0000000001-00000000-{16 * '0'}.safetensors"), b"x")
    half = f"rows/.{id}-complete-00000000-{16 * '0'}.json.00000000.tmp"
    Path("results/rows").mkdir(exist_ok=True)
    Path("results", half).write_bytes(b"half")
    root = full / "results"
    listed = (
        "2 files, 0.0 MB: attempt that no row names\n"
        "1 file, 0.0 MB: weights that no row names\n"
        "1 file, 0.0 MB: snapshot of a complete trial\n"
        "1 file, 0.0 MB: half-written file\n"
        f"{root}/curves/{id}-00000000.parquet  (attempt that no row names)\n"
        f"{root}/classes/{id}-00000000.parquet  (attempt that no row names)\n"
        f"{root}/checkpoints/{id}/{16 * '0'}.safetensors  (weights that no row names)\n"
        f"{root}/progress/{id}/0000000001-00000000-{16 * '0'}.safetensors  "
        "(snapshot of a complete trial)\n"
        f"{root}/{half}  (half-written file)\n"
        "5 files, 0.0 MB\n"
    )
    for answer, end in (("n\n", (0, "")), ("", (1, "Aborted!\n"))):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        code, out, err = layerwise("clean")
        assert (code, err) == end
        assert out.rstrip() == f"{listed}remove them? [y/N]:"
    assert len(files(full)) == len(before) + 5
    assert layerwise("clean", "--yes") == (0, f"{listed}removed 5 files\n", "")
    assert files(full) == before


def test_clean_failed_trials(full: Path, layerwise: Layerwise) -> None:
    lost, skipped = spoil(full)
    code, out, _ = layerwise("clean", "--failed", "--yes")
    assert code == 0
    reasons = re.findall(r"/(trials/\w+/\w+)  \((.*)\)", out)
    assert reasons == [
        (f"trials/lost/{lost}", "failed, lost or skipped"),
        (f"trials/skipped/{skipped}", "failed, lost or skipped"),
    ]
    outcomes = Store("results").outcomes()
    assert sorted(outcomes.values()) == ["complete"] * 3
    assert set(Store("results").table("curves")["id"].to_pylist()) == set(outcomes)


def test_clean_a_sweep(full: Path, layerwise: Layerwise) -> None:
    """The trials that another sweep has, too, stay."""
    other = ("--set", "name=other", "--set", "treatments=[base]")
    assert layerwise("run", "small.yaml", "--inline", "--no-report", *other)[0] == 0
    code, out, _ = layerwise("clean", "--sweep", "small", "--yes")
    assert code == 0
    assert out.endswith("removed 5 files\n")
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


def test_trials_of_no_sweep_and_reports_of_sweeps_that_are_gone(
    full: Path, layerwise: Layerwise
) -> None:
    """`ls`, `status` and `clean` name them; `clean` removes trials of no sweep when told so."""
    for name in ("small", "gone"):
        (full / "results/reports" / name / "val_mean10").mkdir(parents=True)
        for page in ("index.html", "figure2.png", "val_mean10/index.html"):
            (full / "results/reports" / name / page).write_text("x")
    (full / "results/reports/gone/notes.txt").write_text("mine")
    store = Store("results")
    members = store.members("small").to_pylist()
    named = [row for row in members if row["name"] in ("A s0", "A1A s0")]
    others = [row | {"sweep": "other"} for row in named]
    store.write_sweep("other", others, "name: other\n")
    assert json.loads(layerwise("ls", "--json")[1])["unowned"]["trials"] == 0
    store.delete(store.sweep_path("small"))
    summary = json.loads(layerwise("ls", "--json")[1])
    expected = {"sweep": "other", "trials": 2, "complete": 2, "ended badly": 0, "missing": 0}
    assert (summary["sweeps"], summary["studies"]) == ([expected], [])
    assert summary["unowned"]["kinds"] == {"base": 1, "selffer": 1, "transfer": 2}
    assert summary["unowned"]["bytes"] > 0
    assert layerwise("status") == (first := layerwise("ls"))
    line = "4 trials belong to no sweep (1 base, 1 selffer, 2 transfer; "
    assert line in first[1]
    out = layerwise("clean", "--yes")[1]
    assert out.startswith(line)
    assert "3 files, 0.0 MB: report of sweep gone" in out
    assert files(full / "results/reports/gone") == ["notes.txt"]
    assert len(store.outcomes()) == 6
    assert layerwise("clean", "--unowned", "--yes")[0] == 0
    assert set(store.outcomes()) == {row["id"] for row in others}
    store.put(store.sweep_path("other"), b"half")
    code, _, err = layerwise("clean", "--unowned", "--yes")
    assert (code, "the trials of sweep other are not known" in err) == (2, True)


def test_the_version_and_the_commit(layerwise: Layerwise) -> None:
    """The same commit is in each row, under `versions`."""
    code, out, _ = layerwise("--version")
    known = json.loads(versions())
    commit = known.get("layerwise_commit")
    assert (code, out.split()[:2]) == (0, ["layerwise", known["layerwise"]])
    assert out.split()[2:] == ([f"({commit})"] if commit else [])
