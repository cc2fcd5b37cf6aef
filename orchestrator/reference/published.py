"""The published results of Yosinski et al. 2014, in tables with our schemas.

They come from the training logs in the authors' repository (github.com/yosinski/convnet_transfer at
9838c27). `results.csv` has one line per directory of its `results/`, `curves.parquet` one row per
test. There accuracies and losses are integers in units of 1e-9 and 1e-6, as precise as the logs
print them. The minibatch losses of the logs are left out, because our training losses are means
between tests. A directory whose log is empty is `lost`: its network was planned but not published.

The authors tested on the 50,000 validation images of ILSVRC 2012 and had no other test set. So test
and validation columns hold the same numbers: `top1` and `val_top1` after the last step, and
`val_mean10`, the mean of the ten best of all tests, which the paper prints and plots.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import math
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.states import State
from orchestrator.store.schemas import CURVES, MEMBERS, TEXT, TRIALS, YES, recipe_columns, to_table
from trainers.canonical import digest
from trainers.chance import at_chance
from trainers.datasets.imagenet import groups
from trainers.recipe import Recipe, Schedule
from trainers.splits import known_split, random_split, whole

SWEEP = "paper"
METRIC = "val_mean10"  # the paper's own
DIRECTORY = re.compile(
    r"(?:half|transfer(?P<tuned>-ft)?)(?P<split>\d|natman)(?P<first>[AB])"
    r"(?:\d?(?P<target>[AB])_1_(?P<n>\d))?"
    r"|nolearn_1_(?P<random>\d)|reduced-(?P<images>\d+)|netbase"
)
NATURAL_MANMADE = "natural_manmade"  # A is natural, B is man-made, as in the file names
CLASSES = {"random": (500, 500), NATURAL_MANMADE: (449, 551), "whole": (1000, 0)}
VALIDATION_IMAGES = 50  # per class
LABELS = ("division", "split", "source", "target", "treatment", "n", "frozen", "images_per_class")

STEPS, SHORT = 450_000, 200_000  # of networks with all images, and with fewer
ALL_IMAGES = 1300  # of each class, in the recipe of fewer steps: the directory reduced-1300
TESTS = 1000  # steps between tests
RECIPE = Recipe(
    optimiser="caffe_sgd",
    rate=0.01,
    schedule=Schedule(family="step", gamma=0.1, every=100_000, count_from=1),
    momentum=0.9,
    weight_decay=5e-4,
    batch=256,
    steps=STEPS,
    evaluate_every=TESTS,
    init="network",
    crop=227,
    mirror=True,
    pixels="mean_image",
)

NOTES = {  # descriptions of columns that differ from ours: the paper had no test set of its own
    "id": "hash of the directory's name, as in `parent`",
    "seed": "0: there is one network each, and the authors set no seed",
    "outcome": "complete, or lost if no log was published",
    "top1": "accuracy on the validation images after the last step: there was no other test set",
    "loss": "loss (cross-entropy, nats) on the validation images after the last step",
    "top1_at_best": "the same as val_best: there was no other test set",
    "val_top1": "the same as top1",
    "val_loss": "the same as loss",
    "val_mean10": "mean of the ten best tests of the whole run: what the paper prints and plots",
    "at_chance": "ten lowest losses not below 0.98 ln(classes), and top1 no better than chance",
    "images_per_second": "training images per second, from the median time of a step in the log",
}


class Tables(NamedTuple):
    """Rows in the schemas of `sweeps`, `trials` and `curves`."""

    members: pa.Table
    trials: pa.Table
    curves: pa.Table


PAPER = pa.schema(
    [
        field.with_metadata({"description": NOTES[field.name]}) if field.name in NOTES else field
        for field in TRIALS
    ]
    + [
        pa.field(name, kind, metadata={"description": text})
        for name, kind, text in (
            ("directory", TEXT, "directory in the authors' repository, below results/"),
            ("published", YES, "true if the repository has a log of the network"),
        )
    ]
)


@functools.cache
def tables() -> Tables:
    """Return the 170 networks, and the curves of the 148 that have a log."""
    rows = _rows()
    members = to_table("sweeps", [{name: row[name] for name in MEMBERS.names} for row in rows])
    trials = to_table("trials", [{name: row[name] for name in TRIALS.names} for row in rows])
    return Tables(members, trials, _curves(rows))


def paper() -> pa.Table:
    """Return the view `paper`: columns of `trials`, `directory` and `published`; see `PAPER`."""
    return pa.Table.from_pylist(_rows(), schema=PAPER)


def published(labels: Mapping[str, Any]) -> bool | None:
    """Return whether the paper's repository has a log of the network with these `LABELS`.

    None if the authors did not plan such a network.
    """
    return _published().get(tuple(labels[name] for name in LABELS))


@functools.cache
def _published() -> dict[tuple[Any, ...], bool]:
    return {tuple(row[name] for name in LABELS): row["published"] for row in _rows()}


@functools.cache
def _rows() -> tuple[dict[str, Any], ...]:
    text = files(__package__).joinpath("results.csv").read_text(encoding="utf-8")
    return tuple(_row(line) for line in csv.DictReader(io.StringIO(text)))


def _row(line: Mapping[str, str]) -> dict[str, Any]:
    """Return the row of a network from its directory's name and the figures of its log."""
    labels = labels_of(line["directory"])
    recipe, seconds = _recipe(labels), _number(line["seconds_per_step"])
    division, target = labels["division"], labels["target"]
    classes = CLASSES[division]["AB".index(target)]
    top1, mean10, best = (_number(line[f"{name}_top1"]) for name in ("last", "mean10", "best"))
    loss, lowest = _number(line["last_loss"]), _number(line["lowest_train_loss"])
    known, images = mean10 is not None, VALIDATION_IMAGES * classes
    results = {
        "outcome": State.COMPLETE if known else State.LOST,
        "error_type": None if known else "NotPublished",
        "error_message": None if known else "the authors' repository has no log of this network",
        "dataset": "imagenet",
        "network": "caffenet",
        "classes": classes,
        "top1": top1,
        "loss": loss,
        "top1_at_best": best,
        "val_top1": top1,
        "val_loss": loss,
        "val_best": best,
        "val_best_step": int(line["best_step"]) if known else None,
        "val_mean10": mean10,
        "at_chance": None
        if lowest is None or top1 is None
        else at_chance(lowest, math.log(classes), round(top1 * images), images, 1 / classes),
        "images": recipe.batch * (recipe.steps or 0) if known else None,
        "images_per_second": None if seconds is None else recipe.batch / seconds,
        "device": "K20" if known else None,
    }
    extra = {"directory": line["directory"], "published": known}
    return dict.fromkeys(TRIALS.names) | labels | recipe_columns(recipe) | results | extra


def labels_of(directory: str) -> dict[str, Any]:
    """Return the identity columns of a directory, such as `transfer0A0B_1_3`.

    `1_3` are the first and the last layer that is copied; with `-ft` all layers learn.
    """
    match = DIRECTORY.fullmatch(directory)
    assert match, directory
    tuned, split, first, target, n, random, images = match.groups()
    source, parent = (first, f"half{split}{first}") if target else (None, None)
    n, target = int(n or random or 0), target or first or "A"
    division = "random" if split and split.isdigit() else NATURAL_MANMADE if split else "whole"
    name = {"random": f"s{split}"}.get(division, division)
    kind = "random" if random else "base"
    if source:
        kind = "selffer" if source == target else "transfer"
    text = f"{source or 'R'}{n}{target}{'+' if tuned else ''}" if n else target
    return {
        "id": digest([SWEEP, directory], 16),
        "name": f"{text} {name}" + (f" k{int(images)}" if images else ""),
        "sweep": SWEEP,
        "split": name,
        "split_hash": _split_hash(split),
        "division": division,
        "images_per_class": int(images) if images else None,
        "source": source,
        "target": target,
        "treatment": kind,
        "n": n,
        "frozen": n > 0 and not tuned,
        "seed": 0,
        "parent": digest([SWEEP, parent], 16) if parent else None,
    }


@functools.cache
def _split_hash(split: str | None) -> str:
    """Return the `split_hash` of the same split in our sweeps of 1000 classes."""
    if split is None:
        return whole(1000).hash
    if split.isdigit():
        return random_split(int(split), 1000).hash
    return known_split("natural_manmade", tuple(groups())).hash


def _recipe(labels: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a network. Copies subtract the mean image of their source."""
    if labels["images_per_class"]:
        schedule = dataclasses.replace(RECIPE.schedule, every=64_000)
        return dataclasses.replace(RECIPE, rate=0.0125, schedule=schedule, steps=SHORT)
    return dataclasses.replace(RECIPE, normalise="source") if labels["source"] else RECIPE


def _curves(rows: tuple[dict[str, Any], ...]) -> pa.Table:
    with files(__package__).joinpath("curves.parquet").open("rb") as file:
        logs = pq.read_table(file)
    known = {row["directory"]: row for row in rows}
    directories = logs["directory"].to_pylist()
    step = logs["step"].to_numpy().astype(np.int64)
    short = np.array([known[name]["steps"] == SHORT for name in directories])
    rate = np.where(short, 0.0125, 0.01) * 0.1 ** (step // np.where(short, 64_000, 100_000))
    columns = {
        "id": pa.array([known[name]["id"] for name in directories]),
        "step": step,
        "images": step * RECIPE.batch,
        "rate": rate,
        "val_loss": logs["val_loss_e6"].to_numpy() / 1e6,
        "val_top1": logs["val_top1_e9"].to_numpy() / 1e9,
    }
    missing = {field.name: pa.nulls(len(step), field.type) for field in CURVES}
    return pa.table(missing | columns, schema=CURVES)


def _number(text: str) -> float | None:
    return float(text) if text else None
