"""Commands on a sweep with a search: search, plan, status, debug and clean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store.names import MARKER
from orchestrator.store.store import Store
from tests.conftest import Ended
from tests.searches import SEARCHED
from tests.small import files

Layerwise = Callable[..., Ended]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments for a sweep with a search of two trials, and for its store."""
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
        "at most 1.79 MFLOP to go"
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
        "layerwise: sweep digits declares no search; add fine_tune: {search: {}}\n",
    )


def test_clean_a_sweep_with_a_search(tmp_path: Path, layerwise: Layerwise) -> None:
    """Rows that another sweep's search shares stay until that sweep is removed, too."""
    sweep, store = str(tmp_path / "searched.yaml"), tmp_path / "store"
    Path(sweep).write_text(SEARCHED.replace("trials: 5", "trials: 2"))
    where = ["--store", str(store)]
    other = ["--set", "name=other", "--set", "treatments=[base, selffer+, transfer+]"]
    for changes in ([], other):
        assert layerwise("run", sweep, *where, *changes, "--inline", "--no-report").code == 0
    assert Store(store).table("studies").num_rows == 4
    assert layerwise("clean", "--sweep", "searched", "--yes", *where).code == 0
    assert Store(store).table("studies").num_rows == 2
    code, out, _ = layerwise("run", sweep, *where, *other, "--inline", "--no-report")
    assert (code, out.splitlines()[0]) == (0, f"other: 10 trials, 10 complete in {store}")
    assert layerwise("clean", "--sweep", "other", "--yes", *where).code == 0
    left = [name for name in files(store) if not name.startswith("removed/")]
    assert left == [MARKER, f"trials/skipped/{'0' * 16}.parquet"]
    assert Store(store).outcomes() == {}
