"""Named tasks, and the form in which networks see their images."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from orchestrator.sweep.components import DataField
from orchestrator.sweep.fields import Seed, StrictModel
from orchestrator.sweep.source import shown


def _parse_classes(value: Any) -> tuple[int | str, ...] | None:
    if value == "all":
        return None
    if isinstance(value, list) and value and all(type(item) in (int, str) for item in value):
        return tuple(value)
    raise ValueError(f"expected all or a list of class indices or names, found {shown(value)}")


class NamedTask(StrictModel):
    """A task by name: a dataset, its classes, and a sample of its training images."""

    dataset: DataField
    """Dataset of the task, with its own `root`: a name, or a mapping of a name and options."""

    classes: Annotated[tuple[int | str, ...] | None, BeforeValidator(_parse_classes)] = None
    """Classes to tell apart, by index or by name, in the order of the outputs; at least two.
    Default: `all`."""

    images_per_class: Annotated[int, Field(ge=1)] | None = None
    """Training images of each class. Default: all."""

    images: Annotated[int, Field(ge=2)] | None = None
    """Training images in all, instead of `images_per_class`. Default: all."""

    balanced: bool = True
    """Share `images` out equally. Otherwise the classes keep their shares of the dataset."""

    draws: tuple[Seed, ...] = ()
    """Seeds that draw the training images at random. Each seed is one draw, and draws are repeated
    like splits. Default: the first images of each class, which is one draw."""
