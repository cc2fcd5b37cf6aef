"""`layerwise advise`: its tables, its JSON, and a sweep that has nothing to advise on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from orchestrator.store.store import Store
from tests.conftest import Ended
from tests.synthetic import Label, Synthetic

Layerwise = Callable[..., Ended]


def write(folder: Path, losses: tuple[float, ...]) -> str:
    store, rows = Store(folder), Synthetic()
    for draw, loss in enumerate(losses):
        place = {"split": f"d{draw}", "target": "B", "division": "weights old to mine"}
        rows.add(Label(treatment="base", **place), 0.5)  # type: ignore[arg-type]
        for n in (1, 2):
            frozen = Label(treatment="transfer", n=n, frozen=True, **place)  # type: ignore[arg-type]
            rows.add(frozen, 0.9 - loss * (n - 1))
    store.make()
    rows.write(store)
    return str(folder)


def test_the_answer_of_a_sweep_in_the_store(layerwise: Layerwise, tmp_path: Path) -> None:
    store = write(tmp_path / "store", (0.1, 0.12, 0.11))
    done = layerwise("advise", "demo", "--store", store)
    assert (done.code, done.err) == (0, "")
    title, answer, *table = done.out.splitlines()
    assert title == "weights old to mine (test top-1)"
    assert answer.startswith(
        "Layers 1 to 1 of weights old can be kept frozen: against the best option (frozen, n = 1)"
    )
    assert "At n = 2 the loss is 11.0 [+9.3, +12.7] points, more than the margin of 1.0" in answer
    assert any("from scratch" in line and "50.0" in line for line in table)
    wide = layerwise("advise", "demo", "--store", store, "--margin", "20", "--json")
    (value,) = json.loads(wide.out)
    assert (value["frozen"]["n"], value["best"]["n"], value["unit"]) == (2, 1, "draw")
    assert value["group"]["division"] == "weights old to mine"
    assert value["sentences"][0].endswith("That is the largest n of the sweep.")


def test_a_sweep_without_frozen_transfers(layerwise: Layerwise, tmp_path: Path) -> None:
    store, rows = Store(tmp_path / "store"), Synthetic()
    rows.add(Label(split="s0", target="A", treatment="base"), 0.5)
    store.make()
    rows.write(store)
    done = layerwise("advise", "demo", "--store", str(tmp_path / "store"))
    assert (done.code, done.out) == (2, "")
    assert "sweep demo has no complete frozen transfer yet" in done.err
