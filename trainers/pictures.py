"""Pictures of a network: filters of its first layer, and a map of images by a layer's outputs."""

from __future__ import annotations

import base64
import io
import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from trainers.config import Task
from trainers.datasets import DataError, Dataset, load
from trainers.features import Extractor
from trainers.results import Runtime

Projection = Literal["tsne", "pca"]
MOST_IMAGES = 400  # on a map
THUMBNAIL = 48  # pixels, the longest side of a small image
FILTER = 120  # pixels, about, of a drawn filter
GAP = 6  # pixels between drawn filters
GREY = 225  # between filters
REDUCED = 50  # principal components that t-SNE starts from (van der Maaten and Hinton 2008)


class Sheet(NamedTuple):
    """A picture of filters."""

    address: str
    """Data URI of a PNG file."""
    width: int
    height: int


class Map(NamedTuple):
    """Images of a task's validation set at two coordinates each, near where outputs are alike."""

    places: np.ndarray
    """(N, 2)."""
    images: np.ndarray
    """(N,): indices into the dataset's validation images."""
    classes: list[str]
    """Names of the images' classes; that of the rest of a single class is `rest`."""
    thumbnails: list[str]
    """The images as data URIs of PNG files."""


def first_filters(network: nn.Sequential) -> np.ndarray:
    """Return the filters of layer 1 as bytes (F, h, w) or, of colour images, (F, h, w, 3).

    The least weight of each filter is black, its greatest white. Filters of other channels than
    one or three are means over channels. A filter of equal weights is grey. Raises `DataError` for
    a layer that is no convolution.
    """
    convolution = next((x for x in network[0].modules() if isinstance(x, nn.Conv2d)), None)
    if convolution is None:
        raise DataError("layer 1 is no convolution, so it has no filters to draw")
    weights = convolution.weight.detach().cpu().double()
    weights = weights.permute(0, 2, 3, 1)
    if weights.shape[3] != 3:
        weights = weights.mean(3)
    values = weights.flatten(1)
    low, span = values.amin(1), values.amax(1) - values.amin(1)
    places = (-1, *[1] * (weights.ndim - 1))
    scaled = (weights - low.view(places)) / torch.where(span > 0, span, 1.0).view(places)
    scaled = torch.where(span.view(places) > 0, scaled, 0.5)
    return np.asarray((255 * scaled).round().to(torch.uint8).numpy())


def sheet(filters: np.ndarray) -> Sheet:
    """Return filters (F, h, w) or (F, h, w, 3) side by side in rows; a weight is a square."""
    count, height, width = filters.shape[:3]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    factor = max(1, FILTER // max(height, width))
    large = filters.repeat(factor, 1).repeat(factor, 2)
    down, across = height * factor + GAP, width * factor + GAP
    image = np.full((rows * down + GAP, columns * across + GAP, *filters.shape[3:]), GREY, np.uint8)
    for number, one in enumerate(large):
        top, left = number // columns * down + GAP, number % columns * across + GAP
        image[top : top + height * factor, left : left + width * factor] = one
    return Sheet(_uri(image), image.shape[1], image.shape[0])


def project(features: np.ndarray, projection: Projection) -> np.ndarray:
    """Return coordinates (N, 2) of features (N, F): the first principal components, or t-SNE.

    t-SNE begins with the first two of 50 principal components, has perplexity 30, at most a third
    of the images, and always the same seed. Features that are the same for all images have all
    one place. Raises `DataError` for fewer than four images and for values that are not finite.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(features) < 4:
        raise DataError(f"a map needs four validation images, there are {len(features)}")
    if not np.isfinite(features).all():
        raise DataError("outputs that are not finite have no map: the network diverged")
    if (features == features[0]).all():
        return np.zeros((len(features), 2))
    values = features.astype(np.float64)
    parts = PCA(min(REDUCED, *values.shape), svd_solver="full").fit_transform(values)
    two = np.pad(parts[:, :2], ((0, 0), (0, max(0, 2 - parts.shape[1]))))
    if projection == "pca":
        return two
    estimator = TSNE(
        init=(two / two[:, 0].std() * 1e-4).astype(np.float32),
        perplexity=min(30.0, len(features) / 3),
        random_state=0,
    )
    with threadpool_limits(1):  # more threads gain nothing for so few images
        return np.asarray(estimator.fit_transform(parts.astype(np.float32)))


def feature_map(
    extractor: Extractor, task: Task, on: Runtime, projection: Projection, most: int = MOST_IMAGES
) -> Map:
    """Return the map of at most `most` validation images, evenly taken from all of them."""
    (layer,) = extractor.form.layers
    images = extractor.images["validation"]
    rows = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).astype(int))
    part = extractor.at("validation", torch.from_numpy(rows))
    stored = load(task.dataset, on.data_root)
    return Map(
        project(part.features[layer], projection),
        part.images,
        [_class(stored, task, label) for label in part.labels],
        thumbnails(stored, part.images),
    )


def thumbnails(stored: Dataset, indices: np.ndarray) -> list[str]:
    """Return validation images of a dataset as data URIs of small PNG files.

    Floats are scaled to the darkest and lightest of these images.
    """
    pixels = stored.validation.images
    if isinstance(pixels, np.ndarray):
        images = pixels[indices]
    else:
        images = np.empty((len(indices), *pixels.shape[1:]), np.uint8)
        pixels.gather(indices, images)
    if images.dtype != np.uint8:
        low, high = images.min(), images.max()
        images = np.round((images - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    if images.shape[1] != 3:
        return [_uri(image[0], THUMBNAIL) for image in images]
    return [_uri(image.transpose(1, 2, 0), THUMBNAIL) for image in images]


def _class(stored: Dataset, task: Task, label: int) -> str:
    index = task.labels[label]
    return "rest" if index is None else stored.classes[index]


def _uri(pixels: np.ndarray, longest: int | None = None) -> str:
    """Return pixels (h, w) or (h, w, 3) as the data URI of a PNG file of a given longest side."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    if longest is not None:
        scale = longest / max(image.size)
        width, height = (max(1, round(scale * side)) for side in image.size)
        image = image.resize(
            (width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
        )
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
