"""Form of features: the layers, and the rule that makes a vector of a layer's output.

Standard library only: a plan computes sizes with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainers.canonical import require
from trainers.classifier import Pool

PART_BYTES = 2**26  # of a part's features, about
FLOAT_BYTES = 4

Shape = tuple[int, ...]  # of a layer's output for one image: (C, H, W), (T, C) or (F,)


@dataclass(frozen=True, kw_only=True)
class FeatureForm:
    """Layers, and the rule that makes a vector of the output of each."""

    layers: tuple[int, ...]
    """Numbers of the layers, which are sorted and each taken once."""
    pool: Pool = "average"
    """Rule that makes a vector of a layer's output."""
    most: int | None = None
    """Most values of a vector without pooling; see `grid`. No limit by default."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))
        limits = self.most is None or self.pool == "none"
        require(limits, "most", "it limits the values of pool: none; pooled outputs need no limit")

    def grid(self, shape: Shape) -> Shape | None:
        """Return the places that an output is averaged to first; None if it stays as it is.

        With `most`, this is the finest square grid whose values are no more than that (Goyal et
        al. 2019, section 5.1). Raises `ConfigError` if the channels alone are more.
        """
        if self.pool != "none" or self.most is None or math.prod(shape) <= self.most:
            return None
        channels, places = split_shape(shape)
        for side in range(max(places, default=1), 0, -1):
            grid = tuple(min(side, place) for place in places)
            if channels * math.prod(grid) <= self.most:
                return grid
        require(False, "most", f"the layer has {channels} channels, and most is {self.most}")
        raise AssertionError("require raises")

    def size(self, shape: Shape) -> int:
        """Return the number of values of a vector. Raises `ConfigError` as `grid` does."""
        channels, places = split_shape(shape)
        if self.pool != "none":
            return channels
        grid = self.grid(shape)
        return channels * math.prod(places if grid is None else grid)


def split_shape(shape: Shape) -> tuple[int, Shape]:
    """Return the channels of an output, and its places: rows and columns, or tokens, or none."""
    return (shape[0], shape[1:]) if len(shape) == 3 else (shape[-1], shape[:-1])


def images_of_a_part(values: int) -> int:
    """Return the images of a part, for so many values per image."""
    return max(1, PART_BYTES // (FLOAT_BYTES * values))
