"""Size of features, for all images of a task: of a classifier, or written as files. Pure."""

from __future__ import annotations

from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from trainers.config import Task
from trainers.feature_form import FLOAT_BYTES, FeatureForm
from trainers.tasks import training_images


def all_images(plan: Plan, task: Task) -> int:
    """Return the number of training, validation and test images of a task."""
    data = plan.datasets[task.dataset]
    classes = task.classes + task.rest
    others = sum(data.validation[index] + data.test[index] for index in classes)
    return training_images(task, data) + others


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
        from trainers.forms import shape_of  # imports torch

        channels, *sides = shape_of(target.form, data.shape)
        shape = (channels, recipe.crop, recipe.crop) if recipe.crop else (channels, *sides)
    form = FeatureForm(layers=(n,), pool=recipe.classifier.pool)
    return FLOAT_BYTES * all_images(plan, target) * form.size(shape)
