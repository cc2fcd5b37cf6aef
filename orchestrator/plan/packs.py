"""Trials that can be trained together, as lanes of one pack. Pure.

Lanes compute each layer together. That pays for small networks, whose layers take less time than
the calls that start them. Which trials are alike depends on the plan alone, so that a trial gives
the same bits in every run of the same sweep.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial

LANES = 16
"""Lanes of a pack under `lanes: auto`, at most. More gained nothing on a CPU."""

SMALL = 2e8
"""Multiply-adds of one step, forward, up to which `lanes: auto` trains trials together.

A larger network keeps the processor busy by itself.
"""


def packs_of(plan: Plan) -> Mapping[str, int]:
    """Return the kind of pack of each trial that can be a lane, by its id. Kinds are numbered.

    The cells of searches are among them; whatever schedule is tried, a cell is of the same kind.
    Trials of one kind have networks of one shape, images of one shape, and equal numbers of images
    per step, steps and evaluations. They may differ in treatment, n, classes, rates and seeds.
    """
    if plan.sweep.lanes == 1:
        return {}
    cells = {cell.id: cell for study in plan.studies for cell in study.cells}
    kinds = ((id, _kind(plan, trial)) for id, trial in (cells | plan.trials).items())
    numbers: dict[Hashable, int] = {}
    return {id: numbers.setdefault(kind, len(numbers)) for id, kind in kinds if kind is not None}


def most_lanes(plan: Plan) -> int:
    """Return the largest number of lanes of a pack."""
    return plan.sweep.lanes or LANES


def obstacle(plan: Plan, trial: Trial) -> str | None:
    """Return why a trial is trained alone; None if it can be a lane."""
    training, recipe = trial.training, trial.training.recipe
    if plan.sweep.lanes == 1:
        return "lanes: 1"
    if trial.request.cpu > 1 and not trial.request.gpu:
        return "several threads"  # whose sums would depend on the number of lanes
    if recipe.detector:
        return "a detector"
    if recipe.classifier:
        return "a classifier on features"
    if training.treatment.is_stitched:
        return "a stitched network"
    if recipe.l2_sp or recipe.feature_l2:
        return "a penalty"
    if plan.sweep.lanes is None and recipe.batch * sum(plan.macs(trial)) > SMALL:
        return "a large network"
    return None


def _kind(plan: Plan, trial: Trial) -> Hashable:
    if obstacle(plan, trial):
        return None
    training, recipe = trial.training, trial.training.recipe
    return (
        *(training.network, training.source_network, len(training.target.labels)),
        *(training.target.dataset, training.target.form, recipe.crop),
        *(recipe.batch, recipe.steps, recipe.evaluate_every, training.tested),
        *(recipe.precision, recipe.optimiser, recipe.loss, recipe.label_smoothing),
        *(training.schedule_from, trial.request.model_dump_json()),
        *(trial.data_root, trial.source_root),
    )
