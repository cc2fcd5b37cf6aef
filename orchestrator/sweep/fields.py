"""Parts that the models of a sweep file share."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.sweep.source import shown

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
A_NAME = "expected up to 64 letters, digits, _ and -, the first a letter or digit"
MOST_LAYERS = 10_000  # in a range such as 1..7

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # numpy's legacy generators take 32 bits
Letter = Literal["A", "B"]  # the halves of a split


class StrictModel(BaseModel):
    """A frozen model without unknown keys, conversions between types, or infinite numbers."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def parse_layers(value: Any) -> tuple[int, ...]:
    """Return the numbers of layers that a file gives; none for `all`. Raises `ValueError`."""
    if value == "all":
        return ()
    if isinstance(value, str) and (match := re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", value)):
        first, last = map(int, match.groups())
        if first <= last < first + MOST_LAYERS:
            return tuple(range(first, last + 1))
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return tuple(value)
    raise ValueError(f"expected layers such as 1..7, [1, 3, 5] or all, found {shown(value)}")
