"""Work that trainings share: passes through frozen layers that are equal in several of them. Pure.

Without crops and mirrors the outputs of frozen layers are computed once per image, for all trials
that copy layers of one base for one task. Otherwise lanes of a pack share the pass of each batch.
Trials without lanes share outputs as well, if one worker trains them after each other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable

from orchestrator.plan.feature_size import all_images
from orchestrator.plan.measurement import view_of
from orchestrator.plan.packs import packs_of
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from trainers.config import training_macs

KEPT_BYTES, DISK_BYTES = 2**28, 2**34
"""Largest outputs of frozen layers that a worker keeps (`trainers.results.Runtime`)."""


def executed_flops(plan: Plan, ids: Collection[str]) -> float:
    """Return the floating-point operations of training `ids` that are executed, at the least.

    Every pass that trials can share is counted once. `Plan.flops` counts each trial by itself.
    """
    packs = packs_of(plan) if ids else {}
    flops = 0.0
    shared: dict[Hashable, float] = {}
    for id in ids:
        trial = plan.trials[id]
        frozen = _frozen_layers(trial)
        if not frozen:
            flops += plan.flops(trial)
            continue
        macs = plan.macs(trial)
        below = sum(macs[:frozen])
        flops += 2.0 * (training_macs(macs, frozen) - below) * trial.images
        if _is_kept(plan, trial, frozen):
            passes, place = all_images(plan, trial.training.target), _place(trial)
        else:
            passes, place = trial.images, (_place(trial), packs.get(id, id))
        shared[place] = max(shared.get(place, 0.0), 2.0 * below * passes)
    return flops + sum(shared.values())


def _frozen_layers(trial: Trial) -> int:
    """Return how many layers of a trial are frozen and can be shared."""
    recipe = trial.training.recipe
    if recipe.classifier or recipe.detector or trial.training.treatment.is_stitched:
        return 0
    return trial.training.frozen_layers


def _place(trial: Trial) -> Hashable:
    """Return what equal passes have in common: the layers' weights and the images."""
    training = trial.training
    origin = training.parent or training.network
    return origin, tuple(view_of(training)), training.seed, training.adapt


def _is_kept(plan: Plan, trial: Trial, frozen: int) -> bool:
    training = trial.training
    if training.recipe.crop is not None or training.recipe.mirror:
        return False
    values = math.prod(plan.layers(trial).shapes[frozen - 1])
    most = KEPT_BYTES if trial.request.gpu else DISK_BYTES
    return 4 * values * all_images(plan, training.target) <= most
