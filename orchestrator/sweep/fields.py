"""Parts that the models of a sweep file share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
A_NAME = "expected up to 64 letters, digits, _ and -, the first a letter or digit"

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
