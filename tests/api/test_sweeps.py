"""Sweeps in code, their text, and plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.api.plans import plan
from orchestrator.api.sweeps import Sweep, chosen, planned
from orchestrator.errors import LayerwiseError, SweepError
from orchestrator.sweep.load import bundled_sweeps, load_sweep
from tests.small import SMALL
from trainers.recipe import Recipe

MINE = """\
name: mine
dataset:
  name: digits
  train: 10
  renderings: 1
  validation: 2
  test: 3
splits:
  random:
  - 0
treatments:
- base
- transfer
layers:
- 1
- 2
recipe:
  rate: 0.03
  batch: 8
  steps: 3
"""


def mine(**changes: object) -> Sweep:
    keys: dict[str, object] = {
        "name": "mine",
        "dataset": {"name": "digits", "train": 10, "renderings": 1, "validation": 2, "test": 3},
        "splits": {"random": (0,)},
        "treatments": ["base", "transfer"],
        "layers": np.arange(1, 3).tolist(),
        "recipe": Recipe(rate=0.03, steps=np.int64(3).item(), batch=8),
    }
    return Sweep(**keys | changes)  # type: ignore[arg-type]


def test_a_sweep_in_code_is_the_sweep_of_its_text() -> None:
    sweep = mine()
    assert sorted(sweep.to_yaml().splitlines()) == sorted(MINE.splitlines())
    assert sweep == Sweep.from_yaml(MINE) == Sweep.from_yaml(sweep.to_yaml())
    assert sweep.settings["recipe.steps"] == 3
    assert repr(sweep) == "<Sweep mine>"
    assert len({sweep, Sweep.from_yaml(MINE)}) == 1
    assert sweep != mine(seeds=[3])


@pytest.mark.parametrize("name", [*sorted(set(bundled_sweeps()) - {"template"}), "paper:tiny"])
def test_bundled_sweeps_keep_their_content(name: str) -> None:
    sweep = Sweep.load(name)
    assert sweep == Sweep.from_yaml(sweep.to_yaml())
    assert sweep.schema == load_sweep(name)[0]


def test_changes_are_part_of_the_text() -> None:
    sweep = Sweep.load("digits", ["recipe.steps=7"])
    again = Sweep.from_yaml(sweep.to_yaml())
    assert sweep.name == again.name == "digits+recipe.steps=7"
    assert again == sweep


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"recipe": {"stps": 3}},
            "mine:18: recipe.stps: unknown key 'stps'; did you mean 'steps'?",
        ),
        ({"layrs": 3}, "mine:21: layrs: unknown key 'layrs'; did you mean 'layers'?"),
        ({"seeds": [print]}, "seeds[0]: expected numbers, strings, lists and mappings, found a "),
        ({"seeds": [np.int64(1)]}, ""),
    ],
)
def test_mistakes_name_the_line_of_the_text(changes: dict[str, object], message: str) -> None:
    if not message:
        assert mine(**changes).schema.seeds == (1,)
        return
    with pytest.raises(SweepError) as error:
        mine(**changes)
    assert str(error.value).startswith(message)


def test_a_plan_says_what_is_open(tmp_path: Path) -> None:
    made = plan(Sweep.from_yaml(SMALL), tmp_path / "none")
    assert (len(made), repr(made)) == (6, "<Plan small: 6 trials, 0 complete>")
    rows = made.trials.arrow().to_pylist()
    assert {row["state"] for row in rows} == {"missing"}
    assert [row["name"] for row in rows][:2] == ["A s0", "B s0"]
    assert all(row["flops"] > 0 for row in rows)
    assert "<td>transfer</td><td>2</td><td>0</td>" in made._repr_html_()
    assert not (tmp_path / "none").exists()


def test_trials_are_chosen_by_a_condition_or_by_id() -> None:
    made = planned(Sweep.from_yaml(SMALL))
    ids = list(made.trials)
    assert chosen(made, None) is None
    assert chosen(made, ids[:2]) == set(ids[:2])
    assert chosen(made, "treatment = 'base'") == set(ids[:2])
    with pytest.raises(LayerwiseError, match=r"^only: no trial abc in sweep small$"):
        chosen(made, ["abc"])
    with pytest.raises(LayerwiseError, match=r"^only: no trial of sweep small matches \"n = 9\""):
        chosen(made, "n = 9")
