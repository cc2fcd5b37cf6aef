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
    like splits. A source has as many as its target, or its first draw serves for all. Default: the
    first images of each class, which is one draw."""


def _parse_weights(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: tuple(x) if isinstance(x, list) else x for key, x in value.items()}
    return {"file": value} if isinstance(value, str) else value


class Weights(StrictModel):
    """A file of weights, as a source without training."""

    file: Annotated[str, Field(min_length=1)]
    """safetensors file or torch `state_dict`: a path, a URI such as `s3://bucket/base.safetensors`,
    `torchvision` for the published weights of the sweep's network, or `torchvision:NAME` for one of
    them, such as `torchvision:IMAGENET1K_V1`."""

    head: tuple[str, ...] = ()
    """Names in the file that are left out: `[fc]`. The last layer of the network is left out in any
    case."""

    mean: tuple[float, ...] = ()
    """Mean of each channel that was subtracted from the images, on the scale of `range`. Default:
    that of torchvision's weights; for other files the recipe's `normalise`."""

    deviation: tuple[float, ...] = ()
    """Deviation of each channel that the images were divided by; given with `mean`."""

    range: tuple[float, float] = (0.0, 1.0)
    """Values of a black and of a white pixel before `mean` was subtracted."""


WeightsField = Annotated[Weights, BeforeValidator(_parse_weights)]
