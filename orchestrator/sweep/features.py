"""Outputs of layers that a sweep writes as files."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from orchestrator.sweep.fields import StrictModel, parse_layers
from trainers.classifier import Pool


class Features(StrictModel):
    """Outputs of layers of trained networks, written as Parquet files."""

    layers: Annotated[tuple[int, ...], BeforeValidator(parse_layers)]
    """Numbers of the layers: `3`, `[1, 3, 5]`, `1..7` or `all`. `all` means every layer but the
    last."""

    of: Annotated[tuple[str, ...], Field(min_length=1)] = ("base",)
    """Networks: treatments such as `base` and `transfer+`, names of files of `weights`, and names
    of trials such as `A3B+ s2`. Default: the bases."""

    tasks: tuple[str, ...] = ()
    """Tasks whose images the networks see: `B s2`, or `B` of the network's own split; for named
    tasks `mnist`, or `mnist d1` for a draw, whether a grid uses them or not. Default: the task that
    a network was trained on; for a file of weights, all tasks that it is copied to."""

    pool: Pool = "average"
    """Rule that makes a vector of a layer's output."""

    most: Annotated[int, Field(ge=1)] | None = None
    """Most values of a vector with `pool: none`. A larger output is first averaged over the cells
    of the finest square grid that keeps the limit. Default: no limit."""
