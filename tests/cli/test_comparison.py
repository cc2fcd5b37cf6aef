"""`layerwise compare` and `layerwise explain`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from tests.conftest import Ended
from tests.small import SMALL
from tests.tables import cells, outside

Layerwise = Callable[..., Ended]
ONE = ("--inline", "--no-report")


def test_two_sweeps_of_one_store(full: Path, layerwise: Layerwise) -> None:
    (full / "again.yaml").write_text(SMALL.replace("name: small", "name: again"))
    assert layerwise("run", "again.yaml", "--set", "recipe.steps=4", *ONE).code == 0
    assert layerwise("run", "again.yaml", "--set", "name=same", *ONE).code == 0
    code, out, _ = layerwise("compare", "small", "again+recipe.steps=4")
    assert code == 0
    header, *rows = cells(out)
    assert header == ["treatment", "n", "first", "second", "difference", "95 %", "q", "pairs"]
    assert [row[:2] for row in rows] == [["base", ""], ["BnB", "1"], ["AnB", "1"]]
    assert outside(out)[1:] == [
        "first: small; second: again+recipe.steps=4; 3 cells in common, 3 of them paired",
        "one split in common: nothing can be tested",
        "settings: recipe.steps was 3 and is 4",
    ]
    same = json.loads(layerwise("compare", "small", "same", "--json").out)
    assert same["settings"] == {}
    assert [(x["difference"], x["n_same"], x["n_pairs"]) for x in same["cells"]] == [(0, 2, 2)] * 3
    relative = json.loads(layerwise("compare", "small", "same", "--relative", "--json").out)
    assert [row["arm"] for row in relative["cells"]] == ["BnB", "AnB"]


def test_a_sweep_and_the_paper_or_another_store(full: Path, layerwise: Layerwise) -> None:
    out = layerwise("compare", "small", "paper", "--relative").out
    assert "first: small; second: paper; 2 cells in common, 0 of them paired" in out
    assert "settings of small or paper are not known as a sweep file" in out
    (full / "results").rename(full / "first")
    assert layerwise("run", "small.yaml", "--only", "n = 0", *ONE).code == 0
    out = layerwise("compare", "small", "small", "--store", "first", "--other", "results").out
    assert "1 cell in common, 1 of them paired" in out
    assert "2 of 2 pairs are one and the same trial" in out
    assert layerwise("compare", "small", "smal").code == 2


def test_nothing_in_common_is_said(full: Path, layerwise: Layerwise) -> None:
    text = SMALL.replace("name: small", "name: long").replace(
        "base, selffer, transfer", "base_long"
    )
    (full / "long.yaml").write_text(text)
    assert layerwise("run", "long.yaml", *ONE).code == 0
    assert layerwise("compare", "small", "long").out.startswith("small and long have no cell in ")


def explained(layerwise: Layerwise, *words: str) -> list[str]:
    code, out, err = layerwise("explain", *words)
    assert (code, err) == (0, "")
    return out.splitlines()


@pytest.mark.usefixtures("full")
def test_a_trial_that_was_trained(layerwise: Layerwise) -> None:
    lines = explained(layerwise, "A1B s0")
    assert lines[0].startswith("A1B s0 of small, id ")
    assert lines[0].endswith(": complete")
    assert lines[1].startswith("this sweep trained it: ")
    assert lines[2].startswith("nearest in the store: ")
    assert lines[-2].startswith("copies from A s0, id ")
    assert lines[-1].startswith("cost: 0:0")
    result = json.loads(layerwise("explain", "A1B s0", "--json").out)
    assert result["waits_for"][0]["state"] == "complete"
    assert len(result["nearest"]["differs"]) < 6
    base = explained(layerwise, "A s0")
    assert "it waits for nothing: no layer is copied" in base
    assert Store("results").exists()


def test_a_trial_that_is_reused_or_missing(full: Path, layerwise: Layerwise) -> None:
    (full / "again.yaml").write_text(SMALL.replace("name: small", "name: again"))
    assert layerwise("run", "again.yaml", *ONE).code == 0
    assert explained(layerwise, "A s0", "--sweep", "again")[1].startswith(
        "reused: sweep small trained the same network, "
    )
    several = layerwise("explain", "A s0")
    assert several.code == 2
    assert "several sweeps have 'A s0': again, small; name one with --sweep" in several.err
    lines = explained(layerwise, "A1B s0", "--sweep", "small.yaml", "--set", "recipe.rate=0.5")
    assert lines[0].endswith(": missing")
    assert lines[1] == "the store has no row of this id, so `layerwise run` trains it"
    assert [row[0] for row in cells("\n".join(lines))[1:]] == ["recipe.rate", "parent"]
    assert lines[-2].startswith("waits for A s0, id ")
    assert lines[-2].endswith(": missing")
    assert lines[-1].startswith("it would take ")


def test_a_file_that_is_gone_and_a_failure(full: Path, layerwise: Layerwise) -> None:
    ended = json.loads(layerwise("explain", "B s0", "--json").out)
    next((full / "results/curves").glob(f"{ended['id']}-*")).unlink()
    assert "is gone, so `layerwise run` trains it again" in explained(layerwise, "B s0")[1]
    store = Store("results")
    row = store.row(json.loads(layerwise("explain", "A s0", "--json").out)["id"])
    assert row
    store.delete(store.row_path("complete", row["id"]))
    store.write_row(row | {"outcome": "failed", "error_message": "loss is nan"})
    assert explained(layerwise, "A s0")[1] == "it failed: loss is nan"


@pytest.mark.usefixtures("full")
def test_an_unknown_trial(layerwise: Layerwise) -> None:
    code, _, err = layerwise("explain", "A9B s0")
    assert code == 2
    assert "has a trial 'A9B s0'; name one with --sweep" in err


def test_an_empty_store_has_no_neighbour(folder: Path, layerwise: Layerwise) -> None:
    (folder / "small.yaml").write_text(SMALL)
    assert "the store has no other trial" in explained(
        layerwise, "A s0", "--sweep", "small.yaml", "--store", "none"
    )
