"""Sizes of vectors, and the grid to which outputs are averaged, by hand."""

from __future__ import annotations

import pytest
import torch

from trainers.canonical import ConfigError
from trainers.feature_form import FeatureForm
from trainers.features import vectors


@pytest.mark.parametrize(
    ("shape", "pool", "most", "grid", "size"),
    [
        ((3, 6, 6), "none", None, None, 108),
        ((3, 6, 6), "none", 108, None, 108),
        ((3, 6, 6), "none", 107, (5, 5), 75),
        ((3, 6, 6), "none", 30, (3, 3), 27),
        ((3, 6, 2), "none", 30, (5, 2), 30),
        ((3, 6, 6), "none", 3, (1, 1), 3),
        ((3, 6, 6), "average", None, None, 3),
        ((3, 6, 6), "maximum", None, None, 3),
        ((7, 4), "none", 12, (3,), 12),
        ((7, 4), "average", None, None, 4),
        ((5,), "none", 5, None, 5),
        ((5,), "maximum", None, None, 5),
    ],
)
def test_sizes_by_hand(
    shape: tuple[int, ...], pool: str, most: int | None, grid: tuple[int, ...] | None, size: int
) -> None:
    form = FeatureForm(layers=(1,), pool=pool, most=most)  # type: ignore[arg-type]
    assert (form.grid(shape), form.size(shape)) == (grid, size)
    assert vectors(torch.zeros((2, *shape)), form).shape == (2, size)


def test_places_are_averaged_channel_by_channel() -> None:
    outputs = torch.arange(16.0).reshape(1, 1, 4, 4)
    form = FeatureForm(layers=(1,), pool="none", most=4)
    assert vectors(outputs, form).tolist() == [[2.5, 4.5, 10.5, 12.5]]
    tokens = torch.tensor([[[1.0, 10.0], [3.0, 20.0], [5.0, 30.0], [7.0, 40.0]]])
    assert vectors(tokens, form).tolist() == [[2.0, 15.0, 6.0, 35.0]]


@pytest.mark.parametrize("shape", [(6, 4, 4), (6,), (3, 6)])
def test_channels_above_the_limit_are_refused(shape: tuple[int, ...]) -> None:
    form = FeatureForm(layers=(1,), pool="none", most=5)
    with pytest.raises(ConfigError, match=r"^the layer has 6 channels, and most is 5$"):
        form.size(shape)


def test_layers_are_sorted_and_a_limit_belongs_to_no_pooling() -> None:
    assert FeatureForm(layers=(5, 1, 5)).layers == (1, 5)
    with pytest.raises(ConfigError, match="it limits the values of pool: none"):
        FeatureForm(layers=(1,), most=5)
