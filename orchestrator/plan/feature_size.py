"""Size of the features that a classifier sees, for all images of its task. Pure."""

from __future__ import annotations

import math

from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from trainers.forms import shape_of
from trainers.tasks import training_images

FLOAT_BYTES = 4


def feature_bytes(plan: Plan, trial: Trial) -> int:
    """Return the bytes of the features of a trial; 0 for a trial without a classifier."""
    training = trial.training
    recipe, target, n = training.recipe, training.target, training.treatment.n
    if recipe.classifier is None:
        return 0
    data = plan.datasets[target.dataset]
    if n:
        shape = plan.layers(trial).shapes[n - 1]
    else:
        channels, *sides = shape_of(target.form, data.shape)
        shape = (channels, recipe.crop, recipe.crop) if recipe.crop else (channels, *sides)
    pooled = recipe.classifier.pool != "none"
    size = {3: shape[0], 2: shape[-1]}.get(len(shape)) if pooled else None
    classes = target.classes + target.rest
    images = training_images(target, data)
    images += sum(data.validation[index] + data.test[index] for index in classes)
    return FLOAT_BYTES * images * (math.prod(shape) if size is None else size)
