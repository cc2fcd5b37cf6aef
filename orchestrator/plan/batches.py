"""Batches that have more images than there are to train on. Pure."""

from __future__ import annotations

from orchestrator.sweep.schema import Grid
from orchestrator.sweep.source import Path
from trainers.config import DatasetInfo, Task
from trainers.tasks import label_counts


def too_large(grid: Grid, task: Task, data: DatasetInfo, name: str) -> tuple[Path, str] | None:
    """Return key and message of a batch that a task, or a stage of it, cannot fill; None if none.

    `name` is the task's, for the message.
    """
    counts = label_counts(task, data)
    for key, recipe in grid.keyed_recipes.items():
        if recipe.batch > sum(counts):
            return (*key, "batch"), f"expected at most {sum(counts)}, the training images of {name}"
        for index, stage in enumerate(recipe.stages):
            limit = stage.images_per_class
            images = sum(counts if limit is None else [min(limit, count) for count in counts])
            if recipe.batch > images:
                message = f"{name} has {images} such images in all, and a batch {recipe.batch}"
                return (*key, "stages", index, "images_per_class"), message
    return None
