"""Optuna studies from rows: what is suggested, who is pruned, what is exported."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from orchestrator.errors import LayerwiseError
from orchestrator.execution.suggestions import (
    distributions_json,
    export,
    importances,
    rebuild,
    running_means,
    suggest,
    verdict,
)
from orchestrator.plan.plan import Plan
from orchestrator.plan.search_space import Value, walk
from orchestrator.plan.study import Study, best
from tests.searches import SEARCHED

PlanOf = Callable[..., Plan]
Rows = dict[int, Mapping[str, Any]]

WIDE = ("layers=[1, 2, 3]", "fine_tune.search.trials=12", "fine_tune.search.startup=4")
FLAT = {
    "family": "[linear]",
    "warmup": "0",
    "fresh_first": "0",
    "restarts": "0",
    "drops": "1",
}
QMC = [f"fine_tune.search.space.{name}={value}" for name, value in FLAT.items()]


@pytest.fixture
def study(plan_of: PlanOf) -> Study:
    """Six cells, twelve trials, the first four at random."""
    return plan_of(SEARCHED, *WIDE).studies[0]


def reached(parameters: Mapping[str, Any]) -> float:
    """Best at a rate of 0.01 with a linear schedule."""
    away = abs(math.log10(parameters.get("rate", 0.03) / 0.01))
    return 0.9 - 0.1 * away - 0.05 * (parameters.get("family") != "linear")


def row(study: Study, number: int, parameters: dict[str, Value], **columns: Any) -> dict[str, Any]:
    """Row of a study trial that was not pruned."""
    values = [reached(parameters) + cell / 1000 for cell in range(len(study.cells))]
    return {
        "number": number,
        "state": "complete",
        "value": sum(values) / len(values),
        "values": values,
        "cells": [f"cell{cell}" for cell in range(len(values))],
        "parameters": json.dumps(parameters),
        "distributions": distributions_json(study.tree, parameters),
        "pruner_state": "{}",
        "recipe": "{}",
        **columns,
    }


def searched(study: Study, trials: int | None = None) -> Rows:
    rows: Rows = {}
    for number in range(trials or study.trials):
        rows[number] = row(study, number, suggest(study, rows, number))
    return rows


def test_the_sweeps_own_schedule_and_a_tenth_of_the_rate_for_copied_layers_come_first(
    study: Study,
) -> None:
    own, second = (suggest(study, {}, number) for number in (0, 1))
    assert (own["rate"], own["family"], own["copied_rate"]) == (0.03, "cosine", 1.0)
    assert second == {**own, "copied_rate": 0.1}


def test_every_suggestion_is_a_point_of_the_tree(study: Study) -> None:
    for one in searched(study).values():
        parameters = json.loads(one["parameters"])
        there = [p for p, _ in walk(study.tree, lambda p: parameters[p.name]) if not p.single]  # noqa: B023
        assert [p.name for p in there] == list(parameters)
        assert all(p.contains(parameters[p.name]) for p in there)


def test_suggestions_are_those_of_rows_alone(study: Study, tmp_path: Path) -> None:
    """A process with other hashes, that knows the rows and nothing else, suggests the same."""
    rows = searched(study)
    (tmp_path / "rows.json").write_text(json.dumps(list(rows.values())))
    program = (
        "import json, sys\n"
        "from orchestrator.execution.suggestions import suggest\n"
        "from orchestrator.plan.plan import make_plan\n"
        "from orchestrator.plan.resolve import resolve\n"
        "from orchestrator.sweep.load import load_sweep\n"
        "study = make_plan(resolve(*load_sweep(sys.argv[1], sys.argv[3:]))).studies[0]\n"
        "rows = {row['number']: row for row in json.load(open(sys.argv[2]))}\n"
        "for number in reversed(range(len(rows))):\n"
        "    print(json.dumps(suggest(study, rows, number)))\n"
    )
    sweep, file = tmp_path / "sweep.yaml", tmp_path / "rows.json"
    lines = subprocess.run(
        [sys.executable, "-c", program, str(sweep), str(file), *WIDE],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    ).stdout.splitlines()
    expected = [json.loads(rows[number]["parameters"]) for number in reversed(range(len(rows)))]
    assert [json.loads(line) for line in lines] == expected


def test_a_suggestion_looks_at_no_later_row(study: Study) -> None:
    rows = searched(study)
    for number in (2, 7):
        earlier = {n: rows[n] for n in range(number)}
        expected = json.loads(rows[number]["parameters"])
        assert suggest(study, earlier, number) == suggest(study, rows, number) == expected


def test_tpe_finds_what_is_good(study: Study) -> None:
    rows = list(searched(study).values())
    assert max(one["value"] for one in rows[6:]) > max(one["value"] for one in rows[:6])


def test_seeds_give_other_suggestions(plan_of: PlanOf) -> None:
    studies = [plan_of(SEARCHED, f"fine_tune.search.seed={seed}").studies[0] for seed in (0, 1)]
    assert studies[0].series != studies[1].series
    first, second = (suggest(study, searched(study, 2), 2) for study in studies)
    assert first != second


@pytest.mark.parametrize("at_once", [2, 5])
def test_trials_beside_each_other_differ(at_once: int, plan_of: PlanOf) -> None:
    """The sampler knows the trials that run, but not how they end."""
    study = plan_of(SEARCHED, *WIDE, f"fine_tune.search.at_once={at_once}").studies[0]
    rows = searched(study)
    texts = [one["parameters"] for one in rows.values()]
    assert len(set(texts)) == len(texts)
    for number in range(study.trials):
        known = {n: rows[n] for n in range(max(0, number - at_once + 1))}
        assert json.dumps(suggest(study, known, number)) == rows[number]["parameters"]


def test_a_failed_and_a_pruned_trial_as_optuna_knows_them(study: Study) -> None:
    rows = searched(study, 3)
    rows[1] = {**rows[1], "state": "failed", "value": None, "values": [0.5]}
    rows[2] = {**rows[2], "state": "pruned", "value": 0.4, "values": [0.3, 0.5]}
    trials = rebuild(rows.values(), "x").trials
    states = optuna.trial.TrialState
    assert [t.state for t in trials] == [states.COMPLETE, states.FAIL, states.PRUNED]
    assert [t.value for t in trials] == [rows[0]["value"], None, 0.4]
    assert trials[2].intermediate_values == {1: 0.3, 2: 0.4}
    assert trials[0].user_attrs["cells"] == rows[0]["cells"]
    assert rebuild(rows.values(), "x").best_trial.number == 0
    assert best(list(rows.values())) is rows[0]
    suggest(study, rows, 3)


def test_a_schedule_outside_of_the_space_teaches_the_sampler_nothing(plan_of: PlanOf) -> None:
    """Its row has no parameters, and the search goes on."""
    study = plan_of(SEARCHED, *WIDE, "fine_tune.search.space.rate=[0.1, 1]").studies[0]
    assert study.first == ({},)
    rows = searched(study)
    assert rows[0]["parameters"] == "{}"
    assert all("rate" in json.loads(rows[number]["parameters"]) for number in range(1, 12))


# Quasi-random -----------------------------------------------------------------------------------


def test_qmc_fills_the_space_evenly(plan_of: PlanOf) -> None:
    study = plan_of(
        SEARCHED, *QMC, "fine_tune.search.sampler=qmc", "fine_tune.search.trials=9"
    ).studies[0]
    assert study.first == ({},)  # cosine, which is the sweep's own, is not in the space
    points = [suggest(study, {}, number) for number in range(1, 9)]
    assert set(points[0]) == {"rate", "weight_decay", "copied_rate", "layer_decay", "linear.floor"}
    for name, low, high, log in (("layer_decay", 0.5, 1.0, False), ("copied_rate", 0.03, 3, True)):
        places = [float(point[name]) for point in points]
        if log:
            places = [math.log(x / low) / math.log(high / low) for x in places]
        else:
            places = [(x - low) / (high - low) for x in places]
        assert sorted(int(8 * place) for place in places) == list(range(8))


# Pruning ----------------------------------------------------------------------------------------


def test_running_means() -> None:
    assert running_means([0.5, 0.25, 0.75]) == [0.5, 0.375, 0.5]


def test_the_median_prunes_what_is_below_it_once_enough_are_complete(study: Study) -> None:
    rows: Rows = {
        number: row(study, number, {}, values=[mean] * 6, value=mean)
        for number, mean in enumerate((0.5, 0.6, 0.7, 0.8))
    }
    below, above = [0.64], [0.66]
    assert verdict(study, {n: rows[n] for n in range(3)}, 3, [0.1])[0] is False  # too few
    assert verdict(study, rows, 4, below)[0] is True
    assert verdict(study, rows, 4, above)[0] is False
    assert verdict(study, rows, 4, [0.66, 0.1])[0] is False  # the best mean so far counts
    assert verdict(study, rows, 4, [0.64] * 6)[0] is False  # there is nothing left to save


def test_hyperband_keeps_its_rungs_in_the_rows(plan_of: PlanOf) -> None:
    study = plan_of(
        SEARCHED, *WIDE, "fine_tune.search.pruner=hyperband", "fine_tune.search.trials=40"
    ).studies[0]
    rows: Rows = {}
    for number in range(40):
        values: list[float] = []
        pruned, pruner_state = False, {}
        for cell in range(6):
            values.append(0.5 + (number * 7 % 10) / 100 + cell / 1000)
            pruned, pruner_state = verdict(study, rows, number, values)
            if pruned:
                break
        rows[number] = row(
            study,
            number,
            {},
            state="pruned" if pruned else "complete",
            values=values,
            value=running_means(values)[-1],
            pruner_state=json.dumps(pruner_state),
        )
    lengths = [len(one["values"]) for one in rows.values()]
    assert set(lengths) == {1, 3, 6}  # rungs are a factor of three apart
    rungs = [json.loads(one["pruner_state"]) for one in rows.values()]
    assert {"completed_rung_0", "completed_rung_1"} <= set().union(*rungs)


# Evidence ---------------------------------------------------------------------------------------


def test_importances_name_what_matters(study: Study) -> None:
    rows = list(searched(study).values())
    shares = importances(rows)
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda name: shares[name]) in ("rate", "family")
    assert importances(rows[:3]) == {}
    assert importances([{**one, "value": 0.5} for one in rows]) == {}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "study.db"


def test_an_exported_study_is_the_same_study(study: Study, database: Path) -> None:
    rows = list(searched(study).values())
    rows[3] = {**rows[3], "state": "failed", "value": None}
    export(database, {"of fine_tune": rows, "of base_long": rows[:2]})
    storage = optuna.storages.RDBStorage(f"sqlite:///{database}")
    names = sorted(summary.study_name for summary in optuna.get_all_study_summaries(storage))
    assert names == ["of base_long", "of fine_tune"]
    again = optuna.load_study(study_name="of fine_tune", storage=storage)
    mine = rebuild(rows, "x")
    assert again.direction == mine.direction == optuna.study.StudyDirection.MAXIMIZE
    for one, other in zip(again.trials, mine.trials, strict=True):
        assert (one.state, one.value, one.params) == (other.state, other.value, other.params)
        assert one.distributions == other.distributions
        assert one.intermediate_values == other.intermediate_values
    storage.remove_session()
    storage.engine.dispose()


def test_an_export_replaces_no_file(study: Study, database: Path) -> None:
    database.write_text("mine")
    with pytest.raises(LayerwiseError, match=r"study\.db exists; give another name"):
        export(database, {"x": []})
    assert database.read_text() == "mine"
    with pytest.raises(LayerwiseError, match="cannot write"):
        export(database / "below", {"x": list(searched(study, 1).values())})
