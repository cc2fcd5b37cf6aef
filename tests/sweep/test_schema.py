"""The models of a sweep file: keys and types that they refuse, defaults, documentation."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from orchestrator.sweep.components import Component, Data, Target
from orchestrator.sweep.load import read_sweep
from orchestrator.sweep.schema import FineTune, Grid, Halves, Resources, Splits, Sweep
from orchestrator.sweep.search import Search, Space
from orchestrator.sweep.tasks import NamedTask, Weights
from tests.sweep_files import VALID, assert_mistake, mistakes, valid, valid_but, valid_without
from trainers.config import TaskForm, Treatment
from trainers.recipe import Recipe, Schedule

pytestmark = pytest.mark.usefixtures("folder")

TOP_KEYS = (
    "splits, sources, targets, transfers, form, treatments, layers, images_per_class, seeds, "
    "recipe, fine_tune, axes, name, dataset, tasks, weights, network, target_network, grids, "
    "reference, resources, keep, measure, features, checkpoint_seconds, lanes"
)
RECIPE_KEYS = ", ".join(field.name for field in dataclasses.fields(Recipe))
TREATMENTS = (
    "base, base_long, selffer, selffer+, transfer, transfer+, random, stitched, stitched_self, "
    "pixels"
)
A_NAME = "expected up to 64 letters, digits, _ and -, the first a letter or digit"
LAYERS = "expected layers such as 1..7, [1, 3, 5] or all"
ACCELERATOR = "resources.default.accelerator"

# Lines of a sweep file, and the whole mistake.
EXACT = {
    "layer: [1]": "8: layer: unknown key 'layer'; did you mean 'layers'?",
    "zebra: 1": f"8: zebra: unknown key 'zebra'; known: {TOP_KEYS}",
    "recipe: {steps: 3, zebra: 1}": f"7: recipe.zebra: unknown key 'zebra'; known: {RECIPE_KEYS}",
    "splits: {named: {x: {A: [0], B: [1], C: [2]}}}": (
        "4: splits.named.x.C: unknown key 'C'; known: A, B"
    ),
    "resources: {bases: {cpu: 1}}": (
        f'8: resources.bases: expected one of default, {TREATMENTS}, found "bases"; '
        "did you mean 'base'?"
    ),
    "treatments: [base, tranfer]": (
        f'5: treatments[1]: expected one of {TREATMENTS}, found "tranfer"; '
        "did you mean 'transfer'?"
    ),
    "name: ../x": f'1: name: {A_NAME}, found "../x"',
    f"name: {'x' * 65}": f'1: name: {A_NAME}, found "{"x" * 36}…',
    "name: 3": "1: name: expected a string, found 3",
    "splits: 3": "4: splits: expected a mapping, found 3",
    "splits: {random: 3}": "4: splits.random: expected a list, found 3",
    "splits: {random: [-1]}": "4: splits.random[0]: expected x ≥ 0, found -1",
    "splits: {random: [true]}": "4: splits.random[0]: expected a whole number, found true",
    "layers: 7..1": f'6: layers: {LAYERS}, found "7..1"',
    "recipe: {rate: fast, steps: 4}": '7: recipe.rate: expected a number, found "fast"',
    "recipe: {mirror: often, steps: 4}": (
        '7: recipe.mirror: expected true or false, found "often"'
    ),
    "recipe: {pixels: mean, steps: 4}": (
        '7: recipe.pixels: expected one of standard, mean_image, found "mean"'
    ),
    "resources: {base: {cpu: 0}}": "8: resources.base.cpu: expected x > 0, found 0",
    "resources: {base: {cpu: .inf}}": (
        "8: resources.base.cpu: expected a finite number, found .inf"
    ),
    "resources: {default: {gpu: 1.5}}": (
        "8: resources.default.gpu: expected a fraction of one GPU or a whole number, found 1.5"
    ),
    "resources: {default: {accelerator: A100}}": (
        f"8: {ACCELERATOR}: needs gpu: it says which kind of GPU"
    ),
    "keep: yes": "8: keep: expected one of bases, all, none, found true",
}
# Lines of a sweep file, line number and key, part of the reason.
CASES = [
    # keys
    ("recipe: {<<: {steps: 3}}", "7: recipe.<<", "unknown key '<<'; known: "),
    ("recipe: {steps: 3, optimizer: adam}", "7: recipe.optimizer", "'optimiser'?"),
    ("recipe: {steps: 4, schedule: {famly: cosine}}", "7: recipe.schedule.famly", "'family'?"),
    ("splits: {randoms: [0]}", "4: splits.randoms", "did you mean 'random'?"),
    ("fine_tune: {recipes: {}}", "8: fine_tune.recipes", "did you mean 'recipe'?"),
    ("fine_tune: {recipe: {rat: 1}}", "8: fine_tune.recipe.rat", "did you mean 'rate'?"),
    ("resources: {base: {cpus: 1}}", "8: resources.base.cpus", "did you mean 'cpu'?"),
    ("splits: {named: {x: {A: [1]}}}", "4: splits.named.x.B", "the key is missing"),
    # names, splits, treatments, layers, seeds
    ("name: ''", "1: name", f'{A_NAME}, found ""'),
    ('name: "a\\n"', "1: name", f'{A_NAME}, found "a\\n"'),
    ("splits: {random: [4294967296]}", "4: splits.random[0]", "x < 4294967296"),
    ("treatments: base", "5: treatments", "expected a list"),
    ("layers: 1..999999999", "6: layers", LAYERS),
    ("layers: []", "6: layers", LAYERS),
    ("layers: [true]", "6: layers", LAYERS),
    ("seeds: [0.5]", "8: seeds[0]", "a whole number, found 0.5"),
    ("recipe: {rate: 1, steps: 4.0}", "7: recipe.steps", "a whole number, found 4.0"),
    # recipes
    ("recipe: {rate: -1, steps: 4}", "7: recipe.rate", "x > 0"),
    ("recipe: {rate: .nan, steps: 4}", "7: recipe.rate", "finite number"),
    ("recipe: {rate: .inf, steps: 4}", "7: recipe.rate", "finite number"),
    ("recipe: {rate: 1e999, steps: 4}", "7: recipe.rate", "finite number"),
    ("recipe: {momentum: 1, steps: 4}", "7: recipe.momentum", "0 ≤ x < 1"),
    ("recipe: {weight_decay: -5e-4, steps: 4}", "7: recipe.weight_decay", "x ≥ 0"),
    ("recipe: {batch: 0, steps: 4}", "7: recipe.batch", "1 ≤ x ≤ 10⁹"),
    ("recipe: {crop: 0, steps: 4}", "7: recipe.crop", "x > 0"),
    ("recipe: {steps: 0}", "7: recipe.steps", "0 < x ≤ 10⁹"),
    ("recipe: {steps: 1:30}", "7: recipe.steps", 'a whole number, found "1:30"'),
    ("recipe: {steps: 3, optimiser: adamv}", "7: recipe.optimiser", "did you mean 'adam'?"),
    ("fine_tune: {recipe: [1]}", "8: fine_tune.recipe", "expected a mapping, found [1]"),
    # schedules
    ("recipe: {steps: 4, schedule: cosine}", "7: recipe.schedule", "expected a mapping"),
    ("recipe: {steps: 4, schedule: {family: step}}", "7: recipe.schedule.every", "'step'"),
    (
        "recipe: {steps: 4, schedule: {family: cosine, every: 3}}",
        "7: recipe.schedule.every",
        "with family 'step'",
    ),
    (
        "recipe: {steps: 4, schedule: {family: multi_step}}",
        "7: recipe.schedule.milestones",
        "with family 'multi_step'",
    ),
    (
        "recipe: {steps: 4, schedule: {family: multi_step, milestones: [0.5, 0.2]}}",
        "7: recipe.schedule.milestones",
        "rising fractions",
    ),
    ("recipe: {steps: 4, schedule: {warmup: 1}}", "7: recipe.schedule.warmup", "0 ≤ x < 1"),
    # the rest
    ("resources: {default: {gpu: 1, accelerator: an A100}}", f"8: {ACCELERATOR}", "'an A100'"),
    ("keep: some", "8: keep", 'bases, all, none, found "some"'),
    ("checkpoint_seconds: 0", "8: checkpoint_seconds", "expected x > 0"),
    ("lanes: 0", "8: lanes", "expected auto, or x ≥ 1, found 0"),
    ("lanes: all", "8: lanes", 'expected auto, or x ≥ 1, found "all"'),
]


@pytest.mark.parametrize("lines", EXACT)
def test_a_mistake_is_one_line(lines: str) -> None:
    assert mistakes(valid_but(lines)) == [f"bad.yaml:{EXACT[lines]}"]


@pytest.mark.parametrize(("lines", "place", "reason"), CASES)
def test_a_mistake_names_line_and_key(lines: str, place: str, reason: str) -> None:
    assert_mistake(mistakes(valid_but(lines)), f"bad.yaml:{place}", reason)


@pytest.mark.parametrize("key", ["name", "recipe"])
def test_a_missing_key(key: str) -> None:
    assert mistakes(valid_without(key)) == [f"bad.yaml:1: {key}: the key is missing"]


# Valid sweeps -----------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("written", "value"), [("5e-4", 0.0005), ("1", 1)])
def test_numbers(written: str, value: float) -> None:
    sweep = valid(valid_but(f"recipe: {{steps: 4, weight_decay: {written}}}"))
    assert sweep.recipe.weight_decay == value


def test_a_name_that_looks_like_a_date() -> None:
    assert valid(valid_but("name: 2026-01-02")).name == "2026-01-02"


def test_requests_by_treatment() -> None:
    requests = (
        "resources: {default: {cpu: 2}, transfer+: {gpu: 0.5, memory_gb: 4, custom: {fast: 1}}}"
    )
    sweep = valid(valid_but(f"treatments: [base, transfer, transfer+]\n{requests}"))
    transfer = Treatment(kind="transfer", n=1, fine_tuned=True)
    assert sweep.request(Treatment(kind="base")) == Resources(cpu=2)
    assert sweep.request(transfer) == Resources(gpu=0.5, memory_gb=4, custom={"fast": 1})


# Documentation ----------------------------------------------------------------------------------

KEYS = (Sweep, NamedTask, Weights, Splits, FineTune, Resources, Search, Space)


def test_the_template_explains_every_key() -> None:
    text, _ = read_sweep("template")
    keys = [name for model in KEYS for name in model.model_fields]
    parts = (Recipe, Schedule, TaskForm)
    keys += [field.name for cls in parts for field in dataclasses.fields(cls)]
    keys += ["root", "download", "replaced", "widened"]
    assert [key for key in keys if not re.search(rf"\b{key}\b", text)] == []


MODELS = (
    Sweep,
    Grid,
    NamedTask,
    Splits,
    Halves,
    FineTune,
    Resources,
    Component,
    Data,
    Target,
    Search,
    Space,
)
FIELDS = [
    pytest.param(model, name, id=f"{model.__name__}.{name}")
    for model in MODELS
    for name in model.model_fields
]
LETTERS = {"A", "B"}


def choices(annotation: Any) -> set[str]:
    """The strings of every `Literal` in a type."""
    if isinstance(annotation, str):
        return {annotation}
    return set().union(*map(choices, get_args(annotation)))


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_every_field_is_documented(model: type[BaseModel], name: str) -> None:
    field = model.model_fields[name]
    assert field.description
    assert field.description.rstrip().endswith(".")
    if name != "resources":  # its keys are documented as treatments
        members = choices(field.annotation) - LETTERS
        assert all(f"`{member}`" in field.description for member in members)
