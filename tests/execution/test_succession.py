"""A run under a name that the store knows: growth, other settings, changed code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.errors import LayerwiseError
from orchestrator.execution.run import Run
from orchestrator.execution.succession import leaving
from orchestrator.plan.plan import Plan
from orchestrator.report.progress import RunProgress
from orchestrator.store.store import Store
from tests.small import SMALL, small


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path / "results")


def plan(text: str = SMALL) -> Plan:
    Path("small.yaml").write_text(text)
    return small(Path())


def begin(planned: Plan, store: Store, **options: bool) -> Run:
    from rich.console import Console

    return Run.open(planned, store, RunProgress(Console(quiet=True)), **options)


def members(store: Store) -> set[str]:
    return set(store.members("small")["id"].to_pylist())


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("steps: 3", "steps: 2", "recipe.steps was 3 and is 2."),
        ("conv: [2, 2]", "conv: [3, 2]", "network.conv was [2, 2] and is [3, 2]."),
        ("train: 10", "train: 9", "dataset.train was 10 and is 9."),
        ("[base, selffer, transfer]", "[base]", "treatments was "),
    ],
)
def test_other_settings_under_the_same_name_are_refused(
    store: Store, old: str, new: str, difference: str
) -> None:
    begin(plan(), store)
    before = store.get(store.sweep_path("small"))
    changed = plan(SMALL.replace(old, new))
    with pytest.raises(LayerwiseError) as error:
        begin(changed, store)
    assert f"another sweep 'small': {difference}" in str(error.value)
    assert "--replace" in str(error.value)
    assert store.get(store.sweep_path("small")) == before
    begin(changed, store, replace=True)
    assert members(store) == set(changed.trials)


def test_a_sweep_may_grow_and_change_what_has_no_effect(store: Store) -> None:
    begin(plan(), store)
    grown = SMALL.replace("random: [0]", "random: [0, 1]") + "seeds: [0, 1]\nkeep: all\n"
    assert begin(plan(grown), store).left == 0


@pytest.mark.parametrize("suffix", ["", "seeds: [0, 1]\n"])
def test_trials_of_earlier_code_leave_the_sweep(
    store: Store, suffix: str, without_facts: Callable[[Store], None]
) -> None:
    rows = [trial.labels() | {"id": f"old{i}"} for i, trial in enumerate(plan().members)]
    store.write_sweep("small", rows, SMALL, forms="[]")
    for _ in range(2):
        assert leaving(plan(SMALL + suffix), store) == len(rows)
        without_facts(store)


def test_a_record_of_an_old_version_has_its_text_only(
    store: Store, without_facts: Callable[[Store], None]
) -> None:
    begin(plan(), store)
    without_facts(store)
    assert leaving(plan(), store) == 0
    with pytest.raises(LayerwiseError, match=r"recipe\.rate was 0\.03 and is 0\.01\. "):
        leaving(plan(SMALL.replace("0.03", "0.01")), store)


@pytest.fixture
def without_facts() -> Callable[[Store], None]:
    """Write the record of the sweep again as old versions did."""

    def rewrite(store: Store) -> None:
        path = store.sweep_path("small")
        table = pq.read_table(path)
        facts = {k: v for k, v in table.schema.metadata.items() if k in (b"sweep", b"reference")}
        pq.write_table(table.replace_schema_metadata(facts | {b"layerwise_schema": b"1"}), path)

    return rewrite
