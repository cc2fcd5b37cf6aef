"""Loading a sweep by name or path: bundled sweeps, unreadable files, several mistakes at once."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import SweepError
from orchestrator.sweep.components import Component, Data
from orchestrator.sweep.load import bundled_sweeps, load_recorded, load_sweep, read_sweep
from orchestrator.sweep.schema import DEFAULT_TREATMENTS
from tests.sweep_files import VALID, mistakes, mistakes_of, valid, valid_but, valid_without
from trainers.recipe import Schedule

pytestmark = pytest.mark.usefixtures("folder")

BUNDLED = (
    "across, across_stacked, balanced, cifar100, detection, digits, digits_search, "
    "extraction_vs_finetuning, measured, natural_manmade, paper, reduced, stitching, template, "
    "unequal, which_layers"
)
A_SWEEP = "expected a YAML file or a bundled sweep"
NO_TEXT = "bad.yaml:1: the file is not UTF-8"
NO_MAPPING = "bad.yaml:1: expected a mapping with keys such as name, dataset"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"\x89PNG\r\n\x1a\n\x00", NO_TEXT),
        ("name: x\n".encode("utf-16"), NO_TEXT),
        ("- name: tiny\n", NO_MAPPING),
        ("digits\n", NO_MAPPING),
    ],
)
def test_a_file_that_is_no_sweep(text: str | bytes, line: str) -> None:
    assert mistakes(text) == [line]


def test_every_mistake_has_its_line() -> None:
    text = "nam: x\ndataset: {name: 3}\nsplits: {random: [a]}\nrecipe: {rate: x, stepps: 3}\n"
    assert mistakes(text) == [
        'bad.yaml:3: splits.random[0]: expected a whole number, found "a"',
        'bad.yaml:4: recipe.rate: expected a number, found "x"',
        "bad.yaml:4: recipe.stepps: unknown key 'stepps'; did you mean 'steps'?",
        "bad.yaml:1: name: the key is missing",
        "bad.yaml:2: dataset: expected a name, package.module:function, or a mapping with a name",
        "bad.yaml:1: nam: unknown key 'nam'; did you mean 'name'?",
    ]


def test_the_command_line_prints_mistakes_and_exits_with_2(
    folder: Path, layerwise: Callable
) -> None:
    Path("one.yaml").write_text(valid_but("layer: 1"))
    Path("two.yaml").write_text(valid_but("seeds: []\nlayers: [1, 1]"))
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


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("missing.yaml", "missing.yaml: cannot read the sweep file: No such file or directory"),
        ("folder", "folder: cannot read the sweep file: Is a directory"),
        ("folder.yaml", "folder.yaml: cannot read the sweep file: Is a directory"),
        ("", ".: cannot read the sweep file: Is a directory"),
        ("digts", f"no sweep 'digts': {A_SWEEP}; did you mean 'digits'?"),
        ("zebra", f"no sweep 'zebra': {A_SWEEP}; bundled sweeps: {BUNDLED}"),
        ("../up", f"no sweep '../up': {A_SWEEP}; bundled sweeps: {BUNDLED}"),
        ("x" * 300, f"{'x' * 300}: cannot read the sweep file: File name too long"),
    ],
)
def test_a_name_that_is_no_sweep(name: str, line: str) -> None:
    Path("folder").mkdir()
    Path("folder.yaml").mkdir()
    assert mistakes_of(name) == [line]


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert mistakes_of("secret.yaml") == [
        "secret.yaml: cannot read the sweep file: Permission denied"
    ]


def test_bundled_sweeps() -> None:
    assert ", ".join(bundled_sweeps()) == BUNDLED
    names = ("digits", "digits_search", "template")
    digits, searched, template = (load_sweep(name)[0] for name in names)
    assert (digits.name, template.name) == ("digits", "my-sweep")
    assert searched.fine_tune.search is not None
    assert (searched.dataset, searched.network) == (digits.dataset, digits.network)
    assert digits.treatments == template.treatments == DEFAULT_TREATMENTS
    assert digits.layers == (1, 2, 3, 4, 5, 6, 7)
    assert template.layers == (1, 3, 5, 7)
    assert digits.splits.random == (0, 1, 2, 3)
    assert digits.recipe == template.recipe
    assert digits.recipe.weight_decay == 0.0005
    assert digits.recipe.schedule == Schedule(family="cosine", warmup=0.1)


def test_the_template_shows_the_defaults() -> None:
    """Keys that are commented out show their defaults."""
    text, _ = read_sweep("template")
    commented = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    keys = {line.partition(":")[0] for line in commented if ":" in line}
    assert {"seeds", "treatments", "network", "fine_tune", "resources", "keep"} <= keys
    assert any(line.startswith("seeds: [0]   ") for line in commented)
    sweep, _ = load_sweep("template")
    assert (sweep.seeds, sweep.keep, sweep.checkpoint_seconds) == ((0,), "bases", 60.0)
    assert sweep.network.name == "conv8"


def test_a_folder_does_not_hide_a_bundled_sweep() -> None:
    Path("digits").mkdir()
    assert load_sweep("digits")[0].name == "digits"


def test_a_file_with_a_byte_order_mark() -> None:
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
        "name=other-x",
    )
    assert sweep.recipe.steps == 7
    assert sweep.recipe.rate == 0.03
    assert sweep.recipe.schedule.family == "cosine"
    assert sweep.splits.random == (3, 4)
    assert sweep.dataset == Data(name="digits", options={"canvas": 14})
    assert sweep.network == Component(name="conv8", options={"fc": [8]})
    assert (sweep.layers, sweep.name) == ((1, 2), "other-x")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("grids={x: 3}", "--set grids: grids.x: expected a mapping, found 3"),
        ("resources={default: {cpu: 0.00001}}", "cpu: expected CPU cores from 0.0001, Ray's unit"),
        ("resources={default: {cpu: 1.0e+30}}", "cpu: expected CPU cores from 0.0001, Ray's unit"),
        ("resources={default: {memory_gb: 1.0e+308}}", "memory_gb: expected x ≤ 1e+06, found 1e+"),
    ],
)
def test_a_change_that_cannot_be_has_one_line(change: str, line: str) -> None:
    with pytest.raises(SweepError) as error:
        valid(VALID, change)
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_steps_for_epochs_on_the_command_line() -> None:
    sweep = valid(VALID, "recipe.steps=", "recipe.epochs=0.5")
    assert (sweep.recipe.steps, sweep.recipe.epochs) == (None, 0.5)


def test_options_of_the_default_network() -> None:
    expected = Component(name="conv8", options={"pool": [1]})
    assert valid(valid_but("network: {pool: [1]}")).network == expected
    assert valid(valid_without("network"), "network.pool=[1]").network == expected


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        (["recipe.steps=100"], "tiny+recipe.steps=100"),
        (["seeds=[0, 1]", "recipe.rate=5e-4"], "tiny+recipe.rate=0.0005+seeds=0,1"),
        (["recipe.steps=9", "recipe.steps=100"], "tiny+recipe.steps=100"),
        (["dataset.root=/data", "keep=all", "resources.default.cpu=2"], "tiny"),
        (["checkpoint_seconds=5", "reference=paper", "recipe.steps=100"], "tiny+recipe.steps=100"),
        (["recipe.steps=4", "seeds=[0]"], "tiny"),  # as the file and the defaults say
        (["name=mine", "recipe.steps=100"], "mine"),
        (["splits.named={x: {A: [0], B: [é']}}"], None),
        ([f"splits.random={list(range(60))}"], None),
    ],
)
def test_the_name_of_a_changed_sweep_says_what_was_changed(
    changes: list[str], name: str | None
) -> None:
    Path("valid.yaml").write_text(VALID)
    loaded = [load_sweep("valid.yaml", x)[0].name for x in (changes, changes[::-1])]
    if name is None:  # made safe and short, with a hash
        [safe] = set(loaded)
        assert re.fullmatch(r"tiny\+[A-Za-z0-9_.,+=-]{1,110}-[0-9a-f]{8}", safe)
        assert len(safe) <= 120
    else:
        assert loaded[0] == name
    sweep, source = load_sweep("valid.yaml", changes)
    assert load_recorded("x", source.record())[0] == sweep


def test_the_words_that_name_a_sweep_in_other_commands() -> None:
    """They are part of messages that a user copies into a shell."""
    changes = ["recipe.steps=4", "layers=[1, 2]"]
    source = load_sweep("digits", changes)[1]
    assert source.command == "digits --set recipe.steps=4 --set 'layers=[1, 2]'"
    assert load_recorded("mine", source.record())[1].command == "mine"
    assert load_sweep("digits")[1].command == "digits"
