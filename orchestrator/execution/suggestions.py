"""Suggestions of the next trial of a study, and its pruning. Only this module imports Optuna.

Everything is a function of rows. An Optuna study is built from them in memory, asked once and
thrown away. Its sampler is seeded by the study and the number of the trial.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import LayerwiseError
from orchestrator.plan.search_space import Parameter, Parameters, Tree, Value, walk
from orchestrator.plan.study import Row, Study
from orchestrator.states import State
from trainers.canonical import key

if TYPE_CHECKING:
    import optuna

SEEDS = 2**32  # of numpy's generator
REDUCTION = 3  # of Hyperband: one trial in three is promoted to the next rung


def suggest(study: Study, rows: Mapping[int, Row], number: int) -> dict[str, Value]:
    """Return the parameters of a trial, from the rows of the trials that had to end before it.

    Trials in between count as running: TPE keeps away from them as if they were bad (constant
    liar). Their parameters follow from the same rows.
    """
    if number < len(study.first):
        return dict(study.first[number])
    if study.sampler == "qmc":
        return _point(study, number - len(study.first))
    first = max(0, number - study.at_once + 1)
    tried: dict[int, dict[str, Value]]
    tried = {earlier: json.loads(rows[earlier]["parameters"]) for earlier in range(first)}
    for next_one in range(first, number + 1):
        if next_one < len(study.first):
            tried[next_one] = dict(study.first[next_one])
        else:
            running = [tried[n] for n in range(max(0, next_one - study.at_once + 1), next_one)]
            tried[next_one] = _ask(study, study.known(rows, next_one), running, next_one)
    return tried[number]


def _ask(
    study: Study, rows: Sequence[Row], running: Iterable[Parameters], number: int
) -> dict[str, Value]:
    seed = key("sampler", study.series, number) % SEEDS
    rebuilt = rebuild(rows, study.series, sampler=_sampler(study, seed), pruner=_pruner(study))
    _add_running(rebuilt, study.tree, running)
    trial = rebuilt.ask()
    assert trial.number == number
    return _draw(study.tree, trial)


def _draw(tree: Tree, trial: optuna.Trial) -> dict[str, Value]:
    """Walk the tree and let Optuna choose each parameter that is not fixed."""

    def choose(parameter: Parameter) -> Value:
        if parameter.choices:
            choice = trial.suggest_categorical(parameter.name, parameter.choices)
            assert choice is not None
            return choice
        if parameter.whole:
            return trial.suggest_int(parameter.name, int(parameter.low), int(parameter.high))
        bounds = parameter.low, parameter.high
        return trial.suggest_float(parameter.name, *bounds, log=parameter.log)

    return {p.name: value for p, value in walk(tree, choose) if not p.single}


def _point(study: Study, index: int) -> dict[str, Value]:
    """Return a point of a scrambled Sobol sequence by its index. Earlier points are drawn too."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = key("sampler", study.series) % SEEDS
    with _experimental():
        sampler = optuna.samplers.QMCSampler(scramble=True, seed=seed)
    sequence = optuna.create_study(sampler=sampler)
    lowest = {p.name: value for p, value in walk(study.tree, _lowest) if not p.single}
    space = distributions(study.tree, lowest)
    sequence.add_trial(optuna.create_trial(params=lowest, distributions=space, value=0.0))
    for _ in range(index):
        sequence.ask(space)
    return _draw(study.tree, sequence.ask())


def _lowest(parameter: Parameter) -> Value:
    return parameter.choices[0] if parameter.choices else parameter.low


def verdict(
    study: Study, rows: Mapping[int, Row], number: int, values: Sequence[float]
) -> tuple[bool, dict[str, Any]]:
    """Return whether a trial is pruned after cells with these values, and the pruner's state.

    The pruner sees the running means. A trial whose last cell is complete is never pruned.
    """
    if study.pruner == "none":
        return False, {}
    rebuilt = rebuild(study.known(rows, number), study.series, pruner=_pruner(study))
    _add_running(rebuilt, study.tree, ({} for _ in range(len(rebuilt.trials), number)))
    trial = rebuilt.ask()
    pruned = False
    for step, mean in enumerate(running_means(values), start=1):
        if not pruned:
            trial.report(mean, step)
            pruned = bool(trial.should_prune())
    state = dict(rebuilt.trials[number].system_attrs)
    return pruned and len(values) < len(study.cells), state


def running_means(values: Sequence[float]) -> list[float]:
    """Means of the first value, of the first two, …, of all values."""
    return [sum(values[:count]) / count for count in range(1, len(values) + 1)]


def rebuild(rows: Iterable[Row], name: str, **options: Any) -> optuna.Study:
    """Build an Optuna study from rows of `studies`, given in the order of their numbers.

    `options` are passed to `optuna.create_study`.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options.setdefault("sampler", optuna.samplers.RandomSampler(0))
    study = optuna.create_study(study_name=name, direction="maximize", **options)
    for row in rows:
        study.add_trial(_frozen(row))
    return study


def _frozen(row: Row) -> optuna.trial.FrozenTrial:
    """Return a row as Optuna's record of a trial."""
    import optuna

    states = optuna.trial.TrialState
    state = {
        State.COMPLETE: states.COMPLETE,
        State.PRUNED: states.PRUNED,
        State.FAILED: states.FAIL,
    }
    encoded = json.loads(row["distributions"])
    return optuna.create_trial(
        state=state[row["state"]],
        value=row["value"],
        params=json.loads(row["parameters"]),
        distributions={
            name: optuna.distributions.json_to_distribution(text) for name, text in encoded.items()
        },
        intermediate_values=dict(enumerate(running_means(row["values"]), start=1)),
        system_attrs=json.loads(row["pruner_state"]),
        user_attrs={"cells": row["cells"], "recipe": json.loads(row["recipe"])},
    )


def _add_running(study: optuna.Study, tree: Tree, running: Iterable[Parameters]) -> None:
    import optuna

    for parameters in running:
        study.add_trial(
            optuna.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=dict(parameters),
                distributions=distributions(tree, parameters),
            )
        )


def distributions(tree: Tree, parameters: Parameters) -> dict[str, Any]:
    """Return Optuna's distributions of these parameters, without those that are fixed."""
    import optuna

    def distribution(parameter: Parameter) -> Any:
        if parameter.choices:
            return optuna.distributions.CategoricalDistribution(parameter.choices)
        if parameter.whole:
            low, high = int(parameter.low), int(parameter.high)
            return optuna.distributions.IntDistribution(low, high)
        bounds = parameter.low, parameter.high
        return optuna.distributions.FloatDistribution(*bounds, log=parameter.log)

    if not parameters:
        return {}
    there = walk(tree, lambda parameter: parameters[parameter.name])
    return {p.name: distribution(p) for p, _ in there if not p.single}


def distributions_json(tree: Tree, parameters: Parameters) -> str:
    """Return `distributions` as a JSON object of Optuna's own JSON strings."""
    from optuna.distributions import distribution_to_json

    drawn = distributions(tree, parameters)
    return json.dumps({name: distribution_to_json(drawn[name]) for name in sorted(drawn)})


def _sampler(study: Study, seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    if study.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    with _experimental():  # `group`, which a tree of parameters needs
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=study.startup,
            multivariate=True,
            group=True,
            constant_liar=True,
        )


@contextlib.contextmanager
def _experimental() -> Iterator[None]:
    """Suppress the warning about features that Optuna has called experimental for years."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _pruner(study: Study) -> optuna.pruners.BasePruner:
    import optuna

    match study.pruner:
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=study.startup)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=1, max_resource=len(study.cells), reduction_factor=REDUCTION
            )
        case _:
            return optuna.pruners.NopPruner()


def importances(rows: Sequence[Row]) -> dict[str, float]:
    """Return the share of the values' variance that each parameter accounts for (fANOVA).

    Covers parameters that every trial has. Empty with fewer than four complete trials, or when
    all values are equal.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = [row for row in rows if row["state"] == State.COMPLETE and row["parameters"] != "{}"]
    if len(complete) < 4 or len({row["value"] for row in complete}) < 2:
        return {}
    shares = get_param_importances(
        rebuild(complete, "importances"), evaluator=FanovaImportanceEvaluator(seed=0)
    )
    return {name: float(share) for name, share in shares.items()}


def export(path: Path, studies: Mapping[str, Sequence[Row]]) -> None:
    """Write studies (name → rows) as an Optuna storage, for `optuna-dashboard sqlite:///path`.

    Raises `LayerwiseError` if the file exists or cannot be written.
    """
    if path.exists():
        raise LayerwiseError(f"{path} exists; give another name")
    try:
        path.touch(exist_ok=False)
    except OSError as error:
        raise LayerwiseError(f"cannot write {path}: {error.strerror}") from error
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{path.absolute()}")
    try:
        for name, rows in studies.items():
            rebuild(rows, name, storage=storage)
    finally:
        storage.remove_session()
        storage.engine.dispose()
