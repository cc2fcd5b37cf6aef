"""Pictures of a network: filters pixel by pixel, coordinates of features, small images."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from trainers import pictures
from trainers.datasets import DataError, Dataset, Subset
from trainers.networks import Network
from trainers.pictures import first_filters, project, sheet, thumbnails
from trainers.streams import InMemory


def network(weights: list[object]) -> Network:
    """A network whose first layer has a convolution with these weights (F, C, h, w)."""
    values = torch.tensor(weights, dtype=torch.float32)
    convolution = nn.Conv2d(values.shape[1], len(values), values.shape[2:])
    convolution.weight.data = values
    return Network.of([nn.Sequential(convolution, nn.ReLU()), nn.Linear(1, 2)])


def pixels(address: str) -> np.ndarray:
    """The pixels of a data URI."""
    kind, _, data = address.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_each_filter_goes_from_black_to_white() -> None:
    filters = first_filters(network([[[[-1, 0], [1, 3]]], [[[5, 5], [5, 5]]]]))
    assert filters.tolist() == [[[0, 64], [128, 255]], [[128, 128], [128, 128]]]


def test_filters_of_colour_images_have_colours_and_others_are_means() -> None:
    red, green, blue = [[0.0, 1.0]], [[0.5, 0.0]], [[0.0, 0.0]]
    assert first_filters(network([[red, green, blue]])).tolist() == [[[[0, 128, 0], [255, 0, 0]]]]
    assert first_filters(network([[red, green]])).tolist() == [[[0, 255]]]


def test_a_first_layer_without_filters() -> None:
    layers = Network.of([nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), nn.Conv2d(1, 1, 1)])
    with pytest.raises(DataError, match="layer 1 is no convolution, so it has no filters to draw"):
        first_filters(layers)


def test_a_sheet_has_a_square_of_pixels_per_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "FILTER", 2)
    monkeypatch.setattr(pictures, "GAP", 1)
    address, width, height = sheet(np.array([[[0, 255]], [[1, 2]], [[3, 4]]], np.uint8))
    g = pictures.GREY
    assert (width, height) == (7, 5)
    assert pixels(address).tolist() == [
        [g, g, g, g, g, g, g],
        [g, 0, 255, g, 1, 2, g],
        [g, g, g, g, g, g, g],
        [g, 3, 4, g, g, g, g],
        [g, g, g, g, g, g, g],
    ]
    monkeypatch.setattr(pictures, "FILTER", 4)
    assert pixels(sheet(np.array([[[7, 9]]], np.uint8)).address)[1:3, 1:5].tolist() == [
        [7, 7, 9, 9],
        [7, 7, 9, 9],
    ]
    assert pixels(sheet(np.zeros((5, 3, 3, 3), np.uint8)).address).shape == (9, 13, 3)


def test_principal_components_keep_the_distances_of_a_plane() -> None:
    random = np.random.default_rng(0)
    plane = random.normal(size=(9, 2)) @ np.linalg.qr(random.normal(size=(20, 2)))[0].T
    plane -= plane.mean(0)
    two = project(plane, "pca")
    np.testing.assert_allclose(two @ two.T, plane @ plane.T, atol=1e-12)


def test_t_sne_keeps_clusters_apart_and_is_the_same_each_time() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(40, 80)).astype(np.float32)
    features[20:, 0] += 100
    places = project(features, "tsne")
    assert places.shape == (40, 2)
    middles = places[:20].mean(0), places[20:].mean(0)
    radius = max(np.linalg.norm(places[:20] - middles[0], axis=1))
    assert np.linalg.norm(middles[0] - middles[1]) > 2 * radius
    np.testing.assert_array_equal(project(features, "tsne"), places)


@pytest.mark.parametrize("projection", ["tsne", "pca"])
def test_little_to_project(projection: pictures.Projection) -> None:
    assert project(np.full((5, 3), 0.1), projection).tolist() == [[0, 0]] * 5
    line = project(np.array([[0.0], [1.0], [2.0], [9.0]]), projection)
    assert line.shape == (4, 2)
    assert np.isfinite(line).all()
    with pytest.raises(DataError, match="needs four validation images, there are 3"):
        project(np.zeros((3, 2)), projection)
    with pytest.raises(DataError, match="no map: the network diverged"):
        project(np.full((5, 2), np.nan), projection)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("streamed", [False, True])
def test_small_images(channels: int, streamed: bool) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (5, channels, 6, 12), np.uint8)
    subset = Subset(InMemory(stored) if streamed else stored, np.zeros(5, int))
    dataset = Dataset(("0",), subset, subset, subset)
    for index, address in zip([3, 1], thumbnails(dataset, np.array([3, 1])), strict=True):
        expected = stored[index].transpose(1, 2, 0).repeat(4, 0).repeat(4, 1)
        np.testing.assert_array_equal(pixels(address), expected.squeeze())


def test_small_images_of_floats_are_scaled_together() -> None:
    stored = np.array([[[[-1.0]]], [[[0.0]]], [[[3.0]]]], np.float32).repeat(48, 2).repeat(48, 3)
    subset = Subset(stored, np.zeros(3, int))
    addresses = thumbnails(Dataset(("0",), subset, subset, subset), np.arange(3))
    assert [int(pixels(address)[0, 0]) for address in addresses] == [0, 64, 255]
