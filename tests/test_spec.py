"""Sweep files: what each mistake says, and what valid ones mean."""

from __future__ import annotations

import errno
import importlib
import linecache
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from orchestrator import experiment, spec, sweep_file
from orchestrator.errors import SweepError
from orchestrator.inline import run_inline
from orchestrator.plan import Plan
from orchestrator.progress import RunProgress
from orchestrator.run import Run
from orchestrator.store import Store
from trainers import datasets
from trainers.config import Schedule

VALID = """\
name: tiny
dataset: digits
network: conv8
splits: {random: [0]}
treatments: [base, transfer]
layers: [1, 2]
recipe: {rate: 0.03, steps: 4}
"""

OWN_CODE = """\
import numpy as np
from torch import nn

value = 3
arrays = lambda size, labels: (np.zeros((len(labels), size, size)), labels)


def no_mapping():
    return 7


def no_images():
    raise RuntimeError("no such disk")


def text_labels():
    return dict.fromkeys(("train", "validation", "test"), (np.zeros((2, 8, 8)), ["a", "b"]))


def too_few_labels():
    return dict.fromkeys(("train", "validation", "test"), (np.zeros((4, 8, 8)), [0, 1]))


def one_class():
    return dict.fromkeys(("train", "validation", "test"), arrays(8, [0, 0]))


def untested_class():
    both = arrays(8, [0, 1, 2, 3])
    return {"train": both, "validation": both, "test": arrays(8, [0, 0, 0, 0])}


def seven(*, classes, shape):
    return 7


def weightless(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, 9)), nn.ReLU(), nn.Linear(9, classes)]


def misfit(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, 5)), nn.Linear(6, classes)]


def raising(*, classes, shape):
    raise KeyError("depth")


def one_layer(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, classes))]


def three_outputs(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, 5)), nn.Linear(5, 3)]


def wide(*, classes, shape, width: int = 3):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, width)), nn.Linear(width, classes)]
"""

GRID_KEYS = "splits, targets, treatments, layers, images_per_class, seeds, recipe, fine_tune"
TOP_KEYS = (
    f"{GRID_KEYS}, name, dataset, network, target_network, grids, reference, resources, keep, "
    "checkpoint_seconds"
)
NO_SPLITS = "the grid is empty: expected seeds under random, known or named splits, or whole"
RECIPE_KEYS = (
    "optimiser, rate, schedule, momentum, weight_decay, batch, steps, epochs, evaluate_every, "
    "dropout, init, precision, normalise, init_random, crop, mirror, pixels, "
    "frozen_statistics, frozen_affine, copied_rate, layer_decay, fresh_first"
)
TREATMENTS = "base, base_long, selffer, selffer+, transfer, transfer+, random"
A_NAME = "expected up to 64 letters, digits, _ and -, the first a letter or digit"
A_COMPONENT = "expected a name, package.module:function, or a mapping with a name"
AN_OPTION = "expected a finite number, a text, true or false, or a list"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def valid_but(*lines: str) -> str:
    """The valid sweep with these lines for those of the same keys, or at its end (line 8)."""
    kept = VALID.splitlines()
    for line in lines:
        key = line.partition(":")[0] + ":"
        found = [number for number, old in enumerate(kept) if old.startswith(key)]
        if found:
            kept[found[0]] = line
        else:
            kept.append(line)
    return "\n".join(kept) + "\n"


def valid_without(key: str) -> str:
    return "".join(line for line in VALID.splitlines(True) if not line.startswith(f"{key}:"))


def named(halves: str) -> str:
    return valid_but(f"splits: {{named: {halves}}}")


def recipe(items: str) -> str:
    return valid_but(f"recipe: {{{items}}}")


def schedule(items: str) -> str:
    return recipe(f"steps: 4, schedule: {{{items}}}")


# id: (text, the lines that it gives, each after "bad.yaml:")
MISTAKES: dict[str, tuple[str | bytes, list[str]]] = {
    # not a sweep at all
    "empty": ("", ["1: the file is empty; `layerwise init` writes one"]),
    "only a comment": ("# later\n", ["1: the file is empty; `layerwise init` writes one"]),
    "binary": (b"\x89PNG\r\n\x1a\n\x00", ["1: this is not a text file (UTF-8)"]),
    "UTF-16": ("name: x\n".encode("utf-16"), ["1: this is not a text file (UTF-8)"]),
    "null bytes": (
        b"name: x\nname: a\x00b\n",
        ["2: this is not YAML: special characters are not allowed"],
    ),
    "a list": ("- name: tiny\n", ["1: expected a mapping with keys such as name, dataset"]),
    "a text": ("digits\n", ["1: expected a mapping with keys such as name, dataset"]),
    "large": ("a: " + "x" * 1_000_000, ["1: expected a sweep file, found 1000003 characters"]),
    # YAML that is wrong, or means harm
    "an open list": (
        "name: [a\n",
        [
            "2: this is not YAML: while parsing a flow sequence, expected ',' or ']', "
            "but got '<stream end>'"
        ],
    ),
    "a tab": (
        "name:\n\t- a\n",
        [
            "2: this is not YAML: while scanning for the next token, "
            "found character '\\t' that cannot start any token"
        ],
    ),
    "two documents": (
        VALID + "---\n" + VALID,
        [
            "8: this is not YAML: expected a single document in the stream, "
            "but found another document"
        ],
    ),
    "an unknown alias": ("name: *b\n", ["1: this is not YAML: found undefined alias 'b'"]),
    "an alias in itself": ("name: &a [*a]\n", ["1: name[0]: an alias contains itself"]),
    "a mapping in itself": ("name: &a\n  b: *a\n", ["2: name.b: an alias contains itself"]),
    "billion laughs": (LAUGHS, ["1: aliases expand to more than 20000 values"]),
    "deep": ("name: " + "[" * 40 + "]" * 40, ["1: nested more than 30 deep"]),
    "too deep to parse": (
        "name: " + "[" * 5000 + "]" * 5000,
        ["1: this is not YAML: it is nested too deeply"],
    ),
    "python object": (
        valid_but("name: !!python/object/apply:os.system [exit]"),
        ["1: name: expected a value without the tag !!python/object/apply:os.system"],
    ),
    "python name": (
        valid_but("name: !!python/name:os.system"),
        ["1: name: expected a value without the tag !!python/name:os.system"],
    ),
    "bytes": (
        valid_but("name: !!binary aGk="),
        ["1: name: expected a value without the tag !!binary"],
    ),
    "a set": (
        valid_but("layers: !!set {1, 2}"),
        ["6: layers: expected a value without the tag !!set"],
    ),
    "half a character": (
        valid_but(r'name: "\ud800"'),
        [
            "1: name: cannot read this value: 'utf-8' codec can't encode character '\\ud800' "
            "in position 0: surrogates not allowed"
        ],
    ),
    "a list as key": ("? [a, b]\n: 1\n", ["1: expected a text as key"]),
    "a key twice": (VALID + "name: other\n", ["8: name: the key is given twice"]),
    "a key twice below": (
        recipe("rate: 1, steps: 3, rate: 2"),
        ["7: recipe.rate: the key is given twice"],
    ),
    # keys
    "unknown key": (
        valid_but("layer: [1]"),
        ["8: layer: unknown key 'layer'; did you mean 'layers'?"],
    ),
    "unlike any key": (
        valid_but("zebra: 1"),
        [f"8: zebra: unknown key 'zebra'; known: {TOP_KEYS}"],
    ),
    "merge key": (
        recipe("<<: {steps: 3}"),
        [
            f"7: recipe.<<: unknown key '<<'; known: {RECIPE_KEYS}",
        ],
    ),
    "unknown in recipe": (
        recipe("steps: 3, optimizer: adam"),
        ["7: recipe.optimizer: unknown key 'optimizer'; did you mean 'optimiser'?"],
    ),
    "unlike any in recipe": (
        recipe("steps: 3, zebra: 1"),
        [f"7: recipe.zebra: unknown key 'zebra'; known: {RECIPE_KEYS}"],
    ),
    "unknown in schedule": (
        schedule("famly: cosine"),
        ["7: recipe.schedule.famly: unknown key 'famly'; did you mean 'family'?"],
    ),
    "unknown in splits": (
        valid_but("splits: {randoms: [0]}"),
        ["4: splits.randoms: unknown key 'randoms'; did you mean 'random'?"],
    ),
    "unknown half": (
        named("{x: {A: [0], B: [1], C: [2]}}"),
        ["4: splits.named.x.C: unknown key 'C'; known: A, B"],
    ),
    "unknown in fine_tune": (
        valid_but("fine_tune: {recipes: {}}"),
        ["8: fine_tune.recipes: unknown key 'recipes'; did you mean 'recipe'?"],
    ),
    "unknown in its recipe": (
        valid_but("fine_tune: {recipe: {rat: 1}}"),
        ["8: fine_tune.recipe.rat: unknown key 'rat'; did you mean 'rate'?"],
    ),
    "unknown resource": (
        valid_but("resources: {base: {cpus: 1}}"),
        ["8: resources.base.cpus: unknown key 'cpus'; did you mean 'cpu'?"],
    ),
    "resources of nothing": (
        valid_but("resources: {bases: {cpu: 1}}"),
        [
            f'8: resources.bases: expected one of default, {TREATMENTS}, found "bases"; '
            "did you mean 'base'?"
        ],
    ),
    "name missing": (valid_without("name"), ["1: name: the key is missing"]),
    "splits missing": (valid_without("splits"), [f"1: splits: {NO_SPLITS}"]),
    "recipe missing": (valid_without("recipe"), ["1: recipe: the key is missing"]),
    "half missing": (named("{x: {A: [1]}}"), ["4: splits.named.x.B: the key is missing"]),
    # names
    "path as name": (valid_but("name: ../x"), [f'1: name: {A_NAME}, found "../x"']),
    "empty name": (valid_but("name: ''"), [f'1: name: {A_NAME}, found ""']),
    "name with a newline": (valid_but('name: "a\\n"'), [f'1: name: {A_NAME}, found "a\\n"']),
    "long name": (valid_but("name: " + "x" * 65), [f'1: name: {A_NAME}, found "{"x" * 36}…']),
    "number as name": (valid_but("name: 3"), ["1: name: expected a text, found 3"]),
    "path as split": (named("{../x: {A: [1], B: [2]}}"), [f"4: splits.named.../x: {A_NAME}"]),
    # dataset and network
    "unknown dataset": (
        valid_but("dataset: digit"),
        ["2: dataset: unknown dataset 'digit'; did you mean 'digits'?"],
    ),
    "unknown dataset option": (
        valid_but("dataset: {name: digits, canvass: 12}"),
        ["2: dataset.canvass: unknown key 'canvass'; did you mean 'canvas'?"],
    ),
    "text for a number": (
        valid_but("dataset: {name: digits, canvas: big}"),
        ["2: dataset.canvas: expected a whole number, found 'big'"],
    ),
    "small canvas": (
        valid_but("dataset: {name: digits, canvas: 4}"),
        ["2: dataset.canvas: expected 8 ≤ x ≤ 256"],
    ),
    "too many originals": (
        valid_but("dataset: {name: digits, train: 100}"),
        [
            "2: dataset.train: train + validation + test is 234 images a class; "
            "expected at most 174, the images of the smallest class"
        ],
    ),
    "root of what reads no files": (
        valid_but("dataset: {name: digits, root: /data}"),
        ["2: dataset.root: dataset digits reads no files; expected no root"],
    ),
    "root that is no folder": (
        valid_but("dataset: {name: imagenet, root: 3}"),
        ["2: dataset.root: expected a folder, found 3"],
    ),
    "root that this machine has not": (
        valid_but("dataset: {name: image_folder, root: $NOT_SET/pets}"),
        ["2: dataset: data folder $NOT_SET/pets: the environment variable NOT_SET is not set here"],
    ),
    "download that is no choice": (
        valid_but("dataset: {name: cifar10, download: yes please}"),
        ['2: dataset.download: expected true or false, found "yes please"'],
    ),
    "download of what nobody gives": (
        valid_but("dataset: {name: imagenet, download: true}"),
        [
            "2: dataset.download: imagenet cannot be downloaded; expected one of mnist, "
            "fashion_mnist, cifar10, cifar100"
        ],
    ),
    "folder that is not there": (
        valid_but("dataset: {name: image_folder, root: /nowhere}"),
        [
            "2: dataset: no folder train in /nowhere: expected train/<class>/<image files>, and "
            "val/<class>/… or test/<class>/…; say where they are with dataset.root"
        ],
    ),
    "image size": (
        valid_but("dataset: {name: imagenet, size: 0}"),
        ["2: dataset.size: expected pixels, 1 ≤ x ≤ 4096"],
    ),
    "too many held out": (
        valid_but("dataset: {name: cifar100, held_out: 500}"),
        ["2: dataset.held_out: expected 0 ≤ x < 500, the smallest class"],
    ),
    "infinite noise": (
        valid_but("dataset: {name: digits, noise: .inf}"),
        [f"2: dataset.noise: {AN_OPTION}"],
    ),
    "mapping as option": (
        valid_but("dataset: {name: digits, canvas: {a: 1}}"),
        [f"2: dataset.canvas: {AN_OPTION}"],
    ),
    "dataset without name": (valid_but("dataset: {canvas: 12}"), [f"2: dataset: {A_COMPONENT}"]),
    "list as dataset": (valid_but("dataset: [digits]"), [f"2: dataset: {A_COMPONENT}"]),
    "unknown network": (
        valid_but("network: conv9"),
        ["3: network: unknown network 'conv9'; did you mean 'conv8'?"],
    ),
    "unknown torchvision network": (
        valid_but("network: torchvision:resnet8"),
        ["3: network: unknown torchvision network 'resnet8'; did you mean 'torchvision:resnet18'?"],
    ),
    "unknown torchvision option": (
        valid_but("network: {name: torchvision:alexnet, drop: 1}"),
        ["3: network.drop: unknown key 'drop'; did you mean 'dropout'?"],
    ),
    "unknown network option": (
        valid_but("network: {name: conv8, pools: [1]}"),
        ["3: network.pools: unknown key 'pools'; did you mean 'pool'?"],
    ),
    "number for a list": (
        valid_but("network: {name: conv8, conv: 8}"),
        ["3: network.conv: expected a list of whole numbers, found 8"],
    ),
    "no width": (
        valid_but("network: {name: conv8, conv: [0]}"),
        ["3: network.conv: expected widths, each x ≥ 1"],
    ),
    "too much pooling": (
        valid_but("network: {name: conv8, pool: [1, 2, 3, 4, 5]}"),
        ["3: network.pool: pooling leaves nothing of images 12×12"],
    ),
    # code of one's own
    "no module": (
        valid_but("dataset: no.such:fn"),
        ["2: dataset: cannot import 'no.such': No module named 'no'"],
    ),
    "no function": (
        valid_but("dataset: mistaken:nothing"),
        ["2: dataset: module 'mistaken' has no function 'nothing'"],
    ),
    "not a function": (
        valid_but("dataset: mistaken:value"),
        ["2: dataset: module 'mistaken' has no function 'value'"],
    ),
    "no module's name": (
        valid_but("dataset: ':fn'"),
        ['2: dataset: expected package.module:function, found ":fn"'],
    ),
    "relative module": (
        valid_but("dataset: '..mistaken:fn'"),
        ['2: dataset: expected package.module:function, found "..mistaken:fn"'],
    ),
    "module that does not parse": (
        valid_but("dataset: unparsable:fn"),
        ["2: dataset: unparsable:fn raised SyntaxError: invalid syntax (unparsable.py, line 1)"],
    ),
    "module that raises": (
        valid_but("dataset: dividing:fn"),
        [
            "2: dataset: dividing:fn raised ZeroDivisionError: division by zero "
            "({folder}/dividing.py:2)"
        ],
    ),
    "dataset that raises": (
        valid_but("dataset: mistaken:no_images"),
        [
            "2: dataset: mistaken:no_images raised RuntimeError: no such disk "
            "({folder}/mistaken.py:13)"
        ],
    ),
    "dataset returns a number": (
        valid_but("dataset: mistaken:no_mapping"),
        [
            "2: dataset: dataset mistaken:no_mapping: expected a mapping with 'train', "
            "'validation' and 'test', each a pair (images, labels)"
        ],
    ),
    "texts as labels": (
        valid_but("dataset: mistaken:text_labels"),
        [
            "2: dataset: dataset mistaken:text_labels, train: expected labels as a list of class "
            "indices from 0"
        ],
    ),
    "too few labels": (
        valid_but("dataset: mistaken:too_few_labels"),
        ["2: dataset: dataset mistaken:too_few_labels, train: 4 images and 2 labels"],
    ),
    "one class": (
        valid_but("dataset: mistaken:one_class"),
        ["2: dataset: expected at least two classes"],
    ),
    "no test images": (
        valid_but("dataset: mistaken:untested_class", "recipe: {steps: 1, batch: 1}"),
        ["2: dataset: half B of s0 has no test images"],
    ),
    "network returns a number": (
        valid_but("network: mistaken:seven"),
        ["3: network: network mistaken:seven: expected a list of torch modules, one a layer"],
    ),
    "layer without weights": (
        valid_but("network: mistaken:weightless"),
        [
            "3: network: network mistaken:weightless: layers [2] have no weights; "
            "put them into the same nn.Sequential as the layer that they follow"
        ],
    ),
    "layers that do not fit": (
        valid_but("network: mistaken:misfit"),
        [
            "3: network: network mistaken:misfit does not take images (1, 12, 12): "
            "addmm: mat1 and mat2 shapes cannot be multiplied (2x5 and 6x5)"
        ],
    ),
    "network that raises": (
        valid_but("network: mistaken:raising"),
        [
            "3: network: mistaken:raising raised KeyError: 'depth' ({folder}/mistaken.py:46)",
        ],
    ),
    "one layer": (
        valid_but("network: mistaken:one_layer"),
        ["3: network: network mistaken:one_layer: expected at least two layers, found 1"],
    ),
    "outputs that are no classes": (
        valid_but("network: mistaken:three_outputs"),
        [
            "3: network: network mistaken:three_outputs: the last layer gives (3,) an image; "
            "expected one score for each of 5 classes, (5,)"
        ],
    ),
    "unknown option of one's own": (
        valid_but("network: {name: 'mistaken:wide', widht: 3}"),
        ["3: network.widht: unknown key 'widht'; did you mean 'width'?"],
    ),
    # splits
    "no splits": (
        valid_but("splits: {}"),
        [f"4: splits: {NO_SPLITS}"],
    ),
    "number as splits": (valid_but("splits: 3"), ["4: splits: expected a mapping, found 3"]),
    "number as seeds of splits": (
        valid_but("splits: {random: 3}"),
        ["4: splits.random: expected a list, found 3"],
    ),
    "negative split": (
        valid_but("splits: {random: [-1]}"),
        ["4: splits.random[0]: expected x ≥ 0, found -1"],
    ),
    "large split": (
        valid_but("splits: {random: [4294967296]}"),
        ["4: splits.random[0]: expected x < 4294967296, found 4294967296"],
    ),
    "true as split": (
        valid_but("splits: {random: [true]}"),
        ["4: splits.random[0]: expected a whole number, found true"],
    ),
    "split twice": (valid_but("splits: {random: [0, 0]}"), ["4: splits: two splits are called s0"]),
    "random and named": (
        valid_but("splits: {random: [3], named: {s3: {A: [0], B: [1]}}}"),
        ["4: splits: two splits are called s3"],
    ),
    "split under two names": (
        valid_but("splits: {random: [0], named: {x: {A: [2, 4, 5, 6, 9], B: [0, 1, 3, 7, 8]}}}"),
        ["4: splits: s0 and x are the same halves: intervals would count them twice"],
    ),
    "classes left out": (
        named("{x: {A: [0, 1], B: [2, 3]}}"),
        [
            "4: splits.named.x: the halves do not cover the dataset: "
            "classes [4, 5, 6, 7, 8, 9] are in neither"
        ],
    ),
    "halves overlap": (
        named("{x: {A: [0, 1, 2, 3, 4, 5], B: [5, 6, 7, 8, 9]}}"),
        ["4: splits.named.x: the halves overlap: classes [5] are in A and in B"],
    ),
    "more classes than there are": (
        named("{x: {A: [0, 1, 2, 3, 4], B: [5, 6, 7, 8, 9, 10]}}"),
        ["4: splits.named.x.B: no class 10 in the dataset; expected an index 0..9 or a name"],
    ),
    "unknown class": (
        named("{x: {A: [cat], B: [4]}}"),
        ["4: splits.named.x.A: no class 'cat' in the dataset; expected an index 0..9 or a name"],
    ),
    "class twice": (
        named("{x: {A: [0, 1, 2, 3, 3], B: [4, 5, 6, 7, 8, 9]}}"),
        ["4: splits.named.x.A: a class is named twice"],
    ),
    "empty half": (
        named("{x: {A: [], B: [4]}}"),
        ["4: splits.named.x.A: expected at least one class"],
    ),
    "fraction as class": (
        named("{x: {A: [1.5], B: [2]}}"),
        ["4: splits.named.x.A: expected class indices or names, found 1.5"],
    ),
    # treatments, layers, seeds
    "unknown treatment": (
        valid_but("treatments: [base, tranfer]"),
        [
            f'5: treatments[1]: expected one of {TREATMENTS}, found "tranfer"; '
            "did you mean 'transfer'?"
        ],
    ),
    "text as treatments": (
        valid_but("treatments: base"),
        ['5: treatments: expected a list, found "base"'],
    ),
    "no treatments": (
        valid_but("treatments: []"),
        ["5: treatments: the grid is empty: expected at least one"],
    ),
    "treatment twice": (
        valid_but("treatments: [base, base]"),
        ["5: treatments: base is given twice"],
    ),
    "transfer without base": (
        valid_but("treatments: [base_long, selffer+, transfer]"),
        [
            "5: treatments[1]: selffer+ copies layers of base: add base",
            "5: treatments[2]: transfer copies layers of base: add base",
        ],
    ),
    "layer 0": (
        valid_but("layers: [0]"),
        [
            "6: layers[0]: layer 0 is out of range: the network has layers 1..8, "
            "of which 1..7 can be copied"
        ],
    ),
    "the last layer": (
        valid_but("layers: [1, 8]"),
        [
            "6: layers[1]: layer 8 is out of range: the network has layers 1..8, "
            "of which 1..7 can be copied"
        ],
    ),
    "falling range": (
        valid_but("layers: 7..1"),
        ['6: layers: expected layers such as 1..7, [1, 3, 5] or all, found "7..1"'],
    ),
    "endless range": (
        valid_but("layers: 1..999999999"),
        ['6: layers: expected layers such as 1..7, [1, 3, 5] or all, found "1..999999999"'],
    ),
    "no layers": (
        valid_but("layers: []"),
        ["6: layers: expected layers such as 1..7, [1, 3, 5] or all, found []"],
    ),
    "true as layer": (
        valid_but("layers: [true]"),
        ["6: layers: expected layers such as 1..7, [1, 3, 5] or all, found [true]"],
    ),
    "layer twice": (valid_but("layers: [1, 1]"), ["6: layers: 1 is given twice"]),
    "no seeds": (valid_but("seeds: []"), ["8: seeds: the grid is empty: expected at least one"]),
    "fraction as seed": (
        valid_but("seeds: [0.5]"),
        ["8: seeds[0]: expected a whole number, found 0.5"],
    ),
    "seed twice": (valid_but("seeds: [1, 1]"), ["8: seeds: 1 is given twice"]),
    # recipes
    "negative rate": (
        recipe("rate: -1, steps: 4"),
        ["7: recipe.rate: expected a learning rate, x > 0"],
    ),
    "rate that is no number": (
        recipe("rate: .nan, steps: 4"),
        ["7: recipe.rate: expected a finite number"],
    ),
    "infinite rate": (recipe("rate: .inf, steps: 4"), ["7: recipe.rate: expected a finite number"]),
    "rate beyond numbers": (
        recipe("rate: 1e999, steps: 4"),
        ["7: recipe.rate: expected a finite number"],
    ),
    "text as rate": (
        recipe("rate: fast, steps: 4"),
        ['7: recipe.rate: expected a number, found "fast"'],
    ),
    "large momentum": (
        recipe("momentum: 1, steps: 4"),
        ["7: recipe.momentum: expected 0 ≤ x < 1"],
    ),
    "negative decay": (
        recipe("weight_decay: -5e-4, steps: 4"),
        ["7: recipe.weight_decay: expected x ≥ 0"],
    ),
    "no batch": (
        recipe("batch: 0, steps: 4"),
        ["7: recipe.batch: expected a number of images, 1 ≤ x ≤ 10⁹"],
    ),
    "batch larger than a half": (
        recipe("batch: 801, steps: 4"),
        ["7: recipe.batch: expected at most 800, the training images of half A of s0"],
    ),
    "its batch larger than a half": (
        valid_but("fine_tune: {recipe: {batch: 801}}"),
        ["8: fine_tune.recipe.batch: expected at most 800, the training images of half A of s0"],
    ),
    "no crop": (
        recipe("crop: 0, steps: 4"),
        ["7: recipe.crop: expected the side of a square in pixels, x > 0"],
    ),
    "crop larger than the images": (
        recipe("crop: 13, steps: 4"),
        ["7: recipe.crop: expected at most 12: the images are 12×12"],
    ),
    "its crop larger than the images": (
        valid_but("fine_tune: {recipe: {crop: 13}}"),
        ["8: fine_tune.recipe.crop: expected at most 12: the images are 12×12"],
    ),
    "its crop of another size": (
        valid_but("fine_tune: {recipe: {crop: 8}}"),
        [
            "8: fine_tune.recipe.crop: the network has other weights for this size of images; "
            "expected one size"
        ],
    ),
    "mirror in words": (
        recipe("mirror: often, steps: 4"),
        ['7: recipe.mirror: expected true or false, found "often"'],
    ),
    "unknown rule for pixels": (
        recipe("pixels: mean, steps: 4"),
        ['7: recipe.pixels: expected one of standard, mean_image, found "mean"'],
    ),
    "steps and epochs": (
        recipe("steps: 4, epochs: 1"),
        ["7: recipe: expected steps or epochs, found both"],
    ),
    "neither steps nor epochs": (
        recipe("rate: 1"),
        ["7: recipe: expected steps or epochs, found neither"],
    ),
    "no steps": (recipe("steps: 0"), ["7: recipe.steps: expected 0 < x ≤ 10⁹"]),
    "steps in minutes": (
        recipe("steps: 1:30"),
        ['7: recipe.steps: expected a whole number, found "1:30"'],
    ),
    "unknown optimiser": (
        recipe("steps: 3, optimiser: adamv"),
        [
            '7: recipe.optimiser: expected one of sgd, caffe_sgd, adam, adamw, found "adamv"; '
            "did you mean 'adam'?"
        ],
    ),
    "mistake inherited by fine_tune": (
        valid_but("recipe: {rate: -1, steps: 3}", "fine_tune: {recipe: {momentum: 0.5}}"),
        ["7: recipe.rate: expected a learning rate, x > 0"],
    ),
    "list as recipe of fine_tune": (
        valid_but("fine_tune: {recipe: [1]}"),
        ["8: fine_tune.recipe: expected a mapping, found [1]"],
    ),
    # schedules
    "text as schedule": (
        recipe("steps: 4, schedule: cosine"),
        ['7: recipe.schedule: expected a mapping, found "cosine"'],
    ),
    "step without every": (
        schedule("family: step"),
        ["7: recipe.schedule.every: expected a number of steps, with family 'step' and no other"],
    ),
    "every without step": (
        schedule("family: cosine, every: 3"),
        ["7: recipe.schedule.every: expected a number of steps, with family 'step' and no other"],
    ),
    "multi_step without milestones": (
        schedule("family: multi_step"),
        [
            "7: recipe.schedule.milestones: expected a list of fractions, "
            "with family 'multi_step' and no other"
        ],
    ),
    "falling milestones": (
        schedule("family: multi_step, milestones: [0.5, 0.2]"),
        [
            "7: recipe.schedule.milestones: expected rising fractions of the training, "
            "each 0 < x < 1"
        ],
    ),
    "endless warm-up": (
        schedule("warmup: 1"),
        ["7: recipe.schedule.warmup: expected a fraction of the training, 0 ≤ x < 1"],
    ),
    # the rest
    "no cpu": (
        valid_but("resources: {base: {cpu: 0}}"),
        ["8: resources.base.cpu: expected x > 0, found 0"],
    ),
    "infinite cpu": (
        valid_but("resources: {base: {cpu: .inf}}"),
        ["8: resources.base.cpu: expected a finite number, found .inf"],
    ),
    "one and a half GPUs": (
        valid_but("resources: {default: {gpu: 1.5}}"),
        ["8: resources.default.gpu: expected a fraction of one GPU or a whole number, found 1.5"],
    ),
    "a kind of GPU without one": (
        valid_but("resources: {default: {accelerator: A100}}"),
        ["8: resources.default.accelerator: needs gpu: it says which kind of GPU"],
    ),
    "no kind of GPU": (
        valid_but("resources: {default: {gpu: 1, accelerator: an A100}}"),
        [
            "8: resources.default.accelerator: expected a kind of GPU as Ray calls it, such as "
            "A100, found 'an A100'"
        ],
    ),
    "keep some": (
        valid_but("keep: some"),
        ['8: keep: expected one of bases, all, none, found "some"'],
    ),
    "keep yes": (valid_but("keep: yes"), ["8: keep: expected one of bases, all, none, found true"]),
    "no time between snapshots": (
        valid_but("checkpoint_seconds: 0"),
        ["8: checkpoint_seconds: expected x > 0, found 0"],
    ),
    "many": (
        "nam: x\ndataset: {name: 3}\nsplits: {random: [a]}\nrecipe: {rate: x, stepps: 3}\n",
        [
            '3: splits.random[0]: expected a whole number, found "a"',
            '4: recipe.rate: expected a number, found "x"',
            "4: recipe.stepps: unknown key 'stepps'; did you mean 'steps'?",
            "1: name: the key is missing",
            f"2: dataset: {A_COMPONENT}",
            "1: nam: unknown key 'nam'; did you mean 'name'?",
        ],
    ),
}


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, from which modules are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    forget_own_code()
    return tmp_path


def forget_own_code() -> None:
    """As a new process would start: nothing imported, nothing loaded."""
    for name in ("mistaken", "unparsable", "dividing", "garden", "garden.data", "garden.nets"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    linecache.clearcache()
    datasets._load.cache_clear()


def mistakes(name: str, *changes: str) -> list[str]:
    """What `load` and `examine` say of a sweep."""
    with pytest.raises(SweepError) as found:
        experiment.examine(*sweep_file.load(name, changes))
    return found.value.mistakes


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(case: str, folder: Path) -> None:
    text, expected = MISTAKES[case]
    Path("mistaken.py").write_text(OWN_CODE)
    Path("unparsable.py").write_text("def fn(:\n")
    Path("dividing.py").write_text("one = 1\none / 0\n")
    Path("bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert mistakes("bad.yaml") == [
        f"bad.yaml:{line}".replace("{folder}", str(folder)) for line in expected
    ]


def test_the_command_line_prints_mistakes_and_exits_with_2(
    folder: Path, layerwise: Callable
) -> None:
    Path("one.yaml").write_text(valid_but("layer: 1"))
    Path("two.yaml").write_text(valid_but("seeds: []", "layers: [1, 1]"))
    for command in (["plan"], ["run", "--inline"], ["status"], ["check"]):
        code, out, err = layerwise(*command, "one.yaml")
        assert (code, out) == (2, "")
        assert err == "one.yaml:8: layer: unknown key 'layer'; did you mean 'layers'?\n"
    assert layerwise("plan", "two.yaml") == (
        2,
        "",
        "two.yaml:8: seeds: the grid is empty: expected at least one\n"
        "two.yaml:6: layers: 1 is given twice\n",
    )
    assert not (folder / "results").exists()


BUNDLED = (
    "balanced, cifar100, digits, digits_search, natural_manmade, paper, reduced, template, unequal"
)
A_SWEEP = "expected a YAML file or a bundled sweep"
NOT_SWEEPS = {
    "missing.yaml": "missing.yaml: cannot read the sweep file: No such file or directory",
    "folder": "folder: cannot read the sweep file: Is a directory",
    "folder.yaml": "folder.yaml: cannot read the sweep file: Is a directory",
    "": ".: cannot read the sweep file: Is a directory",
    "digts": f"no sweep 'digts': {A_SWEEP}; did you mean 'digits'?",
    "zebra": f"no sweep 'zebra': {A_SWEEP}; bundled sweeps: {BUNDLED}",
    "../up": f"no sweep '../up': {A_SWEEP}; bundled sweeps: {BUNDLED}",
    "x" * 300: "x" * 300 + ": cannot read the sweep file: File name too long",
}


@pytest.mark.parametrize("name", NOT_SWEEPS)
def test_what_is_not_a_sweep(name: str) -> None:
    Path("folder").mkdir()
    Path("folder.yaml").mkdir()
    assert mistakes(name) == [NOT_SWEEPS[name]]


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert mistakes("secret.yaml") == ["secret.yaml: cannot read the sweep file: Permission denied"]


WRONG_CHANGES = {
    "recipe": "--set recipe: expected key=value, such as recipe.steps=100",
    "=3": "--set =3: expected key=value, such as recipe.steps=100",
    "recipe.=3": "--set recipe.=3: expected key=value, such as recipe.steps=100",
    "recipe.stps=3": "--set recipe.stps: unknown key 'stps'; did you mean 'steps'?",
    "recipe.steps=many": '--set recipe.steps: expected a whole number, found "many"',
    "recipe.steps=": "valid.yaml:7: recipe: expected steps or epochs, found neither",
    "recipe.steps.x=3": "--set recipe.steps.x=3: steps is not a mapping",
    "recipe.rate=-1": "--set recipe.rate: expected a learning rate, x > 0",
    "recipe={rate: -1, steps: 3}": "--set recipe: recipe.rate: expected a learning rate, x > 0",
    "splits.random=[3, -1]": "--set splits.random: splits.random[1]: expected x ≥ 0, found -1",
    "layers=9": "--set layers: layer 9 is out of range: the network has layers 1..8, "
    "of which 1..7 can be copied",
    "layers=[1": "--set layers:1: this is not YAML: while parsing a flow sequence, "
    "expected ',' or ']', but got '<stream end>'",
    "name=../x": f'--set name: {A_NAME}, found "../x"',
    "network=conv9": "--set network: unknown network 'conv9'; did you mean 'conv8'?",
    "dataset.canvas=4": "--set dataset.canvas: expected 8 ≤ x ≤ 256",
}


@pytest.mark.parametrize("change", WRONG_CHANGES)
def test_a_mistake_in_set(change: str) -> None:
    Path("valid.yaml").write_text(VALID)
    assert mistakes("valid.yaml", change) == [WRONG_CHANGES[change]]


# Valid sweeps ---------------------------------------------------------------------------------


def valid(text: str, *changes: str) -> spec.Sweep:
    Path("valid.yaml").write_text(text)
    sweep, source = sweep_file.load("valid.yaml", changes)
    experiment.examine(sweep, source)
    return sweep


def test_bundled_sweeps() -> None:
    assert ", ".join(sweep_file.bundled()) == BUNDLED
    names = ("digits", "digits_search", "template")
    digits, searched, template = (sweep_file.load(name)[0] for name in names)
    assert (digits.name, template.name) == ("digits", "my-sweep")
    assert searched.fine_tune.search is not None
    assert (searched.dataset, searched.network) == (digits.dataset, digits.network)
    assert digits.treatments == template.treatments == spec.ALL_TREATMENTS
    assert digits.layers == (1, 2, 3, 4, 5, 6, 7)
    assert template.layers == (1, 3, 5, 7)
    assert digits.splits.random == (0, 1, 2, 3)
    assert digits.recipe == template.recipe
    assert digits.recipe.weight_decay == 0.0005
    assert digits.recipe.schedule == Schedule(family="cosine", warmup=0.1)


def test_the_template_shows_the_defaults() -> None:
    """Commented keys say what holds without them."""
    text, _ = sweep_file.read("template")
    commented = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    keys = {line.partition(":")[0] for line in commented if ":" in line}
    assert {"seeds", "treatments", "network", "fine_tune", "resources", "keep"} <= keys
    assert "seeds: [0]                    # each repeats the whole grid" in commented
    sweep, _ = sweep_file.load("template")
    assert (sweep.seeds, sweep.keep, sweep.checkpoint_seconds) == ((0,), "bases", 60.0)
    assert sweep.network.name == "conv8"


def test_a_folder_does_not_hide_a_bundled_sweep() -> None:
    Path("digits").mkdir()
    assert sweep_file.load("digits")[0].name == "digits"


@pytest.mark.parametrize(
    ("written", "layers"),
    [
        ("all", ()),
        ("3", (3,)),
        ("1..3", (1, 2, 3)),
        ("2..2", (2,)),
        ("[5, 1]", (5, 1)),
    ],
)
def test_layers(written: str, layers: tuple[int, ...]) -> None:
    assert valid(valid_but(f"layers: {written}")).layers == layers
    assert valid(VALID, f"layers={written}").layers == layers


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5e-4", 0.0005),
        ("5E-4", 0.0005),
        (".5", 0.5),
        ("1.", 1.0),
        ("0.5", 0.5),
        ("1", 1),
        ("1e0", 1.0),
    ],
)
def test_numbers(written: str, value: float) -> None:
    assert valid(recipe(f"steps: 4, weight_decay: {written}")).recipe.weight_decay == value


def test_texts_that_look_like_something_else() -> None:
    assert valid(valid_but("name: 2026-01-02")).name == "2026-01-02"
    assert valid("\ufeff" + VALID).name == "tiny"


def test_changes_on_the_command_line() -> None:
    sweep = valid(
        VALID,
        "recipe.steps=7",
        "recipe.schedule.family=cosine",
        "splits.random=[3, 4]",
        "dataset.canvas=14",
        "network.fc=[8]",
        "layers=1..2",
        "name=other=x".replace("=x", "-x"),
    )
    assert sweep.recipe.steps == 7
    assert sweep.recipe.rate == 0.03
    assert sweep.recipe.schedule.family == "cosine"
    assert sweep.splits.random == (3, 4)
    assert sweep.dataset == spec.Data(name="digits", options={"canvas": 14})
    assert sweep.network == spec.Component(name="conv8", options={"fc": [8]})
    assert (sweep.layers, sweep.name) == ((1, 2), "other-x")


def test_options_of_the_default_network() -> None:
    expected = spec.Component(name="conv8", options={"pool": [1]})
    assert valid(valid_but("network: {pool: [1]}")).network == expected
    assert valid(valid_without("network"), "network.pool=[1]").network == expected


def test_steps_for_epochs_on_the_command_line() -> None:
    sweep = valid(VALID, "recipe.steps=", "recipe.epochs=0.5")
    assert (sweep.recipe.steps, sweep.recipe.epochs) == (None, 0.5)


def test_the_recipe_of_fine_tuned_trials_inherits() -> None:
    sweep = valid(valid_but("fine_tune: {recipe: {rate: 0.001, momentum: 0.5}}"))
    tuned = sweep.fine_tune.recipe
    assert tuned is not None
    assert (tuned.rate, tuned.momentum, tuned.steps) == (0.001, 0.5, 4)
    assert (sweep.recipe.rate, sweep.recipe.momentum) == (0.03, 0.9)
    longer = valid(valid_but("fine_tune: {recipe: {epochs: 2}}")).fine_tune.recipe
    assert longer is not None
    assert (longer.rate, longer.steps, longer.epochs) == (0.03, None, 2)


def test_requests_by_treatment() -> None:
    asked = "resources: {default: {cpu: 2}, transfer+: {gpu: 0.5, memory_gb: 4, custom: {fast: 1}}}"
    sweep = valid(valid_but("treatments: [base, transfer, transfer+]", asked))
    transfer = spec.Treatment(kind="transfer", n=1, fine_tuned=True)
    assert sweep.request(spec.Treatment(kind="base")) == spec.Resources(cpu=2)
    assert sweep.request(transfer) == spec.Resources(gpu=0.5, memory_gb=4, custom={"fast": 1})


# Data and networks of one's own ---------------------------------------------------------------

GARDEN = """\
name: garden
dataset: {name: "garden.data:flowers", size: 9}
network: {name: "garden.nets:build", width: 4}
splits: {named: {wild: {A: [daisy, poppy], B: [rose, tulip]}}}
treatments: [base, transfer, transfer+]
layers: [1]
recipe: {rate: 0.1, steps: 3, batch: 4}
"""
FLOWERS = """\
import numpy as np


def flowers(size: int = 8):
    random = np.random.RandomState(0)

    def some(count):
        labels = np.arange(4).repeat(count)
        images = random.randint(0, 256, size=(len(labels), 3, size, size)).astype(np.uint8)
        return images, labels

    return {
        "train": some(4), "validation": some(2), "test": some(3),
        "classes": ["daisy", "poppy", "rose", "tulip"],
    }
"""
BUILD = """\
from torch import nn


def build(*, classes, shape, width: int = 2):
    return [
        nn.Sequential(
            nn.Conv2d(shape[0], width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        nn.Linear(width, classes),
    ]
"""


@pytest.fixture
def garden(folder: Path) -> Path:
    """A package of the user's beside the sweep."""
    package = folder / "garden"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "data.py").write_text(FLOWERS)
    (package / "nets.py").write_text(BUILD)
    return package


def test_own_data_and_network(garden: Path, plan_of: Callable[..., Plan]) -> None:
    planned = plan_of(GARDEN)
    assert [trial.name for trial in planned.members] == [
        "A wild", "B wild", "B1A wild", "B1A+ wild", "A1B wild", "A1B+ wild",
    ]  # fmt: skip
    assert planned.members[0].training.target.classes == (0, 1)
    assert next(iter(planned.networks.values())).macs == (4 * 27 * 49, 8)
    assert experiment.own_modules(planned.sweep) == [str(garden)]
    carried = Run(planned, Store("store"), RunProgress(Console(quiet=True), planned.flops))
    run_inline(carried)
    assert carried.tally() == {"complete": 6, "failed": 0, "lost": 0, "skipped": 0, "missing": 0}
    rows = Store("store").table("trials").to_pylist()
    assert {(row["total"], row["classes"], row["steps"]) for row in rows} == {(6, 2, 3)}
    assert {row["dataset"] for row in rows} == {"garden.data:flowers"}


def test_changed_data_or_code_changes_the_ids(garden: Path, plan_of: Callable[..., Plan]) -> None:
    def ids() -> set[str]:
        forget_own_code()
        return set(plan_of(GARDEN).trials)

    first = ids()
    assert ids() == first
    (garden / "data.py").write_text(FLOWERS.replace("RandomState(0)", "RandomState(1)"))
    other_data = ids()
    (garden / "data.py").write_text(FLOWERS + "# what it does is the same\n")
    other_source = ids()
    (garden / "data.py").write_text(FLOWERS)
    assert ids() == first
    (garden / "nets.py").write_text(BUILD.replace("nn.ReLU()", "nn.Tanh()"))
    other_network = ids()
    assert len(first) == 6
    assert len(first | other_data | other_source | other_network) == 24


@pytest.mark.usefixtures("garden")
def test_options_change_the_ids(plan_of: Callable[..., Plan]) -> None:
    first, other = plan_of(GARDEN), plan_of(GARDEN, "dataset.size=10")
    assert not set(first.trials) & set(other.trials)
    assert (
        next(iter(first.networks.values())).macs[0],
        next(iter(other.networks.values())).macs[0],
    ) == (4 * 27 * 49, 4 * 27 * 64)


IMAGE_FILES = """\
from pathlib import Path


def flowers(size: int = 8):
    files = sorted(Path("{folder}").glob("*.*"))
    both = files, [int(file.name[0]) for file in files]
    return dict.fromkeys(("train", "validation", "test"), both) | {{"classes": "abcd"}}
"""


@pytest.fixture
def images(garden: Path, folder: Path) -> Path:
    """Two images of each of four classes, as PNG and as JPEG."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for label in range(4):
        for name in ("first.png", "second.jpg"):
            Image.new("RGB", (9, 9), (60 * label,) * 3).save(pictures / f"{label}-{name}")
    (garden / "data.py").write_text(IMAGE_FILES.format(folder=pictures))
    return pictures


IN_FILES = GARDEN.replace("[daisy, poppy]", "[a, b]").replace("[rose, tulip]", "[c, d]")


@pytest.mark.usefixtures("images")
def test_images_in_files(plan_of: Callable[..., Plan]) -> None:
    planned = plan_of(IN_FILES)
    dataset = datasets.load(planned.members[0].training.target.dataset)
    assert dataset.train.images.shape == (8, 3, 9, 9)
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    expected = np.repeat([0, 60, 120, 180], 2).astype(np.float32) / np.float32(255)
    assert np.array_equal(dataset.train.images[:, 0, 4, 4], expected)
    carried = Run(planned, Store("store"), RunProgress(Console(quiet=True), planned.flops))
    run_inline(carried)
    assert carried.tally()["complete"] == 6


def test_an_image_file_of_another_size(images: Path) -> None:
    Image.new("RGB", (7, 9)).save(images / "3-third.png")
    Path("files.yaml").write_text(IN_FILES)
    assert mistakes("files.yaml") == [
        f"files.yaml:2: dataset: dataset garden.data:flowers, train: {images}/3-third.png is 7×9, "
        "the images before it 9×9; give images of one size"
    ]


def test_an_image_file_that_is_none(images: Path) -> None:
    (images / "0-first.png").write_text("not an image")
    Path("files.yaml").write_text(IN_FILES)
    [line] = mistakes("files.yaml")
    assert line.startswith(
        "files.yaml:2: dataset: dataset garden.data:flowers, train: cannot read image "
        f"{images}/0-first.png: "
    )


def test_a_network_of_torchvision_is_not_the_users_own(plan_of: Callable[..., Plan]) -> None:
    """Its code does not travel, and its options go to torchvision."""
    options = "patch_size: 4, num_layers: 1, num_heads: 1, hidden_dim: 8, mlp_dim: 8"
    planned = plan_of(valid_but(f'network: {{name: "torchvision:vit_b_16", {options}}}'))
    assert experiment.own_modules(planned.sweep) == []
    assert next(iter(planned.networks.values())).depth == 3
    assert planned.members[0].training.network.fingerprint == ""
